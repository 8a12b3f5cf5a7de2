//! Any bytes in the place of a column's value, for every kind of type and in both formats of the stream: bytes that
//! the table's schema describes, or an error. What is taken in binary is printed as text that gives the same bytes.
//!
//! The first line chooses: `text ` or `binary `, and the kind by the name that the golden values give it. Any other line
//! chooses, too, so that no input is wasted.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::decode::{Envelope, WriterSchema, account_of_key};
use penstock_wire::event::{Event, Op};
use penstock_wire::framing;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::plan::Plan;
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{TypeInfo, ValueKind, put_postgres_text};

const KINDS: [(&str, ValueKind); 18] = [
    ("bool", ValueKind::Bool),
    ("int2", ValueKind::Int2),
    ("int4", ValueKind::Int4),
    ("int8", ValueKind::Int8),
    ("float4", ValueKind::Float4),
    ("float8", ValueKind::Float8),
    ("numeric", ValueKind::Numeric),
    ("uuid", ValueKind::Uuid),
    ("timestamptz", ValueKind::Timestamptz),
    ("timestamp", ValueKind::Timestamp),
    ("date", ValueKind::Date),
    ("time", ValueKind::Time),
    ("bytea", ValueKind::Bytea),
    ("text", ValueKind::Text),
    ("jsonb", ValueKind::Jsonb),
    ("inet", ValueKind::Inet),
    ("macaddr", ValueKind::Macaddr),
    ("string", ValueKind::String),
];

struct Table {
    name: String,
    kind: ValueKind,
    plan: Plan,
    key: WriterSchema,
    envelope: WriterSchema,
}

/// A table for each kind and for each array.
static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let arrays = KINDS.iter().map(|(name, kind)| table(format!("{name}[]"), kind.array()));
    KINDS.iter().map(|(name, kind)| table((*name).to_owned(), *kind)).chain(arrays).collect()
});

fn table(name: String, kind: ValueKind) -> Table {
    let column = |name: &str, kind: ValueKind| ColumnShape {
        name: name.into(),
        type_info: TypeInfo { kind, pg_type: "a type".into(), pg_base: None },
        excluded: false,
    };
    let shape = TableShape {
        namespace: "penstock".into(),
        schema: "s".into(),
        table: "t".into(),
        columns: vec![column("id", ValueKind::Int4), column("value", kind)],
        account: 0,
        key: vec![0, 1],
        source_in_key: false,
    };
    let source = SourceInfo { name: "s".into(), number: 1, database: "d".into() };
    let mut plan = Plan::compile(&shape, &source).expect("a plan");
    plan.registered(1, 2);
    let schema = |text: &str| WriterSchema::parse(text).expect("a plan's schemas are valid");
    Table { name, kind, key: schema(plan.key_schema()), envelope: schema(plan.envelope_schema()), plan }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(choice), Some(value)) = (lines.next(), lines.next()) else { return Corpus::Reject };
    let (binary, name) = match choice.strip_prefix(b"binary ") {
        Some(name) => (true, name),
        None => (false, choice.strip_prefix(b"text ").unwrap_or(choice)),
    };
    let any = || TABLES.get(name.iter().map(|byte| usize::from(*byte)).sum::<usize>() % TABLES.len());
    let Some(table) = TABLES.iter().find(|table| table.name.as_bytes() == name).or_else(any) else {
        return Corpus::Reject;
    };
    match binary {
        true => table.check_binary(value),
        false => drop(table.encode(Column::Text(value))),
    }
    Corpus::Keep
});

impl Table {
    fn check_binary(&self, value: &[u8]) {
        let Some(encoded) = self.encode(Column::Binary(value)) else { return };
        let mut printed = Vec::new();
        put_postgres_text(self.kind, value, &mut printed).expect("what is encoded can be printed");
        let from_text = self.encode(Column::Text(&printed));
        assert_eq!(from_text, Some(encoded), "{}, printed as {:?}", self.name, String::from_utf8_lossy(&printed));
    }

    /// The envelope, which must be read with its schema; so must the key. `None` if the value is refused.
    fn encode(&self, value: Column<'_>) -> Option<Vec<u8>> {
        let row = [Column::Text(b"1"), value];
        let event = Event {
            op: Op::Read,
            before: None,
            after: Some(&row),
            commit_time_us: 0,
            commit_lsn: CommitLsn::new(1),
            seq: Seq(8),
            transaction: None,
            row_lsn: None,
        };
        let (mut key, mut envelope) = (Vec::new(), Vec::new());
        let account = Account::from_column(Some(b"1")).expect("an account");
        let in_key = self.plan.encode_key(&row, account, &mut key);
        let in_row = self.plan.encode_envelope(&event, &mut envelope);
        assert_eq!(in_key.is_ok(), in_row.is_ok(), "key: {in_key:?}, row: {in_row:?}");
        if in_row.is_err() {
            assert!(key.is_empty() && envelope.is_empty(), "a refused row leaves the buffer as it was");
            return None;
        }
        let (_, body) = framing::split(&key).expect("a framed key");
        self.key.read(body).expect("a key of its schema");
        assert_eq!(account_of_key(body).expect("an account"), "1");
        let (_, body) = framing::split(&envelope).expect("a framed envelope");
        Envelope::decode(&self.envelope, body).expect("an envelope of its schema");
        Some(envelope)
    }
}
