//! The committed SHA-256 sums of a bundle, and the comparison of a folder with them.
//!
//! Invariant: a folder passes only if it holds exactly the files that are listed, each with its sum. A file too many is
//! refused as well: it would be loaded with the others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// File name → sum in lowercase hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<String, String>);

/// What is wrong with a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub file: String,
    pub expected: String,
    pub found: String,
}

impl Sums {
    /// Reads sha256sum's format: sum, two blanks, name.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| {
            let (sum, name) = line.split_once("  ")?;
            Some((name.to_owned(), sum.to_owned()))
        });
        Self(pairs.collect())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Eight digits that change with any of the sums: part of the name of the cache's folder.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, sum) in &self.0 {
            hasher.update(name);
            hasher.update([0]);
            hasher.update(sum);
            hasher.update([b'\n']);
        }
        let mut digits = hexadecimal(&hasher.finalize());
        digits.truncate(8);
        digits
    }

    /// Compares the files of a folder with the sums; the first difference, by name.
    pub(super) fn compare(&self, folder: &Path) -> std::io::Result<Option<Mismatch>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.insert(name, sum_of(&entry.path())?);
        }
        let missing = "no such file".to_owned();
        for (name, expected) in &self.0 {
            let sum = found.remove(name).unwrap_or_else(|| missing.clone());
            if sum != *expected {
                return Ok(Some(Mismatch { file: name.clone(), expected: expected.clone(), found: sum }));
            }
        }
        Ok(found.into_iter().next().map(|(file, found)| Mismatch { file, expected: "no such file".to_owned(), found }))
    }
}

fn sum_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Mismatch, Sums};

    // printf a | sha256sum
    const SUM_OF_A: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    fn mismatch(files: &[(&str, &str)]) -> Option<Mismatch> {
        let folder = tempfile::tempdir().expect("directory");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("write");
        }
        Sums::parse(&format!("{SUM_OF_A}  one.jar\n")).compare(folder.path()).expect("readable")
    }

    #[test]
    fn only_the_listed_files_with_their_sums_pass() {
        assert_eq!(mismatch(&[("one.jar", "a")]), None);
        let other = mismatch(&[("one.jar", "b")]).expect("other sum");
        assert_eq!((other.file.as_str(), other.expected.as_str()), ("one.jar", SUM_OF_A));
        assert_eq!(mismatch(&[]).expect("missing").found, "no such file");
        let extra = mismatch(&[("one.jar", "a"), ("two.jar", "a")]).expect("too many");
        assert_eq!((extra.file.as_str(), extra.expected.as_str()), ("two.jar", "no such file"));
    }

    #[test]
    fn fingerprint_changes_with_a_sum_and_with_a_name() {
        let of = |text: &str| Sums::parse(text).fingerprint();
        assert_ne!(of("aa  x\n"), of("ab  x\n"));
        assert_ne!(of("aa  x\n"), of("aa  y\n"));
        assert_eq!(of("aa  x\n").len(), 8);
    }
}
