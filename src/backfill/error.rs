//! Why a chunk was not read, in words that hold nothing of any row.

use penstock_core::backfill::rows::CopyError;
use penstock_core::backfill::snapshot::NotASnapshot;

use super::sql::Unfit;
use crate::catalog::CatalogError;
use crate::run::describe;
use crate::source::SourceError;

/// Errors of data: their messages quote the value.
const DATA_CLASS: &str = "22";
/// A name that stands for nothing: of a table, of a schema.
const UNKNOWN: [&str; 2] = ["42P01", "3F000"];

/// A chunk was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The connection, or the server's no.
    #[error(transparent)]
    Asked(#[from] CatalogError),
    /// Nothing comes any more.
    #[error("Postgres sends nothing more of a chunk")]
    Timeout,
    /// Postgres' copy is no copy.
    #[error("the rows cannot be read")]
    Copy(#[from] CopyError),
    /// Its snapshot is none.
    #[error("the snapshot cannot be read")]
    Snapshot(#[from] NotASnapshot),
    /// The range is another table's.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is no such table.
    #[error("the table is gone")]
    Gone,
}

impl ReadError {
    /// For operators: never a value of a row.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Asked(CatalogError::Question { source: SourceError::Server(error), .. }) => {
                match error.sqlstate.starts_with(DATA_CLASS) {
                    true => format!("{}: a value is not what its column's type takes", error.sqlstate),
                    false => format!("{}: {}", error.sqlstate, error.message),
                }
            }
            other => describe(other),
        }
    }

    /// Whether the table is not there.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Gone => true,
            Self::Asked(error) => error.sqlstate().is_some_and(|code| UNKNOWN.contains(&code)),
            Self::Timeout | Self::Copy(_) | Self::Snapshot(_) | Self::Unfit(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ServerError;

    fn server(sqlstate: &str, message: &str) -> ReadError {
        let source = SourceError::Server(Box::new(ServerError {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            detail: Some("Failing row contains (secret).".to_owned()),
            hint: None,
        }));
        ReadError::Asked(CatalogError::Question { question: "q", source })
    }

    #[test]
    fn reasons_hold_no_values() {
        for (error, why, gone) in [
            (server("42501", "permission denied for table t"), "42501: permission denied for table t", false),
            (
                server("22P02", "invalid input syntax for type integer: \"secret\""),
                "22P02: a value is not what its column's type takes",
                false,
            ),
            (server("42P01", "relation \"t\" does not exist"), "42P01: relation \"t\" does not exist", true),
            (
                CopyError::Line.into(),
                "the rows cannot be read: a line that does not end where it should, or holds one",
                false,
            ),
            (ReadError::Gone, "the table is gone", true),
        ] {
            assert!(!error.why().contains("secret"), "{}", error.why());
            assert!(why.starts_with(error.why().as_str()), "{}", error.why());
            assert_eq!(error.is_gone(), gone, "{why}");
        }
    }
}
