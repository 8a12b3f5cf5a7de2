//! A row as columns and texts, in which two of them are compared and shown.

use crate::rows::{Row, UpstreamDns};

/// Each column that decisions read, and what it holds.
pub(super) fn fields(row: &Row) -> Vec<(&'static str, String)> {
    macro_rules! fields {
        ($row:expr, $($column:literal => $field:ident),*) => {
            vec![("live", $row.live.to_string()), $(($column, format!("{:?}", $row.$field))),*]
        };
    }
    match row {
        Row::Account(row) => {
            let dns = |server: &UpstreamDns| format!("{} {}", server.protocol, server.address);
            let servers: Vec<String> = row.upstream_dns.iter().map(dns).collect();
            let mut fields = fields!(row, "slug" => slug, "config.search_domain" => search_domain);
            fields.push(("config.clients_upstream_dns", servers.join(", ")));
            fields
        }
        Row::Actor(row) => fields!(row,),
        Row::ActorGroup(row) => fields!(row,),
        Row::Membership(row) => {
            vec![("actor_id", row.actor.to_string()), ("group_id", row.group.to_string())]
        }
        Row::AuthProvider(row) => fields!(row,),
        Row::AuthIdentity(row) => fields!(row, "provider_id" => provider),
        Row::Token(row) => fields!(row, "actor_id" => actor, "expires_at" => expires_at),
        Row::Client(row) => fields!(
            row,
            "actor_id" => actor,
            "identity_id" => identity,
            "last_used_token_id" => last_used_token,
            "public_key" => public_key,
            "ipv4" => ipv4,
            "ipv6" => ipv6,
            "last_seen_version" => last_seen_version,
            "last_seen_remote_ip" => remote_ip,
            "last_seen_remote_ip_location_region" => region,
            "last_seen_remote_ip_location_lat, _lon" => coordinates,
            "verified_at" => verified
        ),
        Row::GatewayGroup(row) => fields!(row, "name" => name),
        Row::Gateway(row) => fields!(
            row,
            "group_id" => group,
            "last_used_token_id" => last_used_token,
            "public_key" => public_key,
            "ipv4" => ipv4,
            "ipv6" => ipv6,
            "last_seen_version" => last_seen_version,
            "last_seen_remote_ip_location_lat, _lon" => coordinates
        ),
        Row::Resource(row) => fields!(
            row,
            "name" => name,
            "type" => kind,
            "address" => address,
            "address_description" => address_description,
            "ip_stack" => ip_stack,
            "filters" => filters
        ),
        Row::ResourceConnection => Vec::new(),
        Row::Policy(row) => {
            fields!(row, "actor_group_id" => group, "resource_id" => resource, "conditions" => conditions)
        }
        Row::Flow(row) => fields!(
            row,
            "policy_id" => policy,
            "client_id" => client,
            "gateway_id" => gateway,
            "resource_id" => resource,
            "token_id" => token,
            "actor_group_membership_id" => membership,
            "expires_at" => expires_at
        ),
    }
}
