//! Random tables and events, in both formats of the stream: what the plan writes is, byte for byte, what apache-avro
//! writes for the equivalent value under the plan's own schemas; and what is read back is what was meant.

use crate::model::{Logical, Sent, decimal, info, key_kind, kind, nullable, present};
use crate::one_column::one_column;
use apache_avro::BigDecimal;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::decode::{Envelope, Row, WriterSchema, account_of_key};
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::framing;
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::plan::Plan;
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::ValueKind;
use proptest::prelude::*;

const ACCOUNT: &str = "7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c11";

#[derive(Clone, Debug)]
struct Case {
    shape: TableShape,
    op: Op,
    before: Option<Vec<Logical>>,
    after: Option<Vec<Logical>>,
    binary: bool,
    commit_time_us: i64,
    commit_lsn: u64,
    seq: u64,
    transaction: Option<Transaction>,
    row_lsn: Option<Lsn>,
}

/// A key column of a random kind, the account, then whatever else: kinds and whether they are excluded.
fn shape() -> impl Strategy<Value = TableShape> {
    let others = prop::collection::vec((kind(), prop::bool::weighted(0.2)), 0..12);
    (key_kind(), others, any::<bool>()).prop_map(|(key, others, source_in_key)| {
        let column = |name: String, kind, excluded| ColumnShape { name, type_info: info(kind), excluded };
        let mut columns = vec![column("key-0".into(), key, false), column("account_id".into(), ValueKind::Uuid, false)];
        columns.extend(
            others.into_iter().enumerate().map(|(index, (kind, excluded))| column(format!("c{index}"), kind, excluded)),
        );
        let names = ("penstock".to_owned(), "access".to_owned(), "größe".to_owned());
        TableShape {
            namespace: names.0,
            schema: names.1,
            table: names.2,
            columns,
            account: 1,
            key: vec![1, 0],
            source_in_key,
        }
    })
}

fn row(shape: &TableShape, unchanged: bool) -> BoxedStrategy<Vec<Logical>> {
    let values = shape.columns.iter().enumerate().map(|(index, column)| {
        let kind = column.type_info.kind;
        match (index, unchanged) {
            (0 | 1, _) => present(kind),
            (_, false) => nullable(kind),
            (_, true) => prop_oneof![1 => Just(Logical::Unchanged), 6 => nullable(kind)].boxed(),
        }
    });
    values.collect::<Vec<_>>().boxed()
}

fn case() -> impl Strategy<Value = Case> {
    let event = (
        any::<bool>(),
        any::<i64>(),
        any::<u64>(),
        any::<u64>(),
        any::<[u64; 2]>(),
        any::<u32>(),
        any::<Option<u64>>(),
    );
    let ops = prop::sample::select(vec![Op::Create, Op::Update, Op::Delete, Op::Read]);
    (shape(), event, ops).prop_flat_map(|(shape, event, op)| {
        let (binary, commit_time_us, commit_lsn, seq, [total_order, data_collection_order], xid, row_lsn) = event;
        let before = prop::option::of(row(&shape, false));
        let after = prop::option::of(row(&shape, true));
        (before, after).prop_map(move |(before, after)| Case {
            shape: shape.clone(),
            op,
            before,
            after,
            binary,
            commit_time_us,
            commit_lsn,
            seq,
            transaction: (op != Op::Read).then_some(Transaction { xid, total_order, data_collection_order }),
            row_lsn: row_lsn.map(Lsn),
        })
    })
}

impl Case {
    fn plan(&self) -> Plan {
        let source = SourceInfo { name: "main".into(), number: 7, database: "db".into() };
        let mut plan = Plan::compile(&self.shape, &source).unwrap();
        plan.registered(1, 2);
        plan
    }

    fn sent(&self, row: &[Logical]) -> Vec<Sent> {
        let kinds = self.shape.columns.iter().map(|column| column.type_info.kind);
        kinds.zip(row).map(|(kind, logical)| Sent::new(kind, logical, self.binary)).collect()
    }

    fn encoded(&self, plan: &Plan) -> Vec<u8> {
        let before = self.before.as_ref().map(|row| self.sent(row));
        let after = self.after.as_ref().map(|row| self.sent(row));
        let before = before.as_deref().map(columns);
        let after = after.as_deref().map(columns);
        let event = Event {
            op: self.op,
            before: before.as_deref(),
            after: after.as_deref(),
            commit_time_us: self.commit_time_us,
            commit_lsn: CommitLsn::new(self.commit_lsn),
            seq: Seq(self.seq),
            transaction: self.transaction,
            row_lsn: self.row_lsn,
        };
        let mut out = Vec::new();
        plan.encode_envelope(&event, &mut out).unwrap();
        out
    }

