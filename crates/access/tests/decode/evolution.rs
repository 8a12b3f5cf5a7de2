//! Tables change while the topic keeps what was written before: columns are found by name, whatever stands around them.

use penstock_access::change::Action;
use penstock_access::decode::{Complaint, Event};
use penstock_access::rows::{Micros, Row, Table};
use penstock_wire::event::Op;
use penstock_wire::table::TableShape;
use penstock_wire::types::{Decimal, TypeInfo, ValueKind};

use crate::fixture::{Cell, column, decode, decode_as, sample, shape, shape_of, text, with};
use crate::liveness::live;

fn retyped(table: Table, name: &str, kind: ValueKind) -> TableShape {
    let mut shape = shape(table);
    let column = shape.columns.iter_mut().find(|column| column.name == name).unwrap();
    column.type_info.kind = kind;
    shape
}

fn row(event: &Event) -> &Row {
    match &event.action {
        Action::Insert(_, row) | Action::Update(_, row) | Action::Load(_, row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_order_of_columns_does_not_matter() {
    for table in Table::ALL {
        let expected = decode(table, &sample(table));
        let mut columns = shape(table).columns;
        columns.reverse();
        assert_eq!(decode_as(&shape_of(table, columns.clone()), Op::Update, &sample(table)), expected, "{table:?}");
        columns.rotate_left(3);
        assert_eq!(decode_as(&shape_of(table, columns), Op::Update, &sample(table)), expected, "{table:?}");
    }
}

#[test]
fn columns_of_any_kind_may_appear_anywhere() {
    let numeric = TypeInfo { kind: ValueKind::Numeric, pg_type: "numeric(12,2)".to_owned(), pg_base: None };
    let kinds = [
        (ValueKind::Bool, "t"),
        (ValueKind::Int2, "-7"),
        (ValueKind::Int8, "9223372036854775807"),
        (ValueKind::Float4, "0.1"),
        (ValueKind::Float8, "NaN"),
        (ValueKind::Numeric, "1.50"),
        (ValueKind::Decimal(Decimal::of(&numeric).unwrap()), "-12.50"),
        (ValueKind::Date, "infinity"),
        (ValueKind::Time, "24:00:00"),
        (ValueKind::Bytea, "\\x00ff"),
        (ValueKind::Macaddr, "08:00:2b:01:02:03"),
        (ValueKind::String, "1 year 2 mons"),
        (ValueKind::Int4.array(), "{1,NULL,-3}"),
        (ValueKind::Text.array(), "{a,NULL,\"b,c\"}"),
        (ValueKind::Uuid.array(), "{{00000000-0000-4000-8000-0000000000aa}}"),
        (ValueKind::Timestamp.array(), "{}"),
        (ValueKind::Bool.array(), "{t,f}"),
    ];
    for table in Table::ALL {
        let expected = decode(table, &sample(table));
        let mut columns = Vec::new();
        let mut cells = sample(table);
        let own = shape(table).columns;
        for (index, (kind, value)) in kinds.into_iter().enumerate() {
            let name = format!("column-{index}");
            columns.push(column(&name, kind));
            columns.extend(own.get(index).cloned());
            cells.push((name, if index % 5 == 4 { Cell::Unchanged } else { text(value) }));
        }
        columns.extend(own.into_iter().skip(kinds.len()));
        assert_eq!(decode_as(&shape_of(table, columns), Op::Update, &cells), expected, "{table:?}");
    }
}

#[test]
fn times_count_the_same_with_and_without_a_zone() {
    for (kind, value, expected) in [
        (ValueKind::Timestamp, "2021-01-01 10:00:00.5", Some(Micros(1_609_495_200_500_000))),
        (ValueKind::Timestamptz, "2021-01-01 10:00:00.5+00", Some(Micros(1_609_495_200_500_000))),
        (ValueKind::Timestamp, "infinity", Some(Micros(i64::MAX))),
        (ValueKind::Timestamptz, "-infinity", Some(Micros(i64::MIN))),
    ] {
        for table in [Table::Tokens, Table::Flows] {
            let shape = retyped(table, "expires_at", kind);
            let event = decode_as(&shape, Op::Update, &with(table, "expires_at", text(value)));
            let found = match row(&event) {
                Row::Token(row) => (row.live, row.expires_at),
                Row::Flow(row) => (row.live, row.expires_at),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, (true, expected), "{table:?} {kind:?} {value}");
        }
    }
}

#[test]
fn texts_are_texts_whatever_postgres_calls_them() {
    for (table, name, value) in [
        (Table::Clients, "actor_id", "00000000-0000-4000-8000-0000000000BB"),
        (Table::Clients, "ipv4", "100.64.0.17"),
        (Table::Clients, "public_key", "a2V5"),
        (Table::Clients, "last_seen_remote_ip", "2001:0db8::1"),
        (Table::Resources, "type", "dns"),
        (Table::Resources, "filters", r#"[{"protocol":"tcp","ports":["80","8080-8090"]},{"protocol":"icmp"}]"#),
    ] {
        let expected = decode(table, &sample(table));
        // A domain, an enum of an extension, a type that is in no list: the wire has text for all of them.
        for kind in [ValueKind::Text, ValueKind::String] {
            let found = decode_as(&retyped(table, name, kind), Op::Update, &with(table, name, text(value)));
            assert_eq!(found, expected, "{table:?}.{name} as {kind:?}");
        }
    }
}

#[test]
fn coordinates_may_be_narrower() {
    let mut shape = retyped(Table::Clients, "last_seen_remote_ip_location_lat", ValueKind::Float4);
    let lat = |value: &str| with(Table::Clients, "last_seen_remote_ip_location_lat", text(value));
    let coordinates = |shape: &TableShape, cells| match row(&decode_as(shape, Op::Update, &cells)) {
        Row::Client(row) => row.coordinates,
        other => panic!("{other:?}"),
    };
    assert_eq!(coordinates(&shape, lat("50.5")), Some((50.5, -30.5167)));
    shape = retyped(Table::Clients, "last_seen_remote_ip_location_lat", ValueKind::Numeric);
    assert_eq!(coordinates(&shape, lat("50.5")), None);
}

#[test]
fn a_type_that_a_column_cannot_have_makes_its_row_unreliable() {
    use Table::*;
    for (table, name, kind, value) in [
        (Accounts, "slug", ValueKind::Int4, "7"),
        (Actors, "type", ValueKind::Int4, "1"),
        (ActorGroupMemberships, "actor_id", ValueKind::Int8, "7"),
        (ActorGroupMemberships, "group_id", ValueKind::Text, "group"),
        (AuthIdentities, "provider_id", ValueKind::Uuid.array(), "{00000000-0000-4000-8000-0000000000bb}"),
        (Tokens, "expires_at", ValueKind::Date, "2021-01-01"),
        (Tokens, "expires_at", ValueKind::Int8, "1609495200000000"),
        (Tokens, "expires_at", ValueKind::Text, "2021-01-01 10:00:00"),
        (Tokens, "actor_id", ValueKind::Text, ""),
        (Clients, "actor_id", ValueKind::Text, "000000000000400080000000000000bb"),
        (Clients, "identity_id", ValueKind::Text, "{00000000-0000-4000-8000-0000000000aa}"),
        (Clients, "ipv6", ValueKind::Text, "fd00::1::2"),
        (Gateways, "group_id", ValueKind::Bool, "t"),
        (Resources, "type", ValueKind::Int4, "1"),
        (Resources, "ip_stack", ValueKind::Bool, "t"),
        (Resources, "address", ValueKind::Bytea, "\\x00"),
        (Policies, "resource_id", ValueKind::Numeric, "1"),
        (Flows, "policy_id", ValueKind::Int8, "1"),
        (Flows, "expires_at", ValueKind::Time, "10:00:00"),
    ] {
        let event = decode_as(&retyped(table, name, kind), Op::Update, &with(table, name, text(value)));
        assert!(!live(&event), "{table:?}.{name} as {kind:?}");
        let [problem] = event.problems[..] else { panic!("{:?}", event.problems) };
        let complaint =
            if (kind, name) == (ValueKind::Text, "type") { Complaint::UnknownValue } else { Complaint::Unreadable };
        assert_eq!((problem.column, problem.complaint), (name, complaint), "{table:?}.{name} as {kind:?}");
    }
}

#[test]
fn facts_that_cannot_be_read_are_unknown_and_no_more() {
    for (name, kind, value) in [
        ("last_seen_version", ValueKind::Int4, "1"),
        ("last_seen_remote_ip", ValueKind::Text, "nowhere"),
        ("last_seen_remote_ip", ValueKind::Inet, "192.0.2.0/24"),
        ("last_seen_remote_ip_location_region", ValueKind::Int4, "1"),
        ("last_seen_remote_ip_location_lon", ValueKind::Text, "1"),
    ] {
        let event =
            decode_as(&retyped(Table::Clients, name, kind), Op::Update, &with(Table::Clients, name, text(value)));
        assert!(live(&event), "{name}");
        let Row::Client(found) = row(&event) else { panic!("{event:?}") };
        let known = match name {
            "last_seen_version" => found.last_seen_version.is_some(),
            "last_seen_remote_ip" => found.remote_ip.is_some(),
            "last_seen_remote_ip_location_region" => found.region.is_some(),
            _ => found.coordinates.is_some(),
        };
        assert!(!known, "{name}");
        assert_eq!(event.problems.len(), 1, "{name}: {:?}", event.problems);
    }
}

#[test]
fn an_interface_address_may_say_how_long_its_prefix_is() {
    for (name, value, expected) in [("ipv4", "100.64.0.17/10", "100.64.0.17"), ("ipv6", "fd00::1/106", "fd00::1")] {
        let event = decode(Table::Clients, &with(Table::Clients, name, text(value)));
        let Row::Client(found) = row(&event) else { panic!("{event:?}") };
        let address = if name == "ipv4" { found.ipv4 } else { found.ipv6 };
        assert_eq!((address, found.live), (Some(expected.parse().unwrap()), true), "{name}");
    }
}

#[test]
fn conditions_of_another_type_deny() {
    for (kind, value) in
        [(ValueKind::Jsonb, "[]"), (ValueKind::Text, "{}"), (ValueKind::Int4.array(), "{}"), (ValueKind::Bool, "t")]
    {
        let shape = retyped(Table::Policies, "conditions", kind);
        let event = decode_as(&shape, Op::Update, &with(Table::Policies, "conditions", text(value)));
        let Row::Policy(found) = row(&event) else { panic!("{event:?}") };
        assert_eq!(found.conditions, None, "{kind:?}");
        assert_eq!(event.problems.len(), 1, "{kind:?}");
    }
    // Texts are what JSON travels as.
    let shape = retyped(Table::Policies, "conditions", ValueKind::Text.array());
    let event = decode_as(&shape, Op::Update, &with(Table::Policies, "conditions", text("{}")));
    let Row::Policy(found) = row(&event) else { panic!("{event:?}") };
    assert_eq!(found.conditions, Some([].into()));
}
