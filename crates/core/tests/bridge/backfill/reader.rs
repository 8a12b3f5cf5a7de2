//! A reader that keeps the table as the topic tells it.

use std::collections::BTreeMap;

use penstock_core::batch::Record;
use penstock_wire::control::Control;
use penstock_wire::decode::{Envelope, WriterSchema};
use penstock_wire::event::Op;
use penstock_wire::framing;
use penstock_wire::header::Header;
use penstock_wire::position::Position;

use super::database::Table;

/// A record as it stands in the topic.
#[derive(Clone, Debug)]
pub struct Stored {
    pub partition: u32,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub header: Header,
    pub control: Option<&'static str>,
}

impl From<&Record<'_>> for Stored {
    fn from(record: &Record<'_>) -> Self {
        Self {
            partition: record.partition.number(),
            key: record.key.to_vec(),
            value: record.value.map(<[u8]>::to_vec),
            header: Header::decode(&record.header).unwrap(),
            control: record.control,
        }
    }
}

/// What a reader holds of one partition: by key, where its version stands, and the row.
type Rows = BTreeMap<Vec<u8>, (Position, u32, (String, String))>;

/// Reads the whole topic: the rows, and the reloads that ended. `truth` is the table at a commit: wherever a transaction ends,
/// nothing is held that is not in it. (Rows that were not loaded yet may be missing.)
pub fn fold(topic: &[Stored], schema: &WriterSchema, truth: Option<impl Fn(u64) -> Table>) -> (Table, usize) {
    let mut partitions: BTreeMap<u32, (Position, Rows)> = BTreeMap::new();
    let mut ends = 0;
    for record in topic {
        let (at, rows) = partitions.entry(record.partition).or_default();
        let position = record.header.position;
        assert_eq!(record.header.previous, *at, "the chain of partition {} is broken", record.partition);
        assert!(position > *at, "{position} is not above {at}");
        *at = position;
        ends += usize::from(apply(rows, record, schema));
        if let Some(truth) = truth.as_ref().filter(|_| record.header.end_of_transaction) {
            let table = truth(position.commit_lsn.raw());
            for (_, id, row) in rows.values() {
                assert_eq!(table.get(id), Some(row), "row {id} at {position}");
            }
        }
    }
    let all = partitions.into_values().flat_map(|(_, rows)| rows.into_values());
    let mut table = Table::new();
    for (_, id, row) in all {
        assert!(table.insert(id, row).is_none(), "row {id} is held twice");
    }
    (table, ends)
}

/// Whether it is the end of a reload.
fn apply(rows: &mut Rows, record: &Stored, schema: &WriterSchema) -> bool {
    let Some(value) = &record.value else { return false };
    let body = framing::split(value).unwrap().1;
    match record.control {
        Some("truncate") => rows.clear(),
        Some("reload_end") => {
            let control = Control::decode(body).unwrap();
            let begin = control.begin.expect("an end tells its begin");
            let of_scope = |account: &str| control.account.as_deref().is_none_or(|scope| scope == account);
            rows.retain(|_, (version, _, row)| *version >= begin || !of_scope(&row.0));
            return true;
        }
        Some(_) => {}
        None => row(rows, record, &Envelope::decode(schema, body).unwrap()),
    }
    false
}

fn row(rows: &mut Rows, record: &Stored, envelope: &Envelope) {
    if envelope.op == Op::Delete {
        rows.remove(&record.key);
        return;
    }
    assert_eq!(envelope.op == Op::Read, envelope.source.snapshot == "incremental");
    let after = envelope.after.as_ref().expect("a row");
    let text = |name: &str| match after.get(name) {
        Some(apache_avro::types::Value::String(text)) => text.clone(),
        other => panic!("{name}: {other:?}"),
    };
    let id = text("id").parse().unwrap();
    rows.insert(record.key.clone(), (record.header.position, id, (text("account"), text("note"))));
}
