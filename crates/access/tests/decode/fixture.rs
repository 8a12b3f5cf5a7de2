//! Records as the bridge writes them: its own encode plan, fed with what Postgres prints, for the tables of
//! `tests/sql/access.sql`.

use penstock_access::decode::{Event, Names, Schemas};
use penstock_access::rows::Table;
use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::event::{Event as Written, Op, Transaction};
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::plan::Plan;
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{TypeInfo, ValueKind};

const DDL: &str = include_str!("../../../../tests/sql/access.sql");

pub const ACCOUNT: &str = "7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c11";
pub const ID: &str = "00000000-0000-4000-8000-0000000000aa";
pub const OTHER_ID: &str = "00000000-0000-4000-8000-0000000000bb";
pub const COMMIT_TIME_US: i64 = 1_715_938_304_123_456;
pub const KEY_SCHEMA: u32 = 1;
pub const VALUE_SCHEMA: u32 = 2;

/// A column's value as the stream brings it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Unchanged,
    Text(String),
}

pub type Cells = Vec<(String, Cell)>;

/// A framed key and value.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// The table as the product has it.
pub fn shape(table: Table) -> TableShape {
    let start = format!("CREATE TABLE {} (\n", table.name());
    let (_, body) = DDL.split_once(&start).unwrap();
    let (body, _) = body.split_once("\n);").unwrap();
    let lines = body.lines().map(str::trim).filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let columns: Vec<ColumnShape> = lines
        .map(|line| {
            let (name, declared) = line.split_once(' ').unwrap();
            let excluded = line.ends_with("-- secret");
            ColumnShape { excluded, ..column(name, kind(declared)) }
        })
        .collect();
    shape_of(table, columns)
}

/// The table with these columns, wherever its key and account stand among them.
pub fn shape_of(table: Table, columns: Vec<ColumnShape>) -> TableShape {
    let index = |name: &str| columns.iter().position(|column| column.name == name).unwrap();
    let key = match table {
        Table::ResourceConnections => vec![index("resource_id"), index("gateway_group_id")],
        _ => vec![index("id")],
    };
    let account = index(if table == Table::Accounts { "id" } else { "account_id" });
    TableShape {
        namespace: "penstock".into(),
        schema: "public".into(),
        table: table.name().into(),
        account,
        key,
        columns,
        source_in_key: false,
    }
}

pub fn column(name: &str, kind: ValueKind) -> ColumnShape {
    let type_info = TypeInfo { kind, pg_type: format!("{kind:?}"), pg_base: None };
    ColumnShape { name: name.to_owned(), type_info, excluded: false }
}

fn kind(declared: &str) -> ValueKind {
    let word = declared.split([' ', ',', '(']).next().unwrap();
    match word {
        "uuid" => ValueKind::Uuid,
        "varchar" | "text" | "citext" => ValueKind::Text,
        "jsonb" => ValueKind::Jsonb,
        "jsonb[]" => ValueKind::Jsonb.array(),
        "timestamp" => ValueKind::Timestamp,
        "timestamptz" => ValueKind::Timestamptz,
        "integer" => ValueKind::Int4,
        "inet" => ValueKind::Inet,
        "double" => ValueKind::Float8,
        other => panic!("a column of type {other:?}"),
    }
}

