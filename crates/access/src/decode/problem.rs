//! What could not be read of a row that is taken all the same, with less to rely on.

/// A column that could not be read. Never holds what stands in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {complaint}")]
pub struct Problem {
    pub column: &'static str,
    pub complaint: Complaint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    #[error("the record's schema has no such column")]
    Missing,
    #[error("Postgres did not send the value, and nothing else tells it")]
    Unchanged,
    #[error("the value is NULL, or none that can be read")]
    Unreadable,
    #[error("the value is none of those that are known")]
    UnknownValue,
    #[error("a part of the value cannot be read, and is left out")]
    Part,
    #[error("nothing of the value can be read")]
    NothingLeft,
    #[error("the row belongs to no account")]
    NoAccount,
}
