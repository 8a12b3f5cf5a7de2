//! PROVISIONAL until a1 is merged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(semver::Version);

impl Version {
    pub fn parse(text: Option<&str>) -> Self {
        Self(text.and_then(|t| semver::Version::parse(t).ok()).unwrap_or(semver::Version::parse("0.0.0-0").unwrap()))
    }
    pub fn at_least(&self, major: u64, minor: u64, patch: u64) -> bool {
        self.0 >= semver::Version::new(major, minor, patch)
    }
}

pub fn compatible(client: &Version, gateway: &Version) -> bool {
    if client.at_least(1, 4, 0) {
        gateway.at_least(1, 4, 0)
    } else if client.at_least(1, 1, 0) {
        gateway.at_least(1, 1, 0)
    } else {
        true
    }
}
