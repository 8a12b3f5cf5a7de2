//! Each table's row, made of its columns: named and taken in one order, whether it is live asked last.

use super::columns::{Column, Columns, needed, optional};
use super::documents;
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, ClientRow, FlowRow, GatewayGroupRow,
    GatewayRow, IpStack, MembershipRow, PolicyRow, ResourceKind, ResourceRow, Row, Table, TokenRow,
};

/// What decisions read of a table, besides what ends a row.
pub(super) fn columns(table: Table) -> &'static [Column] {
    match table {
        Table::Accounts => ACCOUNT,
        Table::Actors => ACTOR,
        Table::ActorGroups => ACTOR_GROUP,
        Table::ActorGroupMemberships => MEMBERSHIP,
        Table::AuthProviders | Table::ResourceConnections => &[],
        Table::AuthIdentities => AUTH_IDENTITY,
        Table::Tokens => TOKEN,
        Table::Clients => CLIENT,
        Table::GatewayGroups => GATEWAY_GROUP,
        Table::Gateways => GATEWAY,
        Table::Resources => RESOURCE,
        Table::Policies => POLICY,
        Table::Flows => FLOW,
    }
}

/// The row; None: it is not live, and of a table whose rows can't say so.
pub(super) fn row(table: Table, columns: Columns<'_, '_>) -> Option<Row> {
    Some(match table {
        Table::Accounts => Row::Account(account(columns)),
        Table::Actors => Row::Actor(actor(columns)),
        Table::ActorGroups => Row::ActorGroup(actor_group(columns)),
        Table::ActorGroupMemberships => Row::Membership(membership(columns)?),
        Table::AuthProviders => Row::AuthProvider(AuthProviderRow { live: columns.live() }),
        Table::AuthIdentities => Row::AuthIdentity(auth_identity(columns)),
        Table::Tokens => Row::Token(token(columns)),
        Table::Clients => Row::Client(client(columns)),
        Table::GatewayGroups => Row::GatewayGroup(gateway_group(columns)),
        Table::Gateways => Row::Gateway(gateway(columns)),
        Table::Resources => Row::Resource(resource(columns)),
        Table::ResourceConnections => columns.live().then_some(Row::ResourceConnection)?,
        Table::Policies => Row::Policy(policy(columns)),
        Table::Flows => Row::Flow(flow(columns)),
    })
}

const ACCOUNT: &[Column] = &[needed("slug"), optional("config")];

fn account(mut columns: Columns<'_, '_>) -> AccountRow {
    let slug = columns.text();
    let config = documents::config(&mut columns);
    AccountRow { slug, search_domain: config.search_domain, upstream_dns: config.upstream_dns, live: columns.live() }
}

const ACTOR: &[Column] = &[optional("type")];

fn actor(mut columns: Columns<'_, '_>) -> ActorRow {
    columns.known(&["account_user", "account_admin_user", "service_account", "api_client"]);
    ActorRow { live: columns.live() }
}

const ACTOR_GROUP: &[Column] = &[optional("type")];

fn actor_group(mut columns: Columns<'_, '_>) -> ActorGroupRow {
    columns.known(&["managed", "static"]);
    ActorGroupRow { live: columns.live() }
}

const MEMBERSHIP: &[Column] = &[needed("actor_id"), needed("group_id")];

fn membership(mut columns: Columns<'_, '_>) -> Option<MembershipRow> {
    let row = MembershipRow { actor: columns.uuid(), group: columns.uuid() };
    columns.live().then_some(row)
}

const AUTH_IDENTITY: &[Column] = &[needed("provider_id")];

fn auth_identity(mut columns: Columns<'_, '_>) -> AuthIdentityRow {
    AuthIdentityRow { provider: columns.uuid(), live: columns.live() }
}

const TOKEN: &[Column] = &[optional("type"), needed("actor_id"), needed("expires_at")];

fn token(mut columns: Columns<'_, '_>) -> TokenRow {
    columns.known(&["browser", "client", "api_client", "relay_group", "gateway_group", "email"]);
    TokenRow { actor: columns.optional_uuid(), expires_at: columns.time(), live: columns.live() }
}

