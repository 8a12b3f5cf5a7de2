//! Versions of clients and gateways, and which of them speak with each other.

use std::cmp::Ordering;

use semver::Version as Semantic;

/// The first versions that speak a protocol which older ones don't, newest first: from there on a client needs a gateway
/// that is at least as new.
const PROTOCOLS: [(u64, u64, u64); 2] = [(1, 4, 0), (1, 1, 0)];

/// A semantic version, or one that could not be read, which is older than any other.
///
/// Ordered by precedence: 1.4.0-rc1 < 1.4.0 < 1.4.10. Builds of one version are equal.
#[derive(Clone, Debug)]
pub struct Version(Option<Semantic>);

impl Version {
    /// Reads `last_seen_version` as it stands in a row. NULL, and what is no semantic version, counts as the oldest.
    pub fn parse(text: Option<&str>) -> Self {
        Self(text.and_then(|text| Semantic::parse(text).ok()))
    }

    /// Whether it is that release or a later one. A pre-release of it is neither.
    #[inline]
    pub fn at_least(&self, major: u64, minor: u64, patch: u64) -> bool {
        self.0.as_ref().is_some_and(|version| {
            let release = (version.major, version.minor, version.patch);
            let least = (major, minor, patch);
            release > least || (release == least && version.pre.is_empty())
        })
    }
}

/// Whether a client can be sent through a gateway.
#[inline]
pub fn compatible(client: &Version, gateway: &Version) -> bool {
    let spoken = PROTOCOLS.iter().find(|(major, minor, patch)| client.at_least(*major, *minor, *patch));
    spoken.is_none_or(|(major, minor, patch)| gateway.at_least(*major, *minor, *patch))
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Some(version), Some(other)) => version.cmp_precedence(other),
            (version, other) => version.is_some().cmp(&other.is_some()),
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(Some(text))
    }

    #[test]
    fn order_is_that_of_semantic_versions() {
        let ascending = ["", "0.0.0-0", "0.0.0", "1.2.9", "1.2.10", "1.4.0-rc1", "1.4.0", "1.4.9", "1.4.10", "2.0.0-a"];
        for (index, lower) in ascending.iter().enumerate() {
            assert_eq!(version(lower), version(lower));
            for higher in &ascending[index + 1..] {
                assert!(version(lower) < version(higher), "{lower:?} < {higher:?}");
            }
        }
        assert_eq!(version("1.4.0+linux"), version("1.4.0+macos"));
    }

    #[test]
    fn what_cannot_be_read_is_the_oldest() {
        for text in
            ["", "1", "1.3", "v1.3.0", " 1.3.0", "1.3.0 ", "01.3.0", "1.3.0.0", "１.3.0", "99999999999999999999.0.0"]
        {
            assert_eq!(version(text), Version::parse(None), "{text:?}");
            assert!(!version(text).at_least(0, 0, 0), "{text:?}");
        }
    }

    #[test]
    fn a_release_is_reached_by_itself_and_by_later_ones() {
        for (text, reached) in [
            ("1.2.9", false),
            ("1.3.0-rc1", false),
            ("1.3.0", true),
            ("1.3.0+build", true),
            ("1.3.1-rc1", true),
            ("1.4.0-rc1", true),
            ("0.9.9", false),
            ("2.0.0", true),
        ] {
            assert_eq!(version(text).at_least(1, 3, 0), reached, "{text}");
        }
    }

    #[test]
    fn who_speaks_with_whom() {
        for (client, gateway, expected) in [
            ("1.4.0", "1.4.0", true),
            ("1.4.0", "1.4.0-rc1", false),
            ("1.4.0", "1.3.9", false),
            ("1.4.0", "2.0.0", true),
            ("1.4.0-rc1", "1.1.0", true),
            ("1.3.9", "1.0.9", false),
            ("1.1.0", "1.1.0", true),
            ("1.1.0", "1.4.0", true),
            ("1.1.0", "", false),
            ("1.0.9", "1.0.0", true),
            ("1.0.9", "", true),
            ("", "", true),
            ("", "1.4.0", true),
            ("1.4.0", "", false),
        ] {
            assert_eq!(compatible(&version(client), &version(gateway)), expected, "{client:?} through {gateway:?}");
        }
    }
}