    /// The row's fields by their Avro names.
    fn fields(&self, row: &[Logical]) -> Vec<(String, Value)> {
        let travelling = self.shape.columns.iter().zip(row).filter(|(column, _)| !column.excluded);
        let name = |column: &ColumnShape| column.name.replace('-', "_x002D_");
        travelling.map(|(column, logical)| (name(column), logical.avro(column.type_info.kind))).collect()
    }

    fn unchanged(&self) -> Vec<String> {
        let row = self.after.as_deref().unwrap_or_default();
        let columns = self.shape.columns.iter().zip(row);
        columns
            .filter(|(column, logical)| !column.excluded && **logical == Logical::Unchanged)
            .map(|(column, _)| column.name.clone())
            .collect()
    }

    fn value(&self) -> Value {
        let optional_row =
            |row: &Option<Vec<Logical>>| optional(row.as_ref().map(|row| Value::Record(self.fields(row))));
        let ts_ms = Value::Long(self.commit_time_us.div_euclid(1000));
        let transaction = self.transaction.map(|transaction| {
            Value::Record(vec![
                ("id".into(), Value::String(format!("{}:{}", transaction.xid, self.commit_lsn))),
                ("total_order".into(), Value::Long(transaction.total_order.cast_signed())),
                ("data_collection_order".into(), Value::Long(transaction.data_collection_order.cast_signed())),
            ])
        });
        Value::Record(vec![
            ("before".into(), optional_row(&self.before)),
            ("after".into(), optional_row(&self.after)),
            ("source".into(), self.source(&ts_ms)),
            ("op".into(), Value::String(self.op.as_str().into())),
            ("ts_ms".into(), ts_ms),
            ("transaction".into(), optional(transaction)),
            ("unchanged".into(), Value::Array(self.unchanged().into_iter().map(Value::String).collect())),
        ])
    }

    fn source(&self, ts_ms: &Value) -> Value {
        let text = |text: &str| Value::String(text.to_owned());
        let bits = |number: u64| Value::Long(number.cast_signed());
        let snapshot = if self.op == Op::Read { "incremental" } else { "false" };
        let row_lsn = self.row_lsn.filter(|_| self.op != Op::Read);
        Value::Record(vec![
            ("version".into(), text("1")),
            ("connector".into(), text("postgresql")),
            ("name".into(), text("main")),
            ("ts_ms".into(), ts_ms.clone()),
            ("ts_us".into(), Value::Long(self.commit_time_us)),
            ("snapshot".into(), text(snapshot)),
            ("db".into(), text("db")),
            ("schema".into(), text("access")),
            ("table".into(), text("größe")),
            ("txId".into(), optional(self.transaction.map(|transaction| Value::Long(transaction.xid.into())))),
            ("lsn".into(), optional(row_lsn.map(|lsn| bits(lsn.0)))),
            ("commit_lsn".into(), bits(self.commit_lsn)),
            ("seq".into(), bits(self.seq)),
        ])
    }
}

fn columns(row: &[Sent]) -> Vec<Column<'_>> {
    row.iter().map(Sent::column).collect()
}

fn optional(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

fn oracle(schema: &str, value: Value) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// NaN is not equal to itself, and a decimal is read back with its scale; everything else is compared as it is.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (Value::Double(left), Value::Double(right)) => left.to_bits() == right.to_bits(),
        (Value::BigDecimal(read), Value::Decimal(meant)) | (Value::Decimal(meant), Value::BigDecimal(read)) => {
            *read == BigDecimal::new(meant.clone().into(), read.as_bigint_and_exponent().1)
        }
        (Value::Union(_, inner), other) | (other, Value::Union(_, inner)) => same(inner, other),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (left, right) => left == right,
    }
}

