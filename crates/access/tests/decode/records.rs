//! Whole records: every table, every operation, keys, and records that are none of these.

use std::net::IpAddr;
use std::sync::Arc;

use penstock_access::change::Action;
use penstock_access::decode::{Complaint, DecodeError, Key, Names, Problem, SchemaError, Schemas, Written};
use penstock_access::rows::*;
use penstock_wire::event::Op;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::Seq;
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{self, ACCOUNT, COMMIT_TIME_US, Cell, ID, KEY_SCHEMA, OTHER_ID, VALUE_SCHEMA, decode, text};

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn row_id(table: Table) -> RowId {
    match table {
        Table::Accounts => RowId::Id(id(ACCOUNT)),
        Table::ResourceConnections => RowId::Connection { resource: id(ID), gateway_group: id(OTHER_ID) },
        _ => RowId::Id(id(ID)),
    }
}

/// What [`fixture::sample`] is.
fn expected(table: Table) -> Row {
    let (own, other, account) = (id(ID), id(OTHER_ID), id(ACCOUNT));
    match table {
        Table::Accounts => Row::Account(AccountRow {
            live: true,
            slug: "Acme".into(),
            search_domain: Some("corp.example".into()),
            upstream_dns: vec![UpstreamDns { protocol: "ip_port".into(), address: "192.0.2.53".into() }],
        }),
        Table::Actors => Row::Actor(ActorRow { live: true }),
        Table::ActorGroups => Row::ActorGroup(ActorGroupRow { live: true }),
        Table::ActorGroupMemberships => Row::Membership(MembershipRow { actor: other, group: own }),
        Table::AuthProviders => Row::AuthProvider(AuthProviderRow { live: true }),
        Table::AuthIdentities => Row::AuthIdentity(AuthIdentityRow { live: true, provider: other }),
        Table::Tokens => {
            Row::Token(TokenRow { live: true, actor: Some(other), expires_at: Some(Micros(1_609_495_200_500_000)) })
        }
        Table::Clients => Row::Client(ClientRow {
            live: true,
            actor: other,
            identity: Some(own),
            last_used_token: Some(account),
            public_key: "a2V5".into(),
            ipv4: ip("100.64.0.17"),
            ipv6: ip("fd00:2021:1111::17"),
            last_seen_version: Some("1.3.12".into()),
            remote_ip: ip("2001:db8::1"),
            region: Some("UA".into()),
            coordinates: Some((50.4333, -30.5167)),
            verified: true,
        }),
        Table::GatewayGroups => Row::GatewayGroup(GatewayGroupRow { live: true, name: "Berlin".into() }),
        Table::Gateways => Row::Gateway(GatewayRow {
            live: true,
            group: other,
            last_used_token: Some(account),
            public_key: "a2V5".into(),
            ipv4: ip("100.64.0.18"),
            ipv6: ip("fd00:2021:1111::18"),
            last_seen_version: Some("1.4.0".into()),
            coordinates: Some((50.0, 30.0)),
        }),
        Table::Resources => Row::Resource(ResourceRow {
            live: true,
            name: "Wiki".into(),
            kind: ResourceKind::Dns,
            address: Some("**.corp.example".into()),
            address_description: Some("the wiki".into()),
            ip_stack: Some(IpStack::Dual),
            filters: Arc::new([
                Filter { protocol: Protocol::Tcp, ports: Some((80, 80)) },
                Filter { protocol: Protocol::Tcp, ports: Some((8080, 8090)) },
                Filter { protocol: Protocol::Icmp, ports: None },
            ]),
        }),
        Table::ResourceConnections => Row::ResourceConnection,
        Table::Policies => Row::Policy(PolicyRow {
            live: true,
            group: own,
            resource: other,
            conditions: Some(Arc::new([Some(json!({"property": "a"})), None])),
        }),
        Table::Flows => Row::Flow(FlowRow {
            live: true,
            policy: own,
            client: other,
            gateway: own,
            resource: other,
            token: own,
            membership: other,
            expires_at: Some(Micros(1_609_495_200_000_000)),
        }),
    }
}

