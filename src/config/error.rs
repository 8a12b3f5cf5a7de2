//! What is wrong with a configuration: where, what, and what to do about it.
//!
//! All problems are collected before the program gives up, so that a file is mended in one go. The caller exits with 2.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line (from 1) of the configuration file.
    Line { file: PathBuf, line: usize },
    /// An environment variable.
    Variable(String),
    /// Nowhere: the setting is missing.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The setting as `section.key`; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("cannot read the configuration file {}: {source}; name another one with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file or the environment holds something that is refused.
    #[error("{}", list(.0))]
    Refused(Vec<Problem>),
}

impl ConfigError {
    /// The single problems; empty when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Refused(problems) => problems,
        }
    }
}

impl Origin {
    /// Whether the setting is missing.
    pub fn is_nowhere(&self) -> bool {
        matches!(self, Self::Nowhere)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
