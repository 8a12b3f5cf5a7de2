//! The worked example of `docs/wire.md` holds: its header, key and value are what this crate writes.

use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::plan::Plan;
use penstock_wire::position::{Position, Seq};
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{TypeInfo, ValueKind};

const DOCUMENT: &str = include_str!("../../../../docs/wire.md");
const ACCOUNT: &str = "c0a8f2be-5b1d-4b0e-9a52-1f0a5b3c7d11";
const COMMIT: CommitLsn = CommitLsn::new(0x016b_3748);

/// The example's fenced blocks of hexadecimal bytes, in order.
fn blocks() -> Vec<String> {
    let (_, example) = DOCUMENT.split_once("## Worked example").unwrap();
    let fenced = example.split("```").skip(1).step_by(2);
    let bytes = fenced.filter(|block| block.chars().all(|letter| letter.is_ascii_hexdigit() || letter.is_whitespace()));
    bytes.map(|block| block.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn plan() -> Plan {
    let column = |name: &str, kind, pg_type: &str| ColumnShape {
        name: name.to_owned(),
        type_info: TypeInfo { kind, pg_type: pg_type.to_owned(), pg_base: None },
        excluded: name == "secret",
    };
    let shape = TableShape {
        namespace: "penstock".into(),
        schema: "public".into(),
        table: "notes".into(),
        columns: vec![
            column("id", ValueKind::Int8, "bigint"),
            column("account_id", ValueKind::Uuid, "uuid"),
            column("body", ValueKind::Text, "text"),
            column("seen_at", ValueKind::Timestamptz, "timestamp with time zone"),
            column("secret", ValueKind::Text, "text"),
        ],
        account: 1,
        key: vec![0],
        source_in_key: false,
    };
    let source = SourceInfo { name: "main".into(), number: 1, database: "app".into() };
    let mut plan = Plan::compile(&shape, &source).unwrap();
    plan.registered(1, 2);
    plan
}

#[test]
fn the_worked_example_is_what_is_written() {
    let account = Account::from_column(Some(ACCOUNT.as_bytes())).unwrap();
    let row = [
        Column::Text(b"7"),
        Column::Text(ACCOUNT.as_bytes()),
        Column::Text("fünf".as_bytes()),
        Column::Null,
        Column::Text("…".as_bytes()),
    ];
    let header = Header {
        end_of_transaction: true,
        identity_only: false,
        source: 1,
        position: Position { epoch: 1, commit_lsn: COMMIT, seq: Seq(8) },
        previous: Position { epoch: 1, commit_lsn: CommitLsn::new(0x016b_3390), seq: Seq(16) },
    };
    let event = Event {
        op: Op::Create,
        before: None,
        after: Some(&row),
        commit_time_us: 1_735_689_600_123_456,
        commit_lsn: COMMIT,
        seq: Seq(8),
        transaction: Some(Transaction { xid: 741, total_order: 1, data_collection_order: 1 }),
        row_lsn: Some(Lsn(0x016b_3600)),
    };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    plan().encode_key(&row, account, &mut key).unwrap();
    plan().encode_envelope(&event, &mut value).unwrap();
    assert_eq!(blocks(), [hex(&header.encode()), hex(&key), hex(&value)]);
    assert_eq!(Partitioner::new(12).unwrap().partition(account).number(), 11);
}