#[test]
fn every_table_and_every_operation() {
    for table in Table::ALL {
        for op in [Op::Create, Op::Update, Op::Read, Op::Delete] {
            let event = fixture::decode_as(&fixture::shape(table), op, &fixture::sample(table));
            let (id, row) = (row_id(table), expected(table));
            assert_eq!(row.table(), table);
            let action = match op {
                Op::Create => Action::Insert(id, row),
                Op::Update => Action::Update(id, row),
                Op::Read => Action::Load(id, row),
                Op::Delete => Action::Delete(id),
            };
            let written = Written { time_us: COMMIT_TIME_US, commit_lsn: CommitLsn::new(0x16_b374_d848), seq: Seq(24) };
            assert_eq!((event.table, event.action), (table, action), "{op:?}");
            assert_eq!((event.written, event.problems), (Some(written), vec![]), "{table:?} {op:?}");
        }
    }
}

#[test]
fn the_products_schemas_lack_nothing() {
    for table in Table::ALL {
        let plan = fixture::plan(&fixture::shape(table));
        let mut schemas = Schemas::default();
        assert_eq!(schemas.insert(1, plan.key_schema()).unwrap(), []);
        assert_eq!(schemas.insert(2, plan.envelope_schema()).unwrap(), [], "{table:?}");
        assert!(schemas.knows(1) && schemas.knows(2) && !schemas.knows(3));
    }
}

#[test]
fn a_tombstone_has_only_its_key() {
    for table in Table::ALL {
        let shape = fixture::shape(table);
        let record = fixture::encode(&shape, Op::Delete, &fixture::sample(table));
        let schemas = fixture::schemas(&shape);
        let key = schemas.decode_key(&record.key).unwrap();
        assert_eq!(key, Key { account: ACCOUNT, source: None, row: Some((table, row_id(table))) });
        let event = schemas.decode_value(&key, None).unwrap().unwrap();
        assert_eq!((event.table, event.action, event.written), (table, Action::Delete(row_id(table)), None));
    }
}

#[test]
fn a_key_may_name_its_source_and_have_its_columns_in_any_order() {
    for table in [Table::Clients, Table::ResourceConnections] {
        let mut shape = fixture::shape(table);
        shape.source_in_key = true;
        shape.key.reverse();
        let record = fixture::encode(&shape, Op::Create, &fixture::sample(table));
        let schemas = fixture::schemas(&shape);
        let key = schemas.decode_key(&record.key).unwrap();
        assert_eq!(key, Key { account: ACCOUNT, source: Some(7), row: Some((table, row_id(table))) });
    }
}

#[test]
fn only_tokens_may_belong_to_no_account() {
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Accounts) {
        let event = decode(table, &fixture::with(table, "account_id", Cell::Null));
        let problem = Problem { column: "account_id", complaint: Complaint::NoAccount };
        let expected = if table == Table::Tokens { vec![] } else { vec![problem] };
        assert_eq!(event.problems, expected, "{table:?}");
    }
}

#[test]
fn records_of_other_tables_are_passed_over() {
    let mut shape = fixture::shape(Table::Clients);
    shape.table = "devices".into();
    let record = fixture::encode(&shape, Op::Create, &fixture::sample(Table::Clients));
    let schemas = fixture::schemas(&shape);
    let key = schemas.decode_key(&record.key).unwrap();
    assert_eq!(key, Key { account: ACCOUNT, source: None, row: None });
    assert_eq!(schemas.decode_value(&key, Some(&record.value)), Ok(None));
    assert_eq!(schemas.decode_value(&key, Some(b"not even framed")), Ok(None));
    assert_eq!(schemas.decode_value(&key, None), Ok(None));

    let names = Names { renamed: [(Table::Clients, "devices".to_owned())].into(), ..Names::default() };
    let mut schemas = Schemas::new(names);
    let plan = fixture::plan(&shape);
    schemas.insert(KEY_SCHEMA, plan.key_schema()).unwrap();
    schemas.insert(VALUE_SCHEMA, plan.envelope_schema()).unwrap();
    let key = schemas.decode_key(&record.key).unwrap();
    assert_eq!(key.row, Some((Table::Clients, row_id(Table::Clients))));
    assert!(schemas.decode_value(&key, Some(&record.value)).unwrap().is_some());
}

