//! What operators ask for, through a transactional logical message: from the command line, or from psql.
//!
//! ```sql
//! SELECT pg_logical_emit_message(true, 'penstock.backfill', '{"reload": {"table": "public.policies"}}');
//! ```

use penstock_wire::reload::Scope;
use serde_json::{Map, Value};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reload a scope.
    Reload {
        /// Its name; made from its place in the stream if there is none.
        id: Option<String>,
        /// What to read again.
        scope: Scope,
        /// 0: as configured.
        rows_per_second: u64,
    },
    /// Read no further chunk of it.
    Pause(String),
    /// Go on with it.
    Resume(String),
    /// End it without a `reload_end`.
    Cancel(String),
}

/// A message that asks for nothing that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no JSON object.
    #[error("the request is no JSON object")]
    NotJson,
    /// It is longer than anything it could ask for.
    #[error("the request has {0} bytes, more than {REQUEST_BYTES_MAX}")]
    TooLong(usize),
    /// It has none of the four, or several.
    #[error("the request must hold one of reload, pause, resume, cancel, and nothing else")]
    Kind,
    /// A field is not what it should be.
    #[error("{0} must be {1}")]
    Field(&'static str, &'static str),
    /// A field nobody knows.
    #[error("unknown field {0:?}; known: id, table, account, rows_per_second")]
    Unknown(String),
}

/// Longest id, in bytes: it stands in every progress record.
const ID_BYTES_MAX: usize = 100;
/// Longest request, in bytes. Its account and its table stand in every progress record, and one that is too large for its topic
/// could never be written.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

impl Request {
    /// Reads a message's content.
    pub fn parse(content: &[u8]) -> Result<Self, RequestError> {
        if content.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong(content.len()));
        }
        let Ok(Value::Object(object)) = serde_json::from_slice(content) else { return Err(RequestError::NotJson) };
        let mut fields = object.into_iter();
        let (Some((kind, value)), None) = (fields.next(), fields.next()) else { return Err(RequestError::Kind) };
        match (kind.as_str(), value) {
            ("reload", Value::Object(fields)) => reload(fields),
            ("reload", _) => Err(RequestError::Field("reload", "an object")),
            ("pause", id) => id_of(id).map(Self::Pause),
            ("resume", id) => id_of(id).map(Self::Resume),
            ("cancel", id) => id_of(id).map(Self::Cancel),
            _ => Err(RequestError::Kind),
        }
    }
}

fn reload(fields: Map<String, Value>) -> Result<Request, RequestError> {
    let (mut id, mut scope, mut rows_per_second) = (None, Scope::default(), 0);
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("id" | "table" | "account" | "rows_per_second", Value::Null) => {}
            ("id", value) => id = Some(id_of(value)?),
            ("table", Value::String(name)) => scope.table = Some(table_of(&name)?),
            ("table", _) => return Err(RequestError::Field("table", "\"schema.table\"")),
            ("account", Value::String(account)) => scope.account = Some(account),
            ("account", _) => return Err(RequestError::Field("account", "the account's text")),
            ("rows_per_second", value) => {
                rows_per_second =
                    value.as_u64().ok_or(RequestError::Field("rows_per_second", "a whole number from 0"))?;
            }
            _ => return Err(RequestError::Unknown(name)),
        }
    }
    Ok(Request::Reload { id, scope, rows_per_second })
}

fn id_of(value: Value) -> Result<String, RequestError> {
    match value {
        Value::String(id) if !id.is_empty() && id.len() <= ID_BYTES_MAX => Ok(id),
        _ => Err(RequestError::Field("id", "a text of 1 to 100 bytes")),
    }
}

/// `schema.table`; a part that holds a dot stands in double quotes.
fn table_of(name: &str) -> Result<(String, String), RequestError> {
    let wrong = || RequestError::Field("table", "\"schema.table\", a part that holds a dot in double quotes");
    let (schema, rest) = part_of(name).ok_or_else(wrong)?;
    let (table, rest) = rest.strip_prefix('.').and_then(part_of).ok_or_else(wrong)?;
    if rest.is_empty() { Ok((schema, table)) } else { Err(wrong()) }
}

fn part_of(text: &str) -> Option<(String, &str)> {
    let (part, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_part(quoted)?,
        None => {
            let (part, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
            (part.to_owned(), rest)
        }
    };
    (!part.is_empty()).then_some((part, rest))
}

/// Up to the closing quote; two of them stand for one.
fn quoted_part(mut text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    loop {
        let (plain, rest) = text.split_once('"')?;
        part.push_str(plain);
        match rest.strip_prefix('"') {
            Some(rest) => {
                part.push('"');
                text = rest;
            }
            None => return Some((part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(table: Option<(&str, &str)>, account: Option<&str>) -> Scope {
        Scope {
            table: table.map(|(schema, table)| (schema.to_owned(), table.to_owned())),
            account: account.map(str::to_owned),
        }
    }

    #[test]
    fn requests_are_read() {
        let all = Request::Reload { id: None, scope: Scope::default(), rows_per_second: 0 };
        let check = |text: &str, expected: Request| assert_eq!(Request::parse(text.as_bytes()), Ok(expected), "{text}");
        check(r#"{"reload": {}}"#, all.clone());
        check(r#"{"reload": {"table": null, "id": null}}"#, all);
        check(
            r#"{"reload": {"id": "x", "table": "public.\"a.b\"", "account": "a1", "rows_per_second": 9}}"#,
            Request::Reload {
                id: Some("x".into()),
                scope: scope(Some(("public", "a.b")), Some("a1")),
                rows_per_second: 9,
            },
        );
        check(
            r#"{"reload": {"table": "\"a\"\"b\".\"c.d\""}}"#,
            Request::Reload { id: None, scope: scope(Some(("a\"b", "c.d")), None), rows_per_second: 0 },
        );
        check(r#"{"pause": "x"}"#, Request::Pause("x".into()));
        check(r#"{"resume": "x"}"#, Request::Resume("x".into()));
        check(r#"{"cancel": "x"}"#, Request::Cancel("x".into()));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for text in [
            "",
            "1",
            "{}",
            r#"{"load": {}}"#,
            r#"{"reload": 1}"#,
            r#"{"reload": {}, "pause": "x"}"#,
            r#"{"reload": {"tables": "public.t"}}"#,
            r#"{"reload": {"table": "t"}}"#,
            r#"{"reload": {"table": "a.b.c"}}"#,
            r#"{"reload": {"table": "a."}}"#,
            r#"{"reload": {"table": "\"a.b"}}"#,
            r#"{"reload": {"account": 7}}"#,
            r#"{"reload": {"rows_per_second": -1}}"#,
            r#"{"pause": ""}"#,
            r#"{"pause": 7}"#,
        ] {
            assert!(Request::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_no_progress_record_could_hold_is_refused() {
        let of_account = |bytes: usize| format!(r#"{{"reload": {{"account": "{}"}}}}"#, "a".repeat(bytes));
        let around = of_account(0).len();
        assert!(Request::parse(of_account(REQUEST_BYTES_MAX - around).as_bytes()).is_ok());
        let longer = Request::parse(of_account(REQUEST_BYTES_MAX - around + 1).as_bytes());
        assert_eq!(longer, Err(RequestError::TooLong(REQUEST_BYTES_MAX + 1)));
    }
}
