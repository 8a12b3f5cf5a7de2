//! What makes a row one that grants nothing.

use penstock_access::change::Action;
use penstock_access::decode::{Complaint, Event, Problem};
use penstock_access::rows::{Row, Table};
use penstock_wire::event::Op;
use penstock_wire::types::ValueKind;

use crate::fixture::{Cell, column, decode, decode_as, encode, sample, schemas, shape, shape_of, text, with};

/// Whether the row is live; a row that is gone is not.
pub fn live(event: &Event) -> bool {
    let row = match &event.action {
        Action::Insert(_, row) | Action::Update(_, row) | Action::Load(_, row) => row,
        Action::Delete(_) => return false,
        other => panic!("{other:?} from a record of a row"),
    };
    match row {
        Row::Account(row) => row.live,
        Row::Actor(row) => row.live,
        Row::ActorGroup(row) => row.live,
        Row::Membership(_) | Row::ResourceConnection => true,
        Row::AuthProvider(row) => row.live,
        Row::AuthIdentity(row) => row.live,
        Row::Token(row) => row.live,
        Row::Client(row) => row.live,
        Row::GatewayGroup(row) => row.live,
        Row::Gateway(row) => row.live,
        Row::Resource(row) => row.live,
        Row::Policy(row) => row.live,
        Row::Flow(row) => row.live,
    }
}

#[test]
fn a_row_that_ended_is_not_live() {
    for table in Table::ALL {
        for end in ["deleted_at", "disabled_at"] {
            for kind in [ValueKind::Timestamp, ValueKind::Timestamptz, ValueKind::Text, ValueKind::Bool] {
                let mut columns = shape(table).columns;
                columns.retain(|column| column.name != end);
                let mut shape = shape_of(table, columns);
                assert!(live(&decode_as(&shape, Op::Update, &sample(table))), "{table:?} without {end}");
                shape.columns.push(column(end, kind));
                assert!(live(&decode_as(&shape, Op::Update, &sample(table))), "{table:?} with no {end}");
                let set = match kind {
                    ValueKind::Timestamp => "2021-01-01 00:00:00",
                    ValueKind::Timestamptz => "infinity",
                    ValueKind::Bool => "f",
                    _ => "",
                };
                let event = decode_as(&shape, Op::Update, &with(table, end, text(set)));
                assert!(!live(&event), "{table:?} with {end} {set:?}");
                assert_eq!(event.problems, []);
                let event = decode_as(&shape, Op::Update, &with(table, end, Cell::Unchanged));
                assert!(!live(&event), "{table:?} with {end} unchanged");
                assert_eq!(event.problems, [Problem { column: end, complaint: Complaint::Unchanged }]);
            }
        }
    }
}

/// What a column that decisions need may and may not be: live or not with NULL, live or not when it was not sent.
#[test]
fn columns_that_rows_rely_on() {
    use Table::*;
    for (table, name, null, unchanged) in [
        (Accounts, "slug", true, false),
        (Accounts, "config", true, true),
        (Actors, "type", true, false),
        (ActorGroups, "type", true, false),
        (ActorGroupMemberships, "actor_id", false, false),
        (ActorGroupMemberships, "group_id", false, false),
        (AuthProviders, "adapter", true, true),
        (AuthIdentities, "provider_id", false, false),
        (AuthIdentities, "actor_id", true, true),
        (Tokens, "type", true, false),
        (Tokens, "actor_id", true, false),
        (Tokens, "expires_at", true, false),
        (Clients, "actor_id", false, false),
        (Clients, "identity_id", true, false),
        (Clients, "last_used_token_id", true, false),
        (Clients, "public_key", true, false),
        (Clients, "ipv4", true, false),
        (Clients, "ipv6", true, false),
        (Clients, "last_seen_version", true, true),
        (Clients, "last_seen_remote_ip", true, true),
        (Clients, "last_seen_remote_ip_location_region", true, true),
        (Clients, "last_seen_remote_ip_location_lat", true, true),
        (Clients, "last_seen_remote_ip_location_lon", true, true),
        (Clients, "verified_at", true, true),
        (Clients, "verified_by_subject", true, true),
        (GatewayGroups, "name", true, false),
        (GatewayGroups, "managed_by", true, false),
        (Gateways, "group_id", false, false),
        (Gateways, "last_used_token_id", true, false),
        (Gateways, "public_key", true, false),
        (Gateways, "ipv4", true, false),
        (Gateways, "ipv6", true, false),
        (Gateways, "last_seen_version", true, true),
        (Resources, "name", true, false),
        (Resources, "type", false, false),
        (Resources, "address", false, false),
        (Resources, "address_description", true, true),
        (Resources, "ip_stack", true, false),
        (Resources, "filters", true, false),
        (Policies, "actor_group_id", false, false),
        (Policies, "resource_id", false, false),
        (Policies, "conditions", true, true),
        (Policies, "description", true, true),
        (Flows, "policy_id", false, false),
        (Flows, "client_id", false, false),
        (Flows, "gateway_id", false, false),
        (Flows, "resource_id", false, false),
        (Flows, "token_id", false, false),
        (Flows, "actor_group_membership_id", false, false),
        (Flows, "expires_at", true, false),
    ] {
        let event = decode(table, &with(table, name, Cell::Null));
        assert_eq!(live(&event), null, "{table:?} with {name} NULL");
        let complaints: Vec<_> = event.problems.iter().map(|problem| (problem.column, problem.complaint)).collect();
        let expected = if null { vec![] } else { vec![(name, Complaint::Unreadable)] };
        assert_eq!(complaints, expected, "{table:?} with {name} NULL");
        let event = decode(table, &with(table, name, Cell::Unchanged));
        assert_eq!(live(&event), unchanged, "{table:?} with {name} unchanged");
        let read = !["adapter", "verified_by_subject", "description"].contains(&name)
            && (table, name) != (AuthIdentities, "actor_id");
        let expected = if read { vec![Problem { column: name, complaint: Complaint::Unchanged }] } else { vec![] };
        assert_eq!(event.problems, expected, "{table:?} with {name} unchanged");
    }
}

