//! Names of tables and columns as the configuration writes them: `schema.table`, `schema.table.column`, `schema.*`.
//!
//! A name is what the catalog shows, letter for letter: nothing is folded to lower case. A part that holds a dot, a
//! star or a quote is written in double quotes, a quote inside doubled, as in SQL: `public."odd.name"`.

use std::fmt;
use std::str::FromStr;

/// A table by schema and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema (namespace) it stands in.
    pub schema: String,
    /// The table's own name.
    pub table: String,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnName {
    /// The table.
    pub table: TableName,
    /// The column's own name.
    pub column: String,
}

/// What `tables.capture` lists: one table, or every table of a schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TablePattern {
    /// `schema.table`
    Table(TableName),
    /// `schema.*`
    Schema(String),
}

/// The text is not a name of the wanted shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form {expected}")]
pub struct NameError {
    text: String,
    expected: &'static str,
}

impl TableName {
    /// Builds from the two parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// As SQL, quoted where needed and safe to put into a statement.
    pub fn to_sql(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.table))
    }

    /// The name of one of its columns.
    pub fn column(&self, column: impl Into<String>) -> ColumnName {
        ColumnName { table: self.clone(), column: column.into() }
    }
}

impl TablePattern {
    /// Whether the table is meant.
    pub fn matches(&self, name: &TableName) -> bool {
        match self {
            Self::Table(table) => table == name,
            Self::Schema(schema) => *schema == name.schema,
        }
    }
}

/// An identifier as SQL takes it. Always quoted: which bare words are reserved differs between major versions.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal that means the same under either setting of `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", readable(&self.schema), readable(&self.table))
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, readable(&self.column))
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Schema(schema) => write!(f, "{}.*", readable(schema)),
        }
    }
}

impl FromStr for TableName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError { text: text.to_owned(), expected: "schema.table" };
        match split(text).ok_or_else(refuse)?.as_slice() {
            [Part::Name(schema), Part::Name(table)] => Ok(Self::new(schema, table)),
            _ => Err(refuse()),
        }
    }
}

impl FromStr for ColumnName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError { text: text.to_owned(), expected: "schema.table.column" };
        match split(text).ok_or_else(refuse)?.as_slice() {
            [Part::Name(schema), Part::Name(table), Part::Name(column)] => {
                Ok(TableName::new(schema, table).column(column))
            }
            _ => Err(refuse()),
        }
    }
}

impl FromStr for TablePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError { text: text.to_owned(), expected: "schema.table or schema.*" };
        match split(text).ok_or_else(refuse)?.as_slice() {
            [Part::Name(schema), Part::Name(table)] => Ok(Self::Table(TableName::new(schema, table))),
            [Part::Name(schema), Part::Star] => Ok(Self::Schema(schema.clone())),
            _ => Err(refuse()),
        }
    }
}

#[derive(Debug)]
enum Part {
    Name(String),
    Star,
}

/// Quotes a part only where the parser below would otherwise read it differently.
fn readable(part: &str) -> String {
    let plain = !part.is_empty() && !part.contains(['.', '"', '*']) && !part.contains(char::is_whitespace);
    if plain { part.to_owned() } else { quote_identifier(part) }
}

/// The parts between the dots; `None` if one is empty, a quote stays open, or text follows a closing quote.
fn split(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (name, after) = unquote(quoted)?;
                (Part::Name(name), after)
            }
            None => bare(rest)?,
        };
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix('.')?;
    }
}

fn bare(text: &str) -> Option<(Part, &str)> {
    let (name, after) = text.split_at(text.find('.').unwrap_or(text.len()));
    match name {
        "*" => Some((Part::Star, after)),
        "" => None,
        _ if name.contains(['"', '*']) || name.contains(char::is_whitespace) => None,
        _ => Some((Part::Name(name.to_owned()), after)),
    }
}

/// Reads up to the closing quote; a doubled quote is one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None if name.is_empty() => return None,
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed_alike() {
        for text in ["public.accounts", "Public.Accounts", "public.\"odd.name\"", "\"a\"\"b\".\"c d\"", "public.\"*\""]
        {
            assert_eq!(text.parse::<TableName>().unwrap().to_string(), text);
        }
        assert_eq!("p.\"t.x\".c".parse::<ColumnName>().unwrap(), TableName::new("p", "t.x").column("c"));
        assert_eq!("public.*".parse::<TablePattern>().unwrap(), TablePattern::Schema("public".into()));
        assert_eq!("public.a".parse::<TablePattern>().unwrap(), TablePattern::Table(TableName::new("public", "a")));
    }

    #[test]
    fn odd_names_are_refused() {
        for text in
            ["", ".", "accounts", "a..b", "a.b.c", "a.", ".b", "a.\"b", "a.\"b\"c", "a.\"\"", "a.b*", "a.*", "a. b"]
        {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
        for text in ["*.*", "*", "a.*.b", "*.a"] {
            assert!(text.parse::<TablePattern>().is_err(), "{text}");
        }
        assert_eq!(
            "a.b".parse::<ColumnName>().unwrap_err().to_string(),
            "\"a.b\" is not of the form schema.table.column"
        );
    }

    #[test]
    fn sql_cannot_be_smuggled_in() {
        assert_eq!(TableName::new("a\"b", "c; DROP").to_sql(), "\"a\"\"b\".\"c; DROP\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }
}
