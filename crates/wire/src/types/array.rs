//! Arrays in Postgres' text format.
//!
//! One dimension with lower bound 1 becomes an Avro array. Everything else (several dimensions, other bounds) has no
//! Avro form that keeps it whole and travels as the literal Postgres prints.

use super::{Element, Place, Refusal, text};
use crate::avro::put_length;

/// Appends an array that is not NULL, with its union branch.
pub(super) fn put_text(element: Element, place: Place, literal: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match literal {
        // `[2:3]={…}`: bounds are printed only where one is not 1. `{{…}}`: an element that starts with a brace is quoted.
        [b'[', ..] | [b'{', b'{', ..] => {
            place.open_literal(out);
            text::put_string(literal, out)
        }
        [b'{', items @ .., b'}'] => {
            place.open_array(out);
            put_items(element, items, out)
        }
        _ => Err(Refusal::Malformed),
    }
}

/// Appends the elements as one Avro block, which needs their number first: the items are read twice, never collected.
fn put_items(element: Element, items: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if items.is_empty() {
        out.push(0);
        return Ok(());
    }
    let mut count = 0;
    for item in Items::new(items) {
        item?;
        count += 1;
    }
    put_length(out, count);
    let mut unescaped = Vec::new();
    for item in Items::new(items) {
        match item? {
            Item::Null => out.push(0),
            Item::Plain(value) => text::put(element.kind(), Place::Nullable, value, out)?,
            Item::Escaped(value) => {
                unescape(value, &mut unescaped);
                text::put(element.kind(), Place::Nullable, &unescaped, out)?;
            }
        }
    }
    out.push(0);
    Ok(())
}

