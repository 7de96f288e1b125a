//! Keys: the names by which people and SDKs refer to things.
//!
//! Each kind of key is its own type, so that a flag's key and an environment's key never meet in one signature.
//! All follow one pattern, `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, which needs no escaping in a URL.

use crate::model::limit::KEY_CHARS_MAX;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;

/// Why a text is not a key.
pub const KEY_RULE: &str =
    "must be 1 to 128 characters of A-Z a-z 0-9 . _ - and start with a letter or digit";

/// Whether `text` follows the pattern of a key.
pub fn is_key(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let all_allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    starts_well && all_allowed && text.len() <= KEY_CHARS_MAX
}

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone: clones share one allocation.
        #[derive(
            Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the key, or `None` if `text` does not follow the pattern of keys.
            pub fn parse(text: &str) -> Option<Self> {
                is_key(text).then(|| Self(Arc::from(text)))
            }

            /// Takes a key that this server wrote itself, without looking at it.
            pub fn stored(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The key as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

key_type!(
    /// The key of a project, unique in the installation.
    ProjectKey
);
key_type!(
    /// The key of an environment, unique in its project.
    EnvKey
);
key_type!(
    /// The key of a flag, unique in its project and never given to another flag.
    FlagKey
);
key_type!(
    /// The key of a segment, unique in its environment.
    SegmentKey
);
key_type!(
    /// The key of a variation, unique in its flag; OFREP calls it `variant`.
    VariationKey
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_pattern() {
        for good in ["a", "A1", "checkout-v2", "x.y_z", &"k".repeat(128)] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "ä", "a\0", &"k".repeat(129)] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
