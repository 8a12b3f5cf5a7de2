//! A list of texts, and whether one is among them.
//!
//! Each stands beside its beginning, as a number in the order of the texts: what differs there is told apart without a
//! look at the text itself, which lies elsewhere in memory, and short lists are looked through in one go.

use crate::limits::SCANNED_MAX;

/// Sorted texts. Equality is that of their bytes.
#[derive(Debug, Default)]
pub(super) struct Texts(Box<[(u64, Box<str>)]>);

impl Texts {
    pub(super) fn of(texts: &[&str]) -> Self {
        let mut texts: Vec<(u64, Box<str>)> = texts.iter().map(|text| (beginning(text), Box::from(*text))).collect();
        texts.sort_unstable();
        texts.dedup();
        Self(texts.into())
    }

    #[inline]
    pub(super) fn contain(&self, text: &str) -> bool {
        let key = beginning(text);
        let short = self.0.len() <= SCANNED_MAX;
        let from = if short { 0 } else { self.0.partition_point(|(other, _)| *other < key) };
        let mut candidates = self.0.iter().skip(from).take_while(|(other, _)| *other <= key);
        candidates.any(|(other, candidate)| *other == key && **candidate == *text)
    }
}

/// The first eight bytes; a shorter text is filled up with zeros.
#[inline]
fn beginning(text: &str) -> u64 {
    text.bytes().chain(std::iter::repeat(0)).take(8).fold(0, |number, byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_list_is_found_and_nothing_else() {
        let some = ["", "\0", "U", "UA", "UA\0", "US", "Ukraine", "Ukraine 1", "Ukraine 2", "ü", "\u{10ffff}"];
        let many: Vec<String> = (0..1000).map(|n| format!("a region with the number {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).chain(some).collect();
        for length in 0..some.len() {
            let (listed, others) = some.split_at(length);
            let texts = Texts::of(listed);
            assert!(listed.iter().all(|text| texts.contain(text)), "{listed:?}");
            assert!(!others.iter().any(|text| texts.contain(text)), "{listed:?}");
        }
        let texts = Texts::of(&many);
        assert!(many.iter().all(|text| texts.contain(text)));
        assert!(
            !["a region with the number 1000", "a region", "Ukraine 3", "V", "a regio"]
                .iter()
                .any(|text| texts.contain(text))
        );
    }
}