#[test]
fn enumerations_have_the_values_that_are_known() {
    use Table::*;
    for (table, name, values) in [
        (Actors, "type", &["account_user", "account_admin_user", "service_account", "api_client"][..]),
        (ActorGroups, "type", &["managed", "static"]),
        (Tokens, "type", &["browser", "client", "api_client", "relay_group", "gateway_group", "email"]),
        (GatewayGroups, "managed_by", &["account", "system"]),
        (Resources, "type", &["cidr", "ip", "dns", "internet"]),
        (Resources, "ip_stack", &["ipv4_only", "ipv6_only", "dual"]),
    ] {
        for value in values {
            assert!(live(&decode(table, &with(table, name, text(value)))), "{table:?} with {name} {value}");
            for unknown in [value.to_uppercase(), format!("{value} "), format!("{value}s"), String::new()] {
                let event = decode(table, &with(table, name, text(&unknown)));
                assert!(!live(&event), "{table:?} with {name} {unknown:?}");
                assert_eq!(event.problems, [Problem { column: name, complaint: Complaint::UnknownValue }]);
            }
        }
    }
}

#[test]
fn a_client_is_verified_by_what_is_known() {
    for (cell, expected) in
        [(Cell::Null, false), (Cell::Unchanged, false), (text("2021-01-01 00:00:00"), true), (text("-infinity"), true)]
    {
        let event = decode(Table::Clients, &with(Table::Clients, "verified_at", cell.clone()));
        let Action::Update(_, Row::Client(row)) = event.action else { panic!("{event:?}") };
        assert_eq!(row.verified, expected, "{cell:?}");
    }
}

#[test]
fn only_the_internet_has_no_address() {
    for (kind, expected) in [("internet", true), ("dns", false), ("cidr", false), ("ip", false)] {
        let mut cells = with(Table::Resources, "type", text(kind));
        cells.retain(|(name, _)| name != "address");
        assert_eq!(live(&decode(Table::Resources, &cells)), expected, "{kind}");
    }
}

#[test]
fn without_a_column_that_is_needed_no_row_is_live_and_the_schema_says_why() {
    use Table::*;
    for (table, name, needed) in [
        (Accounts, "slug", true),
        (Accounts, "config", false),
        (Actors, "type", false),
        (Actors, "last_synced_at", false),
        (ActorGroupMemberships, "group_id", true),
        (Tokens, "expires_at", true),
        (Tokens, "actor_id", true),
        (Clients, "identity_id", true),
        (Clients, "last_seen_remote_ip", false),
        (Clients, "verified_at", false),
        (Clients, "deleted_at", false),
        (Resources, "filters", true),
        (Resources, "type", true),
        (Resources, "ip_stack", false),
        (Policies, "conditions", true),
        (Policies, "disabled_at", false),
        (Flows, "expires_at", true),
        (Flows, "token_id", true),
    ] {
        let mut shape = shape(table);
        let index = shape.columns.iter().position(|column| column.name == name).unwrap();
        shape.columns[index].excluded = true;
        let event = decode_as(&shape, Op::Update, &sample(table));
        assert_eq!(live(&event), !needed, "{table:?} without {name}");
        // It would be said again with every row.
        assert_eq!(event.problems, [], "{table:?} without {name}");
        let plan = crate::fixture::plan(&shape);
        let missing = penstock_access::decode::Schemas::default().insert(1, plan.envelope_schema()).unwrap();
        let expected = if needed { vec![Problem { column: name, complaint: Complaint::Missing }] } else { vec![] };
        assert_eq!(missing, expected, "{table:?} without {name}");
    }
}

#[test]
fn a_delete_asks_nothing_of_its_row() {
    for table in Table::ALL {
        let mut shape = shape(table);
        for column in &mut shape.columns {
            column.excluded = !["id", "account_id", "resource_id", "gateway_group_id"].contains(&column.name.as_str());
        }
        let record = encode(&shape, Op::Delete, &sample(table));
        let schemas = schemas(&shape);
        let key = schemas.decode_key(&record.key).unwrap();
        let event = schemas.decode_value(&key, Some(&record.value)).unwrap().unwrap();
        assert!(matches!(event.action, Action::Delete(_)), "{table:?}");
        assert_eq!(event.problems, []);
    }
}