const CLIENT: &[Column] = &[
    needed("actor_id"),
    needed("identity_id"),
    needed("last_used_token_id"),
    needed("public_key"),
    needed("ipv4"),
    needed("ipv6"),
    optional("last_seen_version"),
    optional("last_seen_remote_ip"),
    optional("last_seen_remote_ip_location_region"),
    optional("last_seen_remote_ip_location_lat"),
    optional("last_seen_remote_ip_location_lon"),
    optional("verified_at"),
];

fn client(mut columns: Columns<'_, '_>) -> ClientRow {
    ClientRow {
        actor: columns.uuid(),
        identity: columns.optional_uuid(),
        last_used_token: columns.optional_uuid(),
        public_key: columns.text(),
        ipv4: columns.address(),
        ipv6: columns.address(),
        last_seen_version: columns.unneeded_text(),
        remote_ip: columns.unneeded_address(),
        region: columns.unneeded_text(),
        coordinates: columns.coordinates(),
        verified: columns.is_set(),
        live: columns.live(),
    }
}

const GATEWAY_GROUP: &[Column] = &[needed("name"), optional("managed_by")];

fn gateway_group(mut columns: Columns<'_, '_>) -> GatewayGroupRow {
    let name = columns.text();
    columns.known(&["account", "system"]);
    GatewayGroupRow { name, live: columns.live() }
}

const GATEWAY: &[Column] = &[
    needed("group_id"),
    needed("last_used_token_id"),
    needed("public_key"),
    needed("ipv4"),
    needed("ipv6"),
    optional("last_seen_version"),
    optional("last_seen_remote_ip_location_lat"),
    optional("last_seen_remote_ip_location_lon"),
];

fn gateway(mut columns: Columns<'_, '_>) -> GatewayRow {
    GatewayRow {
        group: columns.uuid(),
        last_used_token: columns.optional_uuid(),
        public_key: columns.text(),
        ipv4: columns.address(),
        ipv6: columns.address(),
        last_seen_version: columns.unneeded_text(),
        coordinates: columns.coordinates(),
        live: columns.live(),
    }
}

const RESOURCE: &[Column] = &[
    needed("name"),
    needed("type"),
    needed("address"),
    optional("address_description"),
    optional("ip_stack"),
    needed("filters"),
];

const KINDS: [(&str, ResourceKind); 4] = [
    ("cidr", ResourceKind::Cidr),
    ("ip", ResourceKind::Ip),
    ("dns", ResourceKind::Dns),
    ("internet", ResourceKind::Internet),
];

const IP_STACKS: [(&str, IpStack); 3] =
    [("ipv4_only", IpStack::Ipv4Only), ("ipv6_only", IpStack::Ipv6Only), ("dual", IpStack::Dual)];

fn resource(mut columns: Columns<'_, '_>) -> ResourceRow {
    let name = columns.text();
    let kind = columns.choice(&KINDS).unwrap_or_else(|| columns.unreliable(ResourceKind::Cidr));
    let address = columns.optional_text();
    if address.is_none() && kind != ResourceKind::Internet {
        columns.unreliable(());
    }
    ResourceRow {
        name,
        kind,
        address,
        address_description: columns.unneeded_text(),
        ip_stack: columns.choice(&IP_STACKS),
        filters: documents::filters(&mut columns),
        live: columns.live(),
    }
}

const POLICY: &[Column] = &[needed("actor_group_id"), needed("resource_id"), needed("conditions")];

fn policy(mut columns: Columns<'_, '_>) -> PolicyRow {
    PolicyRow {
        group: columns.uuid(),
        resource: columns.uuid(),
        conditions: documents::conditions(&mut columns),
        live: columns.live(),
    }
}

const FLOW: &[Column] = &[
    needed("policy_id"),
    needed("client_id"),
    needed("gateway_id"),
    needed("resource_id"),
    needed("token_id"),
    needed("actor_group_membership_id"),
    needed("expires_at"),
];

fn flow(mut columns: Columns<'_, '_>) -> FlowRow {
    FlowRow {
        policy: columns.uuid(),
        client: columns.uuid(),
        gateway: columns.uuid(),
        resource: columns.uuid(),
        token: columns.uuid(),
        membership: columns.uuid(),
        expires_at: columns.time(),
        live: columns.live(),
    }
}
