//! JSON laid out for people and for `git diff`: fields in their own order, one line for whatever fits into one.
//!
//! Invariant: only blanks and line ends differ from the text it was given, but for the way characters in strings are
//! escaped; the same text always gives the same layout.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

const WIDTH: usize = 110;
const INDENT: usize = 2;

/// Lays out `json`, with a line end at its end.
pub(super) fn pretty(json: &str) -> Result<String, serde_json::Error> {
    let node: Node = serde_json::from_str(json)?;
    let mut out = String::with_capacity(2 * json.len());
    node.put(0, 0, &mut out);
    out.push('\n');
    Ok(out)
}

/// JSON that keeps the order of its fields.
enum Node {
    Scalar(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// `before`: what stands on the line already, and what must still fit behind it.
    fn put(&self, indent: usize, before: usize, out: &mut String) {
        let line = self.to_string();
        if indent + before + line.chars().count() <= WIDTH {
            out.push_str(&line);
            return;
        }
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::Array(items) => put_lines('[', ']', items.iter().map(|item| ("", item)), indent, out),
            Self::Object(fields) => {
                put_lines('{', '}', fields.iter().map(|(name, value)| (name.as_str(), value)), indent, out);
            }
        }
    }
}

fn put_lines<'n>(
    open: char,
    close: char,
    items: impl Iterator<Item = (&'n str, &'n Node)>,
    indent: usize,
    out: &mut String,
) {
    out.push(open);
    let inner = indent + INDENT;
    for (index, (name, item)) in items.enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(inner));
        let mut before = 1;
        if !name.is_empty() {
            let label = format!("{}: ", quoted(name));
            before += label.chars().count();
            out.push_str(&label);
        }
        item.put(inner, before, out);
    }
    out.push('\n');
    out.push_str(&" ".repeat(indent));
    out.push(close);
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |index| if index == 0 { "" } else { ", " };
        match self {
            Self::Scalar(text) => f.write_str(text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", comma(index))?;
                }
                f.write_str("]")
            }
            Self::Object(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{}: {value}", comma(index), quoted(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(serde_json::Value::from(value).to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(quoted(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_what_fits_stays_on_its_line() {
        let json = r#"{"z":1,"a":[true,null,-2,1.5],"é\n":"x\"y"}"#;
        assert_eq!(pretty(json).unwrap(), "{\"z\": 1, \"a\": [true, null, -2, 1.5], \"é\\n\": \"x\\\"y\"}\n");
        let long = "w".repeat(60);
        let json = format!(r#"{{"b":["{long}","{long}"],"a":{{"n":1}}}}"#);
        let expected = format!("{{\n  \"b\": [\n    \"{long}\",\n    \"{long}\"\n  ],\n  \"a\": {{\"n\": 1}}\n}}\n");
        assert_eq!(pretty(&json).unwrap(), expected);
    }

    #[test]
    fn no_line_that_can_be_broken_is_too_long() {
        let text = pretty(penstock_wire::progress::PROGRESS_SCHEMA).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(penstock_wire::progress::PROGRESS_SCHEMA).unwrap());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(pretty("{").is_err());
        assert!(pretty("").is_err());
    }
}