#[test]
fn any_schema_that_is_none_of_the_domain_is_taken() {
    let mut schemas = Schemas::default();
    for schema in [
        r#""string""#,
        "[]",
        "7",
        r#"{"type":"map","values":"string"}"#,
        r#"{"type":"record","name":"penstock.public.widgets.Envelope","fields":"nonsense"}"#,
        r#"{"type":"record","name":"Value","namespace":"penstock.public.clients"}"#,
    ] {
        assert_eq!(schemas.insert(1, schema).unwrap(), [], "{schema}");
    }
    assert!(matches!(schemas.insert(1, "{"), Err(SchemaError::Json(_))));
}

#[test]
fn schemas_of_the_domain_that_the_bridge_cannot_have_written_are_refused() {
    let plan = fixture::plan(&fixture::shape(Table::Clients));
    let (key, envelope) = (plan.key_schema(), plan.envelope_schema());
    let uuid = r#"{"type":"string","logicalType":"uuid"}"#;
    let client_id = format!(r#"{{"name":"id","type":{uuid}}}"#);
    let account = r#"{"name":"__account","type":"string"}"#;
    for schema in [
        key.replace(&client_id, r#"{"name":"id","type":"long"}"#),
        key.replace(&client_id, r#"{"name":"uid","type":"string"}"#),
        key.replace(&client_id, &format!("{client_id},{client_id}")),
        key.replace(&format!(",{client_id}"), ""),
        key.replace(&format!("{account},"), ""),
        key.replace(account, r#"{"name":"__account","type":"bytes"}"#),
        key.replace(account, r#"{"name":"__account"}"#),
        key.replace(r#""fields""#, r#""felder""#),
        envelope.replace(r#"{"name":"op","type":"string"}"#, r#"{"name":"op","type":"bytes"}"#),
        envelope.replace(r#"{"name":"op","type":"string"},"#, ""),
        envelope.replace(r#"{"name":"ts_us","type":"long"}"#, r#"{"name":"ts_us","type":"string"}"#),
        envelope.replace(r#"{"name":"seq","type":"long"}"#, r#"{"name":"sequence","type":"long"}"#),
        envelope.replace(r#""name":"after","type":["null","#, r#""name":"after","type":["string","#),
        envelope.replace(r#""name":"after""#, r#""name":"then""#),
        envelope.replace(
            r#""name":"unchanged","type":{"type":"array","items":"string"}"#,
            r#""name":"unchanged","type":"string""#,
        ),
        envelope.replace(r#"["null","int"]"#, r#"["null","decimal"]"#).replace(
            r#""name":"psk_base","type":["null","string"]"#,
            r#""name":"psk_base","type":["null",["string"]]"#,
        ),
        envelope.replace(
            r#""name":"psk_base","type":["null","string"]"#,
            r#""name":"psk_base","type":["null","penstock.public.clients.Value"]"#,
        ),
        envelope.replace(
            r#""name":"psk_base","type":["null","string"]"#,
            r#""name":"psk_base","type":{"type":"array","items":"null"}"#,
        ),
        envelope.replace(
            r#""name":"psk_base","type":["null","string"]"#,
            r#""name":"psk_base","type":{"type":"fixed","name":"f","size":4}"#,
        ),
        envelope.replace(r#""name":"Transaction","namespace":"penstock.wire""#, r#""name":"penstock.wire.Source""#),
    ] {
        assert!(schema != key && schema != envelope, "nothing was replaced");
        let mut schemas = Schemas::default();
        let refused = schemas.insert(1, &schema);
        assert!(
            matches!(refused, Err(SchemaError::Form { .. } | SchemaError::Unsupported { .. })),
            "{refused:?}: {schema}"
        );
        assert!(!schemas.knows(1));
    }
}

#[test]
fn records_that_are_not_what_they_should_be_are_refused() {
    let shape = fixture::shape(Table::Clients);
    let record = fixture::encode(&shape, Op::Create, &fixture::sample(Table::Clients));
    let schemas = fixture::schemas(&shape);
    let key = schemas.decode_key(&record.key).unwrap();
    let table = Table::Clients;

    let unknown = Schemas::default();
    assert_eq!(unknown.decode_key(&record.key), Err(DecodeError::UnknownSchema(KEY_SCHEMA)));
    assert_eq!(unknown.decode_value(&key, Some(&record.value)), Err(DecodeError::UnknownSchema(VALUE_SCHEMA)));
    assert_eq!(schemas.decode_key(&[0, 0, 0, 0, 1, 4, b'a']), Err(DecodeError::Account));
    assert_eq!(schemas.decode_key(&[0, 0, 0, 0, 1, 2, 0xff]), Err(DecodeError::Account));
    let envelope = [&[0, 0, 0, 0, 2][..], &record.key[5..]].concat();
    assert_eq!(schemas.decode_key(&envelope), Err(DecodeError::NoKey(VALUE_SCHEMA)));
    let no_envelope = DecodeError::NoEnvelope { schema: KEY_SCHEMA, table };
    assert_eq!(schemas.decode_value(&key, Some(&record.key)), Err(no_envelope));
    assert!(matches!(schemas.decode_key(&[]), Err(DecodeError::Frame(_))));
    assert!(matches!(schemas.decode_value(&key, Some(&[1, 0, 0, 0, 2])), Err(DecodeError::Frame(_))));
    let other = Key { row: Some((Table::Actors, row_id(Table::Actors))), ..key };
    let no_envelope = DecodeError::NoEnvelope { schema: VALUE_SCHEMA, table: Table::Actors };
    assert_eq!(schemas.decode_value(&other, Some(&record.value)), Err(no_envelope));

    // An insert whose new row is gone.
    let mut value = fixture::encode(&shape, Op::Delete, &fixture::sample(table)).value;
    let op = value.windows(2).rposition(|window| window == b"\x02d").unwrap();
    value[op + 1] = b'u';
    let refused = schemas.decode_value(&key, Some(&value));
    assert_eq!(refused, Err(DecodeError::NoRow { table, op: Op::Update }));
    value[op + 1] = b't';
    let refused = schemas.decode_value(&key, Some(&value));
    assert_eq!(refused, Err(DecodeError::Value { schema: VALUE_SCHEMA, table, part: "op" }));
    assert_eq!(refused.unwrap_err().to_string(), "in an envelope of clients, op is not what schema 2 says");

    let mut long = record.value.clone();
    long.push(0);
    assert!(matches!(schemas.decode_value(&key, Some(&long)), Err(DecodeError::Value { .. })));
    let mut key = record.key.clone();
    key.push(0);
    assert_eq!(schemas.decode_key(&key), Err(DecodeError::Key { schema: KEY_SCHEMA, table }));
    *key.last_mut().unwrap() = b'g';
    key.remove(key.len() - 2);
    assert_eq!(schemas.decode_key(&key), Err(DecodeError::Key { schema: KEY_SCHEMA, table }));
}

#[test]
fn a_membership_that_cannot_be_read_is_none() {
    for cell in [Cell::Null, Cell::Unchanged] {
        let table = Table::ActorGroupMemberships;
        let event = decode(table, &fixture::with(table, "group_id", cell));
        assert_eq!(event.action, Action::Delete(row_id(table)));
        assert_eq!(event.problems.len(), 1);
    }
    for table in [Table::ActorGroupMemberships, Table::ResourceConnections] {
        let mut shape = fixture::shape(table);
        shape.columns.push(fixture::column("deleted_at", penstock_wire::types::ValueKind::Timestamptz));
        let gone = fixture::with(table, "deleted_at", text("2021-01-01 10:00:00+00"));
        assert_eq!(fixture::decode_as(&shape, Op::Create, &gone).action, Action::Delete(row_id(table)));
        let there = fixture::decode_as(&shape, Op::Create, &fixture::sample(table));
        assert_eq!(there.action, Action::Insert(row_id(table), expected(table)));
    }
}
