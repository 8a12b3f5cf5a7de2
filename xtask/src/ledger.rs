//! What was committed, as the database itself wrote it down (sql/ledger.sql), and which records it must lead to.

use anyhow::{Context as _, ensure};

use crate::database::Session;
use crate::record::{Op, Subject};

/// The SQL that makes the ledger.
pub const SQL: &str = include_str!("../sql/ledger.sql");

/// One event that was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the order of execution.
    pub number: u64,
    /// The transaction.
    pub xid: u32,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A row changed.
    Row {
        /// How.
        op: Op,
        /// Which row: as it was, or, of a new one, as it is.
        subject: Subject,
        /// The same after an update.
        after: Option<Subject>,
    },
    /// A table was truncated.
    Truncate {
        /// Its name.
        table: String,
    },
}

impl Event {
    /// The records that carry it: one, or two if the row changed its account or its key.
    pub fn records(&self) -> Vec<(Op, &Subject)> {
        match self {
            Self::Row { op, subject, after: Some(after) } if subject != after => {
                debug_assert_eq!(*op, Op::Update, "only an update has an after");
                vec![(Op::Delete, subject), (Op::Create, after)]
            }
            Self::Row { op, subject, after: _ } => vec![(*op, subject)],
            Self::Truncate { .. } => Vec::new(),
        }
    }

    /// Whether the row went to another account.
    pub fn is_move(&self) -> bool {
        matches!(self, Self::Row { subject, after: Some(after), .. } if subject.account != after.account)
    }
}

/// Reads the whole ledger, in order.
pub fn read(session: &mut Session) -> anyhow::Result<Vec<Entry>> {
    let rows = session.run(
        "SELECT number, xid, table_name, op, account, key, account_after, key_after \
         FROM penstock_demo.ledger ORDER BY number;",
    )?;
    rows.lines().map(parse).collect()
}

/// How many events were committed by now.
pub fn count(session: &mut Session) -> anyhow::Result<u64> {
    number(session, "SELECT count(*) FROM penstock_demo.ledger;")
}

/// How many events happened by now, those of transactions that run or rolled back included: costs nothing to ask.
pub fn happened(session: &mut Session) -> anyhow::Result<u64> {
    number(session, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM penstock_demo.ledger_number_seq;")
}

fn number(session: &mut Session, sql: &str) -> anyhow::Result<u64> {
    let answer = session.run(sql)?;
    answer.parse().with_context(|| format!("Postgres answered {answer:?} to {sql}"))
}

fn parse(line: &str) -> anyhow::Result<Entry> {
    let fields: Vec<&str> = line.split('|').collect();
    let [number, xid, table, op, account, key, account_after, key_after] = fields.as_slice() else {
        anyhow::bail!("a ledger row with {} fields: {line}", fields.len());
    };
    let subject =
        |account: &str, key: &str| Subject { account: account.into(), table: (*table).into(), key: key.into() };
    let event = match *op {
        "t" => Event::Truncate { table: (*table).to_owned() },
        letter => {
            let op = Op::parse(letter).with_context(|| format!("a ledger row with op {letter:?}"))?;
            ensure!(!account.is_empty() && !key.is_empty(), "a ledger row without account or key: {line}");
            let after = (op == Op::Update).then(|| subject(account_after, key_after));
            Event::Row { op, subject: subject(account, key), after }
        }
    };
    Ok(Entry { number: number.parse().context("number")?, xid: xid.parse().context("xid")?, event })
}

#[cfg(test)]
mod tests {
    use super::{Event, parse};

    fn records(line: &str) -> String {
        let entry = parse(line).expect(line);
        let records = entry.event.records();
        let texts: Vec<String> =
            records.iter().map(|(op, row)| format!("{}:{}:{}", op.letter(), row.account, row.key)).collect();
        texts.join(" ")
    }

    #[test]
    fn an_event_leads_to_one_record_and_a_move_to_two() {
        let cases = [
            ("1|7|t|c|a|k||", "c:a:k"),
            ("1|7|t|d|a|k||", "d:a:k"),
            ("1|7|t|u|a|k|a|k", "u:a:k"),
            ("1|7|t|u|a|k|b|k", "d:a:k c:b:k"),
            ("1|7|t|u|a|k|a|l", "d:a:k c:a:l"),
            ("1|7|t|t||||", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(records(line), expected, "{line}");
        }
        assert!(parse("1|7|t|u|a|k|b|k").expect("a move").event.is_move());
        assert!(!parse("1|7|t|u|a|k|a|l").expect("a new key").event.is_move());
    }

    #[test]
    fn broken_rows_are_errors() {
        for line in ["", "1|2|3", "x|7|t|c|a|k||", "1|-7|t|c|a|k||", "1|7|t|x|a|k||", "1|7|t|c||k||"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let entry = parse("4|9|flows|t||||").expect("a truncate");
        assert_eq!(entry.event, Event::Truncate { table: "flows".to_owned() });
        assert_eq!((entry.number, entry.xid), (4, 9));
    }
}
