//! What a plan demands of a table, how names and schemas come out, and what a refused row leaves behind.

use crate::model::{decimal, info};
use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::plan::{Plan, PlanError, ValueError};
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{Refusal, TypeInfo, ValueKind};

fn column(name: &str, kind: ValueKind) -> ColumnShape {
    ColumnShape { name: name.to_owned(), type_info: info(kind), excluded: false }
}

/// `access.grants`: account, a secret, the key, a text.
fn grants() -> TableShape {
    TableShape {
        namespace: "penstock".into(),
        schema: "access".into(),
        table: "grants".into(),
        columns: vec![
            column("account_id", ValueKind::Uuid),
            ColumnShape { excluded: true, ..column("secret", ValueKind::Bytea) },
            column("id", ValueKind::Int4),
            column("note", ValueKind::Text),
        ],
        account: 0,
        key: vec![2],
        source_in_key: false,
    }
}

fn source() -> SourceInfo {
    SourceInfo { name: "main".into(), number: 7, database: "portal".into() }
}

fn refusal(change: impl FnOnce(&mut TableShape)) -> String {
    let mut shape = grants();
    change(&mut shape);
    Plan::compile(&shape, &source()).map(|_| ()).unwrap_err().to_string()
}

fn plan(change: impl FnOnce(&mut TableShape)) -> Plan {
    let mut shape = grants();
    change(&mut shape);
    let mut plan = Plan::compile(&shape, &source()).unwrap();
    plan.registered(1, 2);
    plan
}