/// Takes the backslashes away. The iterator has made sure that each has a character behind it.
fn unescape(value: &[u8], unescaped: &mut Vec<u8>) {
    unescaped.clear();
    let mut escaped = false;
    for byte in value {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            unescaped.push(*byte);
            escaped = false;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Item<'a> {
    Null,
    Plain(&'a [u8]),
    Escaped(&'a [u8]),
}

/// The comma-separated items between the braces of a one-dimensional array: at least one.
struct Items<'a> {
    rest: &'a [u8],
    done: bool,
}

impl<'a> Items<'a> {
    fn new(items: &'a [u8]) -> Self {
        Self { rest: items, done: false }
    }

    fn quoted(&mut self, body: &'a [u8]) -> Result<Item<'a>, Refusal> {
        let mut escapes = false;
        let mut index = 0;
        loop {
            match body.get(index) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    index += 2;
                }
                Some(_) => index += 1,
                None => return Err(Refusal::Malformed),
            }
        }
        let (value, rest) = body.split_at_checked(index).ok_or(Refusal::Malformed)?;
        self.rest = rest.get(1..).ok_or(Refusal::Malformed)?;
        Ok(if escapes { Item::Escaped(value) } else { Item::Plain(value) })
    }

    fn unquoted(&mut self) -> Result<Item<'a>, Refusal> {
        let length = self.rest.iter().position(|byte| *byte == b',').unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at_checked(length).ok_or(Refusal::Malformed)?;
        self.rest = rest;
        // Postgres quotes everything that holds one of these, and the empty string.
        let special = |byte: &u8| matches!(byte, b'{' | b'}' | b'"' | b'\\' | b' ' | b'\t'..=b'\r');
        if value.is_empty() || value.iter().any(special) {
            return Err(Refusal::Malformed);
        }
        match value {
            b"NULL" => Ok(Item::Null),
            // The text in any other case would be quoted.
            _ if value.eq_ignore_ascii_case(b"null") => Err(Refusal::Malformed),
            _ => Ok(Item::Plain(value)),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = match self.rest {
            [b'"', body @ ..] => self.quoted(body),
            _ => self.unquoted(),
        };
        match self.rest {
            [b',', rest @ ..] => self.rest = rest,
            [] => self.done = true,
            _ => {
                self.done = true;
                return Some(Err(Refusal::Malformed));
            }
        }
        self.done |= item.is_err();
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ValueKind;

    fn written(kind: ValueKind, literal: &str) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        text::put(kind.array(), Place::Nullable, literal.as_bytes(), &mut out).map(|()| out)
    }

    /// What the array of these strings looks like on the wire; `None` is a NULL element.
    fn strings(items: &[Option<&str>]) -> Vec<u8> {
        let mut out = vec![2];
        if !items.is_empty() {
            put_length(&mut out, items.len());
        }
        for item in items {
            match item {
                None => out.push(0),
                Some(item) => {
                    out.push(2);
                    crate::avro::put_bytes(&mut out, item.as_bytes());
                }
            }
        }
        out.push(0);
        out
    }

    #[test]
    fn elements_are_unquoted() {
        for (literal, items) in [
            ("{}", vec![]),
            ("{a}", vec![Some("a")]),
            ("{a,b}", vec![Some("a"), Some("b")]),
            ("{NULL}", vec![None]),
            (r#"{"NULL",NULL,null_}"#, vec![Some("NULL"), None, Some("null_")]),
            (r#"{"",a}"#, vec![Some(""), Some("a")]),
            (r#"{"a,b","{}"}"#, vec![Some("a,b"), Some("{}")]),
            (r#"{"a\"b","c\\d"}"#, vec![Some("a\"b"), Some("c\\d")]),
            (r#"{"\\\""}"#, vec![Some("\\\"")]),
            (r#"{"{\"a\": [1, 2]}",NULL}"#, vec![Some(r#"{"a": [1, 2]}"#), None]),
            ("{é,\"ü ü\"}", vec![Some("é"), Some("ü ü")]),
            ("{[a]}", vec![Some("[a]")]),
        ] {
            assert_eq!(written(ValueKind::Jsonb, literal), Ok(strings(&items)), "{literal}");
        }
    }

    #[test]
    fn typed_elements_are_read_as_their_type() {
        assert_eq!(written(ValueKind::Int4, "{1,NULL,-1}"), Ok(vec![2, 6, 2, 2, 0, 2, 1, 0]));
        assert_eq!(written(ValueKind::Bytea, r#"{"\\xff"}"#), Ok(vec![2, 2, 2, 2, 255, 0]));
        assert_eq!(written(ValueKind::Timestamp, r#"{"1970-01-01 00:00:00"}"#), Ok(vec![2, 2, 2, 0, 0]));
        assert_eq!(written(ValueKind::Int4, "{x}"), Err(Refusal::Malformed));
    }

    #[test]
    fn several_dimensions_and_other_bounds_stay_literals() {
        for literal in ["{{1,2},{3,4}}", "[2:3]={1,2}", "[0:0][1:1]={{1}}", "[-1:0]={NULL,1}"] {
            let mut expected = vec![4];
            crate::avro::put_bytes(&mut expected, literal.as_bytes());
            assert_eq!(written(ValueKind::Int4, literal), Ok(expected), "{literal}");
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for literal in [
            "",
            "{",
            "}",
            "a",
            "{a",
            "a}",
            "{,}",
            "{a,}",
            "{,a}",
            "{a,,b}",
            r#"{"a}"#,
            r#"{"a"b}"#,
            r#"{"a\"}"#,
            r"{a\b}",
            "{a{b}",
            "{a}b}",
            r#"{a"b}"#,
            "{null}",
            "{a b}",
            "{ }",
        ] {
            assert_eq!(written(ValueKind::Text, literal), Err(Refusal::Malformed), "{literal}");
        }
    }

    #[test]
    fn every_cut_of_a_literal_is_refused_or_read() {
        let literal = br#"{"a\"b",NULL,"c\\d",{},"","NULL"}"#;
        for start in 0..literal.len() {
            for end in start..literal.len() {
                let _ = text::put(ValueKind::Text.array(), Place::Bare, &literal[start..end], &mut Vec::new());
            }
        }
    }
}
