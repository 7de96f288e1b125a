//! Sets of texts to be equal to: a clause's values, the keys of targets and segments.
// HOT: no allocation.

use crate::model::imprint::Imprint;
use foldhash::fast::FixedState;
use std::collections::HashSet;

/// Up to so many texts, comparing with each is faster than hashing.
const FEW: usize = 8;

/// A set of texts.
#[derive(Debug)]
pub(crate) enum KeySet {
    Few(Box<[(Imprint, Box<str>)]>),
    /// The hash is a fast one with a fixed seed: who evaluates cannot choose what is in the set.
    Many(HashSet<Box<str>, FixedState>),
}

impl<'a> FromIterator<&'a str> for KeySet {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let set: HashSet<Box<str>, FixedState> = texts.into_iter().map(Box::from).collect();
        if set.len() > FEW {
            return Self::Many(set);
        }
        Self::Few(set.into_iter().map(|text| (Imprint::new(&text), text)).collect())
    }
}

impl KeySet {
    #[inline]
    pub(crate) fn contains(&self, text: &str) -> bool {
        match self {
            Self::Few(texts) => {
                let imprint = Imprint::new(text);
                let is_text = |each: &str| imprint.is_exact() || *each == *text;
                texts.iter().any(|(other, each)| *other == imprint && is_text(each))
            }
            Self::Many(texts) => texts.contains(text),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(texts) if texts.is_empty())
    }
}