fn same_row(row: Option<&Row>, fields: Option<Vec<(String, Value)>>) -> bool {
    match (row, fields) {
        (None, None) => true,
        (Some(Row(row)), Some(fields)) => {
            row.len() == fields.len()
                && row.iter().zip(&fields).all(|(left, right)| left.0 == right.0 && same(&left.1, &right.1))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn an_envelope_is_what_apache_avro_writes(case in case()) {
        let plan = case.plan();
        let encoded = case.encoded(&plan);
        let (id, body) = framing::split(&encoded).unwrap();
        prop_assert_eq!(id, 2);
        prop_assert_eq!(body, oracle(plan.envelope_schema(), case.value()));
    }

    #[test]
    fn an_envelope_is_read_back_as_it_was_meant(case in case()) {
        let plan = case.plan();
        let encoded = case.encoded(&plan);
        let (_, body) = framing::split(&encoded).unwrap();
        let envelope = Envelope::decode(&WriterSchema::parse(plan.envelope_schema()).unwrap(), body).unwrap();
        prop_assert!(same_row(envelope.before.as_ref(), case.before.as_ref().map(|row| case.fields(row))));
        prop_assert!(same_row(envelope.after.as_ref(), case.after.as_ref().map(|row| case.fields(row))));
        prop_assert_eq!(envelope.op, case.op);
        prop_assert_eq!(envelope.unchanged, case.unchanged());
        prop_assert_eq!(envelope.source.commit_lsn, CommitLsn::new(case.commit_lsn));
        prop_assert_eq!(envelope.source.seq, Seq(case.seq));
        prop_assert_eq!(envelope.source.ts_us, case.commit_time_us);
        prop_assert_eq!(envelope.transaction.map(|place| place.total_order), case.transaction.map(|place| place.total_order));
    }

    #[test]
    fn a_key_is_what_apache_avro_writes(case in case()) {
        let plan = case.plan();
        let Some(row) = case.before.as_ref().or(case.after.as_ref()) else { return Ok(()) };
        let sent = case.sent(row);
        let mut encoded = Vec::new();
        plan.encode_key(&columns(&sent), Account::from_column(Some(ACCOUNT.as_bytes())).unwrap(), &mut encoded).unwrap();
        let (id, body) = framing::split(&encoded).unwrap();
        prop_assert_eq!(id, 1);
        prop_assert_eq!(account_of_key(body).unwrap(), ACCOUNT);
        let kind = |index: usize| case.shape.columns[index].type_info.kind;
        let mut fields = vec![("__account".to_owned(), Value::String(ACCOUNT.into()))];
        if case.shape.source_in_key {
            fields.push(("__source".to_owned(), Value::Int(7)));
        }
        fields.push(("account_id".to_owned(), row[1].avro_key(kind(1))));
        fields.push(("key_x002D_0".to_owned(), row[0].avro_key(kind(0))));
        prop_assert_eq!(body, oracle(plan.key_schema(), Value::Record(fields)));
    }

    #[test]
    fn both_formats_give_the_same_bytes(case in case()) {
        let plan = case.plan();
        let text = Case { binary: false, ..case.clone() }.encoded(&plan);
        let binary = Case { binary: true, ..case }.encoded(&plan);
        prop_assert_eq!(text, binary);
    }

    /// apache-avro's reading of a decimal prints what Postgres printed, whatever precision and scale.
    #[test]
    fn a_decimal_is_read_back_as_it_was_printed(
        (kind, logical) in (1..150_u16, -30..80_i16)
            .prop_map(|(precision, scale)| decimal(precision, scale))
            .prop_flat_map(|kind| (Just(kind), present(kind))),
        binary: bool,
    ) {
        let sent = Sent::new(kind, &logical, binary);
        let (plan, encoded) = one_column(kind, sent.column());
        let encoded = encoded.unwrap();
        let (_, body) = framing::split(&encoded).unwrap();
        let envelope = Envelope::decode(&WriterSchema::parse(plan.envelope_schema()).unwrap(), body).unwrap();
        let row = envelope.after.unwrap();
        let Some(Value::BigDecimal(number)) = row.get("any") else { panic!("{row:?} has no decimal") };
        prop_assert_eq!(number.to_plain_string(), logical.text(kind));
    }

    /// A record that was damaged on its way is refused or read as another; nothing panics.
    #[test]
    fn a_damaged_envelope_is_no_accident(case in case(), at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let plan = case.plan();
        let mut encoded = case.encoded(&plan);
        let end = 5 + cut.index(encoded.len() - 5);
        let schema = WriterSchema::parse(plan.envelope_schema()).unwrap();
        prop_assert!(Envelope::decode(&schema, &encoded[5..end]).is_err(), "cut off at {}", end);
        let at = 5 + at.index(encoded.len() - 5);
        encoded[at] = with;
        let _ = Envelope::decode(&schema, &encoded[5..]);
    }

    /// Whatever bytes arrive: a whole record, or an error that leaves the buffer as it was.
    #[test]
    fn any_bytes_are_a_value_or_an_error(kind in kind(), bytes in prop::collection::vec(any::<u8>(), 0..64), binary: bool) {
        let column = if binary { Column::Binary(&bytes) } else { Column::Text(&bytes) };
        let (plan, encoded) = one_column(kind, column);
        if let Ok(encoded) = encoded {
            let (_, body) = framing::split(&encoded).unwrap();
            let schema = WriterSchema::parse(plan.envelope_schema()).unwrap();
            prop_assert!(Envelope::decode(&schema, body).is_ok());
        }
    }
}
