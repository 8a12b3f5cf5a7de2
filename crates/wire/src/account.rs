//! The account a change belongs to: the unit of order.

/// Stands for "no account": rows whose account column is NULL. An account whose text is this literal is refused.
pub const GLOBAL: &str = "global";

/// The account's canonical text as Postgres prints it, or [`GLOBAL`]. Borrowed from the row: routing copies nothing.
///
/// Two accounts are equal when their texts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account<'a>(&'a str);

/// The account column's value cannot name an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The value is the literal reserved for NULL.
    #[error("the account column holds the text {GLOBAL:?}, which is reserved for rows without an account")]
    Reserved,
    /// The value is not UTF-8.
    #[error("the account column's text is not UTF-8")]
    NotUtf8,
}

impl<'a> Account<'a> {
    /// The account of rows that belong to none.
    pub const NONE: Self = Account(GLOBAL);

    /// From the account column's text; `None` is SQL NULL.
    pub fn from_column(text: Option<&'a [u8]>) -> Result<Self, AccountError> {
        let Some(text) = text else { return Ok(Self::NONE) };
        match std::str::from_utf8(text) {
            Ok(GLOBAL) => Err(AccountError::Reserved),
            Ok(text) => Ok(Self(text)),
            Err(_) => Err(AccountError::NotUtf8),
        }
    }

    /// The text that is hashed for the partition and written as `__account`.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_global_and_the_literal_is_refused() {
        assert_eq!(Account::from_column(None), Ok(Account::NONE));
        assert_eq!(Account::from_column(Some(b"global")), Err(AccountError::Reserved));
        assert_eq!(Account::from_column(Some(b"\xff")), Err(AccountError::NotUtf8));
        assert_eq!(Account::from_column(Some(b"a1")).map(Account::as_str), Ok("a1"));
    }
}
