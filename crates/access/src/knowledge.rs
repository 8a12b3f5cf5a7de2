//! How far an account's state can be trusted.

use serde::Serialize;

use crate::rows::Micros;

/// What may be said of an account's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It is what the database held at `as_of`, or later.
    Known { as_of: Micros },
    /// It may be anything else.
    Unknown {
        reason: Reason,
        /// When it was last known; None: never.
        as_of: Option<Micros>,
    },
}

/// Why an account's state cannot be trusted. Where several reasons hold the first of this order is told: one that only a
/// person ends comes before one that passes by itself, and `Stale`, the only one that may be chosen to be ignored, comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Another instance reads the partition.
    NotAssigned,
    /// The state is being made anew, and is no state of any instant.
    Rebuilding,
    /// Rows may be missing, until a reload that began behind the doubt has ended.
    Unproven,
    /// A record could not be read or delivered; likewise.
    Quarantined,
    /// The source was not heard of for too long, or the reader is behind it.
    Stale,
}

impl Reason {
    /// In order.
    pub const ALL: [Self; 5] = [Self::NotAssigned, Self::Rebuilding, Self::Unproven, Self::Quarantined, Self::Stale];

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAssigned => "not_assigned",
            Self::Rebuilding => "rebuilding",
            Self::Unproven => "unproven",
            Self::Quarantined => "quarantined",
            Self::Stale => "stale",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_json() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).expect("JSON"), reason.to_string());
        }
    }
}
