//! Names of things in a sentence, of which a sentence has only so many.

use std::fmt::Display;

/// Lists names, at most `n_max` of them, and counts the others: `a, b and 3 more`.
pub fn list_names<T: Display>(names: impl ExactSizeIterator<Item = T>, n_max: usize) -> String {
    let n_more = names.len().saturating_sub(n_max);
    let named: Vec<String> = names.take(n_max).map(|name| name.to_string()).collect();
    let rest = if n_more == 0 { String::new() } else { format!(" and {n_more} more") };
    format!("{}{rest}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::list_names;

    #[test]
    fn names_beyond_the_bound_are_counted() {
        for (n_max, expected) in [(4, "a, b, c"), (3, "a, b, c"), (2, "a, b and 1 more")] {
            assert_eq!(list_names(["a", "b", "c"].iter(), n_max), expected);
        }
    }
}
