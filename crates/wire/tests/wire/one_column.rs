//! The smallest table there is: an account, which is its key, and one column of any kind.

use penstock_wire::column::Column;
use penstock_wire::event::{Event, Op};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::plan::{Plan, ValueError};
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::ValueKind;

use crate::model::info;

/// A row of an account and a column `any`, encoded behind what was in the buffer.
pub fn one_column(kind: ValueKind, column: Column<'_>) -> (Plan, Result<Vec<u8>, ValueError>) {
    let shape = TableShape {
        namespace: "penstock".into(),
        schema: "s".into(),
        table: "t".into(),
        columns: vec![
            ColumnShape { name: "account_id".into(), type_info: info(ValueKind::Int4), excluded: false },
            ColumnShape { name: "any".into(), type_info: info(kind), excluded: false },
        ],
        account: 0,
        key: vec![0],
        source_in_key: false,
    };
    let mut plan = Plan::compile(&shape, &SourceInfo { name: "s".into(), number: 1, database: "d".into() }).unwrap();
    plan.registered(1, 2);
    let row = [Column::Text(b"1"), column];
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
    let mut out = vec![1, 2, 3];
    let encoded = plan.encode_envelope(&event, &mut out);
    assert_eq!(out[..3], [1, 2, 3]);
    assert!(encoded.is_ok() || out.len() == 3, "a refused row leaves something behind");
    (plan, encoded.map(|()| out.split_off(3)))
}