/// A row that is live, without the columns that no test speaks of.
pub fn sample(table: Table) -> Cells {
    let own: &[(&str, &str)] = match table {
        Table::Accounts => &[
            ("id", ACCOUNT),
            ("slug", "Acme"),
            (
                "config",
                r#"{"search_domain": "corp.example", "clients_upstream_dns": [{"protocol": "ip_port", "address": "192.0.2.53"}]}"#,
            ),
        ],
        Table::Actors => &[("type", "service_account")],
        Table::ActorGroups => &[("type", "managed")],
        Table::ActorGroupMemberships => &[("actor_id", OTHER_ID), ("group_id", ID)],
        Table::AuthProviders => &[("adapter", "google_workspace"), ("adapter_config", "{}")],
        Table::AuthIdentities => &[("provider_id", OTHER_ID)],
        Table::Tokens => &[
            ("type", "client"),
            ("actor_id", OTHER_ID),
            ("expires_at", "2021-01-01 10:00:00.5"),
            ("inserted_at", "2021-01-01 10:00:00+00"),
        ],
        Table::Clients => &[
            ("actor_id", OTHER_ID),
            ("identity_id", ID),
            ("last_used_token_id", ACCOUNT),
            ("public_key", "a2V5"),
            ("ipv4", "100.64.0.17"),
            ("ipv6", "fd00:2021:1111::17"),
            ("last_seen_version", "1.3.12"),
            ("last_seen_remote_ip", "2001:db8::1"),
            ("last_seen_remote_ip_location_region", "UA"),
            ("last_seen_remote_ip_location_city", "Київ"),
            ("last_seen_remote_ip_location_lat", "50.4333"),
            ("last_seen_remote_ip_location_lon", "-30.5167"),
            ("verified_at", "2021-01-01 10:00:00"),
        ],
        Table::GatewayGroups => &[("name", "Berlin"), ("managed_by", "system")],
        Table::Gateways => &[
            ("group_id", OTHER_ID),
            ("last_used_token_id", ACCOUNT),
            ("public_key", "a2V5"),
            ("ipv4", "100.64.0.18"),
            ("ipv6", "fd00:2021:1111::18"),
            ("last_seen_version", "1.4.0"),
            ("last_seen_remote_ip_location_lat", "50"),
            ("last_seen_remote_ip_location_lon", "30"),
        ],
        Table::Resources => &[
            ("name", "Wiki"),
            ("type", "dns"),
            ("address", "**.corp.example"),
            ("address_description", "the wiki"),
            ("ip_stack", "dual"),
            ("filters", r#"[{"protocol": "tcp", "ports": ["80", "8080 - 8090"]}, {"protocol": "icmp"}]"#),
        ],
        Table::ResourceConnections => &[("resource_id", ID), ("gateway_group_id", OTHER_ID)],
        Table::Policies => {
            &[("actor_group_id", ID), ("resource_id", OTHER_ID), ("conditions", r#"{"{\"property\": \"a\"}",NULL}"#)]
        }
        Table::Flows => &[
            ("policy_id", ID),
            ("client_id", OTHER_ID),
            ("gateway_id", ID),
            ("resource_id", OTHER_ID),
            ("token_id", ID),
            ("actor_group_membership_id", OTHER_ID),
            ("expires_at", "2021-01-01 10:00:00"),
            ("client_remote_ip", "192.0.2.1"),
        ],
    };
    let ids = match table {
        Table::Accounts => &[][..],
        Table::ResourceConnections => &[("account_id", ACCOUNT)],
        _ => &[("id", ID), ("account_id", ACCOUNT)],
    };
    ids.iter().chain(own).map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

/// The sample with one column otherwise.
pub fn with(table: Table, name: &str, cell: Cell) -> Cells {
    let mut cells = sample(table);
    cells.retain(|(column, _)| column != name);
    cells.push((name.to_owned(), cell));
    cells
}

pub fn plan(shape: &TableShape) -> Plan {
    let source = SourceInfo { name: "main".into(), number: 7, database: "portal".into() };
    let mut plan = Plan::compile(shape, &source).unwrap();
    plan.registered(KEY_SCHEMA, VALUE_SCHEMA);
    plan
}

/// Encodes a change of the row; columns that are not given are NULL. There is an old row wherever there can be one.
pub fn encode(shape: &TableShape, op: Op, cells: &Cells) -> Record {
    let plan = plan(shape);
    let cell = |name: &str| cells.iter().find(|(column, _)| column == name).map_or(&Cell::Null, |(_, cell)| cell);
    let column = |cell: &'static str| Column::Text(cell.as_bytes());
    let after: Vec<Column<'_>> = shape
        .columns
        .iter()
        .map(|column| match cell(&column.name) {
            Cell::Null => Column::Null,
            Cell::Unchanged => Column::Unchanged,
            Cell::Text(text) => Column::Text(text.as_bytes()),
        })
        .collect();
    // Another row altogether: nothing of it may be seen in the new one.
    let before: Vec<Column<'_>> = shape
        .columns
        .iter()
        .map(|shape| match shape.type_info.kind {
            ValueKind::Uuid => column("99999999-9999-4999-8999-999999999999"),
            ValueKind::Text => column("before"),
            ValueKind::Timestamp => column("1999-01-01 00:00:00"),
            _ => Column::Null,
        })
        .collect();
    let key_row: Vec<Column<'_>> =
        after.iter().map(|column| if column.is_empty() { Column::Text(ID.as_bytes()) } else { *column }).collect();
    let account = match cell(&shape.columns[shape.account].name) {
        Cell::Text(text) => Some(text.as_bytes()),
        Cell::Null | Cell::Unchanged => None,
    };
    let event = Written {
        op,
        before: matches!(op, Op::Update | Op::Delete).then_some(&before),
        after: (op != Op::Delete).then_some(&after),
        commit_time_us: COMMIT_TIME_US,
        commit_lsn: CommitLsn::new(0x16_b374_d848),
        seq: Seq(24),
        transaction: (op != Op::Read).then_some(Transaction { xid: 73_412, total_order: 2, data_collection_order: 1 }),
        row_lsn: Some(Lsn(0x16_b374_d000)),
    };
    let mut record = Record { key: Vec::new(), value: Vec::new() };
    plan.encode_key(&key_row, Account::from_column(account).unwrap(), &mut record.key).unwrap();
    plan.encode_envelope(&event, &mut record.value).unwrap();
    record
}

/// What the table's schemas are compiled to.
pub fn schemas(shape: &TableShape) -> Schemas {
    let mut schemas = Schemas::new(Names::default());
    let plan = plan(shape);
    schemas.insert(KEY_SCHEMA, plan.key_schema()).unwrap();
    schemas.insert(VALUE_SCHEMA, plan.envelope_schema()).unwrap();
    schemas
}

pub fn decode_as(shape: &TableShape, op: Op, cells: &Cells) -> Event {
    let record = encode(shape, op, cells);
    let schemas = schemas(shape);
    let key = schemas.decode_key(&record.key).unwrap();
    schemas.decode_value(&key, Some(&record.value)).unwrap().unwrap()
}

pub fn decode(table: Table, cells: &Cells) -> Event {
    decode_as(&shape(table), Op::Update, cells)
}
