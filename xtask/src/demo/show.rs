//! A record on one line: when, how long after the commit, where, what, of whom, and what changed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::record::{Content, Op, Record, Subject};

/// Columns of which most readers know what they mean, best first: what a new or deleted row is told by.
const TELLING: [&str; 10] = [
    "name",
    "slug",
    "email",
    "provider_identifier",
    "type",
    "address",
    "description",
    "client_remote_ip",
    "id",
    "resource_id",
];
/// Bookkeeping: told only if nothing else changed.
const DULL: [&str; 3] = ["updated_at", "last_seen_at", "last_synced_at"];
const COLUMNS_MAX: usize = 3;
const VALUE_CHARS_MAX: usize = 28;

/// How records are shown.
#[derive(Debug)]
pub struct Show {
    /// Account ids and the names people know them by.
    pub accounts: BTreeMap<String, String>,
    /// Whether there is a terminal that understands colours.
    pub coloured: bool,
}

impl Show {
    /// The line of a record; `None` for a tombstone, which says nothing new.
    pub fn line(&self, record: &Record, json: &Value) -> Option<String> {
        let delay = record.delay_ms.map_or_else(|| "-".to_owned(), |delay| format!("{delay:.0} ms"));
        let place = format!("{delay:>8}  p{:02}@{:<6}", record.partition, record.offset);
        match &record.content {
            Content::Row(row) => {
                let changes = changes(row.op, json);
                let verb = self.verb(row.op);
                let Subject { account, table, .. } = &row.subject;
                Some(format!("{place} {:<11} {verb} {table:<24} {changes}", self.account(account)))
            }
            Content::Truncate { table } => Some(self.paint(35, &format!("{place} {:<11} TRUNCATE {table}", "all"))),
            Content::Control { kind, detail } => {
                Some(self.paint(35, &format!("{place} {:<11} {kind} {detail}", "all")))
            }
            Content::Tombstone { .. } => None,
        }
    }

    fn account(&self, account: &str) -> String {
        let short = || account.chars().take(8).collect();
        self.accounts.get(account).cloned().unwrap_or_else(short)
    }

    fn verb(&self, op: Op) -> String {
        match op {
            Op::Create => self.paint(32, "insert"),
            Op::Update => self.paint(33, "update"),
            Op::Delete => self.paint(31, "delete"),
        }
    }

    fn paint(&self, colour: u8, text: &str) -> String {
        match self.coloured {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// What an update changed, or what tells a new or deleted row from others.
fn changes(op: Op, json: &Value) -> String {
    let row = |name: &str| json.get(name).and_then(Value::as_object);
    let (before, after) = (row("before"), row("after"));
    let columns: Vec<(&str, &Value)> = match (op, before, after) {
        (Op::Update, Some(before), Some(after)) => {
            let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
            let (dull, telling): (Vec<_>, Vec<_>) =
                changed.map(|(name, value)| (name.as_str(), value)).partition(|(name, _)| DULL.contains(name));
            if telling.is_empty() { dull } else { telling }
        }
        (Op::Create | Op::Update, _, Some(row)) | (Op::Delete, Some(row), _) => {
            let known = TELLING.iter().filter_map(|name| Some((*name, row.get(*name)?)));
            known.filter(|(_, value)| !value.is_null()).collect()
        }
        (Op::Create | Op::Update, _, None) | (Op::Delete, None, _) => Vec::new(),
    };
    let more = columns.len().saturating_sub(COLUMNS_MAX);
    let mut texts: Vec<String> =
        columns.into_iter().take(COLUMNS_MAX).map(|(name, value)| format!("{name}={}", short(value))).collect();
    if op == Op::Update && more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // Values come from a database: what would move the cursor is not printed.
    let printable = text.chars().map(|c| if c.is_control() { '.' } else { c });
    let mut short: String = printable.clone().take(VALUE_CHARS_MAX).collect();
    if printable.count() > VALUE_CHARS_MAX {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Op, changes, short};

    #[test]
    fn update_tells_what_changed_and_insert_tells_who_it_is() {
        let update = json!({
            "before": {"name": "a", "updated_at": 1, "kept": 3}, "after": {"name": "b", "updated_at": 2, "kept": 3}
        });
        assert_eq!(changes(Op::Update, &update), "name=b");
        let touched = json!({"before": {"updated_at": 1}, "after": {"updated_at": 2}});
        assert_eq!(changes(Op::Update, &touched), "updated_at=2");
        let insert = json!({"before": null, "after": {"id": "7", "name": null, "type": "dns", "other": 1}});
        assert_eq!(changes(Op::Create, &insert), "type=dns, id=7");
        let delete = json!({"before": {"id": "7"}, "after": null});
        assert_eq!(changes(Op::Delete, &delete), "id=7");
        assert_eq!(changes(Op::Delete, &json!({})), "");
    }

    #[test]
    fn values_are_cut_and_cannot_move_the_cursor() {
        assert_eq!(short(&json!("a\u{1b}[2Jb")), "a.[2Jb");
        assert_eq!(short(&json!("é".repeat(40))), format!("{}…", "é".repeat(28)));
        assert_eq!(short(&json!({"a": [1]})), r#"{"a":[1]}"#);
    }
}
