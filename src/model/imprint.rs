//! Imprints: texts in one word, so that most are told apart without being compared.
//!
//! Short texts, which most names and values are, are equal if and only if their imprints are. What is searched by imprints is
//! in `context` and, for sets, in `eval`.
// HOT: no allocation.

/// Texts of up to so many bytes are in their imprint as a whole.
const WHOLE_BYTES: usize = 7;
/// The lowest byte of the imprint of a longer text; otherwise it is the length.
const LONG: u64 = 0xFF;

/// A text in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Imprint(u64);

impl Imprint {
    /// Reads the first and the last bytes of `text`.
    #[inline]
    pub(crate) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
            // Different texts can have one imprint; who searches compares them.
            return Self(((first ^ last.rotate_left(24)) << 8) | LONG);
        }
        let mut packed = 0;
        for byte in bytes {
            packed = (packed << 8) | u64::from(*byte);
        }
        // OK because there are at most seven bytes.
        Self((packed << 8) | bytes.len() as u64)
    }

    /// Whether all texts with this imprint are equal.
    #[inline]
    pub(crate) fn is_exact(self) -> bool {
        self.0 & LONG <= WHOLE_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equal_texts_have_equal_imprints(text in ".{0,20}") {
            prop_assert_eq!(Imprint::new(&text), Imprint::new(&text.clone()));
            prop_assert_eq!(Imprint::new(&text).is_exact(), text.len() <= WHOLE_BYTES);
        }

        #[test]
        fn exact_imprints_are_those_of_one_text(left in "[ab\0]{0,7}", right in "[ab\0]{0,9}") {
            prop_assert_eq!(Imprint::new(&left) == Imprint::new(&right), left == right);
        }
    }
}