fn update<'a>(before: Option<&'a [Column<'a>]>, after: &'a [Column<'a>]) -> Event<'a> {
    Event {
        op: Op::Update,
        before,
        after: Some(after),
        commit_time_us: 0,
        commit_lsn: CommitLsn::new(1),
        seq: Seq(8),
        transaction: Some(Transaction { xid: 1, total_order: 1, data_collection_order: 1 }),
        row_lsn: None,
    }
}

const ACCOUNT: Column<'_> = Column::Text(b"7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c11");
const SECRET: Column<'_> = Column::Text(b"not even bytea");
const ROW: [Column<'_>; 4] = [ACCOUNT, SECRET, Column::Text(b"1"), Column::Text(b"n")];

#[test]
fn a_table_that_cannot_be_captured_is_refused_with_what_to_do() {
    type Change = fn(&mut TableShape);
    let cases: [(&str, Change); 10] = [
        ("no key: the table needs a primary key", |shape| shape.key.clear()),
        ("the key column is not in the relation", |shape| shape.key = vec![9]),
        ("the account column is not in the relation", |shape| shape.account = 9),
        ("key column \"secret\" is excluded", |shape| shape.key = vec![1]),
        ("account column \"secret\" is excluded", |shape| shape.account = 1),
        ("column \"id\" stands twice", |shape| shape.key = vec![2, 2]),
        ("must not be called \"__account\"", |shape| shape.columns[2].name = "__account".into()),
        ("must not be called \"__source\"", |shape| shape.columns[2].name = "__source".into()),
        ("namespace \"penstock.9\" is not made of names", |shape| shape.namespace = "penstock.9".into()),
        ("a schema, table or column name is empty", |shape| shape.columns[3].name.clear()),
    ];
    for (expected, change) in cases {
        let message = refusal(change);
        assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
    }
}

#[test]
fn names_that_meet_in_avro_are_refused_unless_one_does_not_travel() {
    let meet = |shape: &mut TableShape| {
        shape.columns[1].name = "a-b".into();
        shape.columns[3].name = "a_x002D_b".into();
    };
    assert!(
        Plan::compile(
            &{
                let mut shape = grants();
                meet(&mut shape);
                shape
            },
            &source()
        )
        .is_ok()
    );
    let message = refusal(|shape| {
        meet(shape);
        shape.columns[1].excluded = false;
    });
    assert_eq!(
        message,
        r#"columns "a-b" and "a_x002D_b" both become the Avro name "a_x002D_b"; exclude or rename one of them"#
    );
}

#[test]
fn an_account_is_of_a_type_whose_text_is_its_equality() {
    let of = |kind, pg_type: &str, pg_base: Option<&str>| {
        let mut shape = grants();
        shape.columns[0].type_info = TypeInfo { kind, pg_type: pg_type.into(), pg_base: pg_base.map(str::to_owned) };
        Plan::compile(&shape, &source()).map(|_| ())
    };
    for (kind, pg_type, pg_base) in [
        (ValueKind::Uuid, "uuid", None),
        (ValueKind::Int2, "smallint", None),
        (ValueKind::Int8, "bigint", None),
        (ValueKind::Text, "text", None),
        (ValueKind::Text, "character varying(36)", None),
        (ValueKind::Text, "account_name", Some("character varying(36)")),
    ] {
        assert!(of(kind, pg_type, pg_base).is_ok(), "{pg_type}");
    }
    for (kind, pg_type, pg_base) in [
        (ValueKind::Text, "citext", None),
        (ValueKind::Text, "character(36)", None),
        (ValueKind::Text, "text_like", Some("citext")),
        (ValueKind::Numeric, "numeric", None),
        (ValueKind::Uuid.array(), "uuid[]", None),
        (ValueKind::String, "interval", None),
    ] {
        assert!(matches!(of(kind, pg_type, pg_base), Err(PlanError::AccountType { .. })), "{pg_type}");
    }
}

#[test]
fn schemas_are_the_same_text_every_time() {
    let plan = plan(|shape| shape.source_in_key = true);
    assert_eq!(
        plan.key_schema(),
        concat!(
            r#"{"type":"record","name":"Key","namespace":"penstock.access.grants","fields":["#,
            r#"{"name":"__account","type":"string"},{"name":"__source","type":"int"},{"name":"id","type":"long"}]}"#
        )
    );
    let start = concat!(
        r#"{"type":"record","name":"Envelope","namespace":"penstock.access.grants","fields":["#,
        r#"{"name":"before","type":["null",{"type":"record","name":"Value","namespace":"penstock.access.grants","fields":["#,
        r#"{"name":"account_id","type":["null",{"type":"string","logicalType":"uuid"}],"default":null,"pg.type":"Uuid"},"#,
        r#"{"name":"id","type":["null","int"],"default":null,"pg.type":"Int4"},"#,
        r#"{"name":"note","type":["null","string"],"default":null,"pg.type":"Text"}]}],"default":null},"#,
        r#"{"name":"after","type":["null","penstock.access.grants.Value"],"default":null},"#,
        r#"{"name":"source","type":{"type":"record","name":"Source","namespace":"penstock.wire","fields":["#,
    );
    assert!(plan.envelope_schema().starts_with(start), "{}", plan.envelope_schema());
    assert_eq!(plan.key_subject("access.changes"), "access.changes-penstock.access.grants.Key");
    assert_eq!(plan.envelope_subject("access.changes"), "access.changes-penstock.access.grants.Envelope");
    assert_eq!(plan.key_columns().collect::<Vec<_>>(), ["id"]);
}

#[test]
fn a_decimal_has_precision_and_scale_in_the_schema_and_is_no_key() {
    let chosen = |shape: &mut TableShape, index: usize| {
        shape.columns[index].type_info =
            TypeInfo { kind: decimal(12, 2), pg_type: "numeric(12,2)".into(), pg_base: None };
    };
    let plan = plan(|shape| chosen(shape, 3));
    let field = concat!(
        r#"{"name":"note","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"#,
        r#""default":null,"pg.type":"numeric(12,2)"}"#
    );
    assert!(plan.envelope_schema().contains(field), "{}", plan.envelope_schema());
    assert_eq!(
        refusal(|shape| chosen(shape, 2)),
        r#"key column "id" must not travel as a decimal: numeric in keys is a string"#
    );

    let mut out = Vec::new();
    for (printed, reason) in [("NaN", Refusal::NotFinite), ("12345678901.23", Refusal::Malformed)] {
        let row = [ACCOUNT, SECRET, Column::Text(b"1"), Column::Text(printed.as_bytes())];
        let error = plan.encode_envelope(&update(None, &row), &mut out).unwrap_err();
        let expected = ValueError::Column { column: "note".into(), pg_type: "numeric(12,2)".into(), reason };
        assert_eq!((error, out.as_slice()), (expected, [].as_slice()), "{printed}");
    }
}

#[test]
fn true_names_and_base_types_stand_beside_the_escaped() {
    let plan = plan(|shape| {
        shape.schema = "my schema".into();
        shape.columns[3] = ColumnShape {
            name: "say \"hi\"".into(),
            type_info: TypeInfo { kind: ValueKind::Text.array(), pg_type: "d".into(), pg_base: Some("text[]".into()) },
            excluded: false,
        };
    });
    let field = concat!(
        r#"{"name":"say_x0020__x0022_hi_x0022_","type":["null",{"type":"array","items":["null","string"]},"string"],"#,
        r#""default":null,"pg.type":"d","pg.base":"text[]","pg.name":"say \"hi\""}"#
    );
    assert!(plan.envelope_schema().contains(field), "{}", plan.envelope_schema());
    assert_eq!(plan.record_namespace(), "penstock.my_x0020_schema.grants");
}

#[test]
fn an_excluded_column_is_never_looked_at() {
    let plan = plan(|_| {});
    assert!(!plan.envelope_schema().contains("secret"));
    let mut out = Vec::new();
    plan.encode_envelope(&update(Some(&ROW), &ROW), &mut out).unwrap();
    assert!(!out.windows(SECRET.len()).any(|window| window == b"not even bytea"));
}

#[test]
fn an_unchanged_column_is_null_and_listed() {
    let plan = plan(|shape| shape.columns[3].name = "no-te".into());
    let unchanged = [ACCOUNT, Column::Unchanged, Column::Text(b"1"), Column::Unchanged];
    let mut out = Vec::new();
    plan.encode_envelope(&update(None, &unchanged), &mut out).unwrap();
    // One name, by which the value stands in the schema; the excluded column is not told.
    assert!(out.ends_with(b"\x02\x16no_x002D_te\0"), "{out:?}");
}

#[test]
fn a_refused_row_leaves_the_buffer_as_it_was_and_no_value_in_the_error() {
    let plan = plan(|_| {});
    let wrong = [ACCOUNT, SECRET, Column::Text(b"secret-7"), Column::Null];
    let mut out = b"earlier".to_vec();
    let error = plan.encode_envelope(&update(None, &wrong), &mut out).unwrap_err();
    assert_eq!(out, b"earlier");
    assert_eq!(error.to_string(), "column \"id\" of type Int4: the bytes are not what Postgres prints for this type");
    assert!(!format!("{error:?}").contains("secret-7"));
    let error = plan.encode_key(&wrong, Account::NONE, &mut out).unwrap_err();
    assert!(matches!(error, ValueError::Column { reason: Refusal::Malformed, .. }));
    assert_eq!(out, b"earlier");
}

#[test]
fn key_columns_must_be_there() {
    let plan = plan(|_| {});
    for (id, expected) in [(Column::Null, Refusal::NullInKey), (Column::Unchanged, Refusal::NotSent)] {
        let error = plan.encode_key(&[ACCOUNT, SECRET, id, Column::Null], Account::NONE, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, ValueError::Column { reason, .. } if reason == expected), "{error}");
    }
}

#[test]
fn an_old_row_has_no_unchanged_columns() {
    let plan = plan(|_| {});
    let before = [ACCOUNT, SECRET, Column::Text(b"1"), Column::Unchanged];
    let error = plan.encode_envelope(&update(Some(&before), &ROW), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ValueError::Column { reason: Refusal::NotSent, .. }), "{error}");
}

#[test]
fn a_row_of_another_relation_is_refused() {
    let plan = plan(|_| {});
    let expected = ValueError::Width { expected: 4, found: 3 };
    assert_eq!(plan.encode_envelope(&update(None, &ROW[..3]), &mut Vec::new()), Err(expected.clone()));
    assert_eq!(plan.encode_key(&ROW[..3], Account::NONE, &mut Vec::new()), Err(expected));
}

#[test]
fn nothing_is_encoded_before_the_schemas_are_registered() {
    let plan = Plan::compile(&grants(), &source()).unwrap();
    assert_eq!(plan.encode_key(&ROW, Account::NONE, &mut Vec::new()), Err(ValueError::NotRegistered));
    assert_eq!(plan.encode_envelope(&update(None, &ROW), &mut Vec::new()), Err(ValueError::NotRegistered));
}

#[test]
#[should_panic(expected = "op Read with transaction Some")]
fn a_backfilled_row_belongs_to_no_transaction() {
    let event = Event { op: Op::Read, ..update(None, &ROW) };
    let _ = plan(|_| {}).encode_envelope(&event, &mut Vec::new());
}
