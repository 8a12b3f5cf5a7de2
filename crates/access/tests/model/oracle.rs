//! What a channel should be pushed, told from what it was sent and from what the model says it should have.

use std::collections::BTreeMap;

use penstock_access::rows::*;
use penstock_wire::position::Position;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::reference::{Authorized, Model, Pair, expired};

/// What a client's channel was sent.
#[derive(Clone, Debug)]
pub struct ClientSide {
    pub client: Uuid,
    pub token: Uuid,
    pub can_move_sites: bool,
    pub resources: BTreeMap<Uuid, Json>,
    pub interface: Json,
}

/// What a gateway's channel was sent.
#[derive(Clone, Debug)]
pub struct GatewaySide {
    pub gateway: Uuid,
    pub token: Uuid,
    pub head: Json,
    pub pairs: BTreeMap<Pair, Sent>,
    /// Something was kept from it: what has lapsed meanwhile is not gone on with.
    pub behind: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub until: Option<i64>,
    pub peer: Json,
    pub resource: Json,
    pub since: (Position, bool),
}

/// The pushes, and whether the channel is over.
pub type Expected = (Vec<Json>, bool);

pub fn push(name: &str, payload: Json) -> Json {
    json!({"push": name, "payload": payload})
}

fn disconnect(model: &Model, revoked: bool, token: Uuid, now: i64) -> Option<Expected> {
    let reason = match (revoked, model.token(token, now)) {
        (true, _) => "revoked",
        (false, None) => "token_expired",
        (false, Some(_)) => return None,
    };
    Some((vec![push("disconnect", json!({"reason": reason}))], true))
}

impl ClientSide {
    /// The first push of a channel.
    pub fn open(model: &Model, client: Uuid, token: Uuid, can_move_sites: bool, now: i64) -> (Self, Json) {
        let resources = shown(model, client, now);
        let interface = client_interface(model, client);
        let all: Vec<Json> = resources.values().cloned().collect();
        let init = push("init", json!({"resources": all, "interface": interface}));
        (Self { client, token, can_move_sites, resources, interface }, init)
    }

    pub fn is_over(&self, model: &Model, now: i64) -> Option<Expected> {
        disconnect(model, !model.client_is_live(self.client), self.token, now)
    }

    /// The difference, which is then taken as sent.
    pub fn difference(&mut self, model: &Model, now: i64) -> Expected {
        if let Some(over) = self.is_over(model, now) {
            return over;
        }
        let new = shown(model, self.client, now);
        let (mut deleted, mut created) = (Vec::new(), Vec::new());
        for id in self.resources.keys().chain(new.keys()).copied().collect::<std::collections::BTreeSet<_>>() {
            let (old, new) = (self.resources.get(&id), new.get(&id));
            if old == new {
                continue;
            }
            if old.is_some_and(|old| new.is_none_or(|new| !self.can_move_sites && sites(old) != sites(new))) {
                deleted.push(push("resource_deleted", json!(id)));
            }
            created.extend(new.map(|new| push("resource_created_or_updated", new.clone())));
        }
        self.resources = new;
        deleted.append(&mut created);
        let interface = client_interface(model, self.client);
        if interface != self.interface {
            deleted.push(push("config_changed", json!({"interface": interface})));
            self.interface = interface;
        }
        (deleted, false)
    }

    /// While nothing new is granted: what is no longer allowed is deleted, in order, and nothing else.
    pub fn withdrawn(&mut self, model: &Model, now: i64) -> Expected {
        if let Some(over) = self.is_over(model, now) {
            return over;
        }
        let new = shown(model, self.client, now);
        let gone: Vec<Uuid> = self.resources.keys().filter(|id| !new.contains_key(id)).copied().collect();
        self.resources.retain(|id, _| new.contains_key(id));
        (gone.into_iter().map(|id| push("resource_deleted", json!(id))).collect(), false)
    }
}

impl GatewaySide {
    /// The first push of a channel, and what it is after everything before became void.
    pub fn open(model: &Model, gateway: Uuid, token: Uuid, now: i64) -> (Self, Json) {
        let (head, pairs) = (head(model, gateway), pairs(model, gateway, now));
        let authorizations: Vec<Json> = pairs
            .iter()
            .map(|((client, resource), sent)| {
                json!({"client_id": client, "resource_id": resource, "expires_at": sent.until})
            })
            .collect();
        let mut payload = head.clone();
        payload["authorizations"] = authorizations.into();
        (Self { gateway, token, head, pairs, behind: false }, push("init", payload))
    }

    pub fn is_over(&self, model: &Model, now: i64) -> Option<Expected> {
        let live = model.account_is_live() && model.gateway(self.gateway).is_some_and(|row| row.live);
        disconnect(model, !live, self.token, now)
    }

    pub fn difference(&mut self, model: &Model, now: i64) -> Expected {
        if let Some(over) = self.is_over(model, now) {
            return over;
        }
        if head(model, self.gateway) != self.head {
            let (new, init) = Self::open(model, self.gateway, self.token, now);
            *self = new;
            return (vec![init], false);
        }
        let new = pairs(model, self.gateway, now);
        let (mut rejected, mut filters, mut moved, mut authorized) = (vec![], vec![], vec![], vec![]);
        for pair in self.pairs.keys().chain(new.keys()).copied().collect::<std::collections::BTreeSet<_>>() {
            let lapsed = |sent: &&Sent| expired(sent.until, now);
            let old = self.pairs.get(&pair).filter(|sent| !self.behind || !lapsed(sent));
            match (old, new.get(&pair)) {
                (None, None) => {}
                (None, Some(new)) => authorized.push(authorize(new)),
                (Some(old), None) if lapsed(&old) => {}
                (Some(_), None) => rejected.push(reject(pair)),
                (Some(old), Some(new)) if old.since != new.since => {
                    if !lapsed(&old) {
                        rejected.push(reject(pair));
                    }
                    authorized.push(authorize(new));
                }
                (Some(old), Some(new)) if old.peer != new.peer => authorized.push(authorize(new)),
                (Some(old), Some(new)) => {
                    let update = push("resource_updated", new.resource.clone());
                    if old.resource["filters"] != new.resource["filters"] && !filters.contains(&update) {
                        filters.push(update);
                    }
                    if old.until != new.until {
                        moved.push(expiry(pair, new.until));
                    }
                }
            }
        }
        self.pairs = new;
        self.behind = false;
        ([rejected, filters, moved, authorized].concat(), false)
    }

    /// While nothing new is granted: what was pushed may only take away, and must take away what is gone.
    pub fn follow_withdrawn(&mut self, model: &Model, pushes: &[Json], now: i64) {
        self.behind = true;
        let new = pairs(model, self.gateway, now);
        for push in pushes {
            let payload = &push["payload"];
            let id = |field: &str| payload[field].as_str().and_then(|text| text.parse::<Uuid>().ok());
            match push["push"].as_str().expect("a push has a name") {
                "reject_access" => {
                    let pair = (id("client_id").unwrap(), id("resource_id").unwrap());
                    let old = self.pairs.remove(&pair).expect("what is rejected was authorised");
                    assert!(!expired(old.until, now), "a pair that lapsed is rejected: {pair:?}");
                    let same = |new: &Sent| (new.since, &new.peer) == (old.since, &old.peer);
                    let narrower = |new: &Sent| new.resource["filters"] == old.resource["filters"];
                    assert!(
                        !new.get(&pair).is_some_and(|new| same(new) && narrower(new)),
                        "{pair:?} is still authorised"
                    );
                }
                "resource_updated" => {
                    let resource = id("id").unwrap();
                    for (pair, sent) in self.pairs.iter_mut().filter(|(pair, _)| pair.1 == resource) {
                        assert_eq!(new[pair].resource, *payload);
                        sent.resource = payload.clone();
                    }
                }
                "access_authorization_expiry_updated" => {
                    let pair = (id("client_id").unwrap(), id("resource_id").unwrap());
                    let until = payload["expires_at"].as_i64().expect("an earlier expiry is one");
                    let sent = self.pairs.get_mut(&pair).expect("it was authorised");
                    assert!(sent.until.is_none_or(|old| until < old), "{pair:?} was given more time");
                    assert_eq!(new[&pair].until, Some(until));
                    sent.until = Some(until);
                }
                other => panic!("{other} while nothing new is granted"),
            }
        }
        // The gateway ends by itself what has lapsed.
        self.pairs.retain(|_, sent| !expired(sent.until, now));
        for (pair, sent) in &self.pairs {
            let new = new.get(pair).unwrap_or_else(|| panic!("{pair:?} was not rejected"));
            assert_eq!((sent.since, &sent.peer), (new.since, &new.peer));
            assert!(new.until.is_none_or(|new| sent.until.is_some_and(|old| old <= new)), "{pair:?} has too much time");
            let open = |resource: &Json| resource["filters"].as_array().is_none_or(|filters| filters.is_empty());
            assert!(open(&new.resource) || !open(&sent.resource), "{pair:?} has too many ports");
        }
    }
}

fn reject((client, resource): Pair) -> Json {
    push("reject_access", json!({"client_id": client, "resource_id": resource}))
}

fn expiry((client, resource): Pair, until: Option<i64>) -> Json {
    let payload = json!({"client_id": client, "resource_id": resource, "expires_at": until});
    push("access_authorization_expiry_updated", payload)
}

fn authorize(sent: &Sent) -> Json {
    push("authorize_flow", json!({"client": sent.peer, "resource": sent.resource, "expires_at": sent.until}))
}

fn sites(resource: &Json) -> Vec<&Json> {
    resource["gateway_groups"].as_array().expect("sites").iter().map(|site| &site["id"]).collect()
}

fn client_interface(model: &Model, client: Uuid) -> Json {
    let (account, row) = (model.account().expect("it is live"), model.client(client).expect("it is live"));
    json!({"search_domain": account.search_domain, "upstream_dns": [], "ipv4": row.ipv4, "ipv6": row.ipv6})
}

fn head(model: &Model, gateway: Uuid) -> Json {
    let (account, row) = (model.account().expect("it is live"), model.gateway(gateway).expect("it is live"));
    json!({"account_slug": account.slug, "interface": {"ipv4": row.ipv4, "ipv6": row.ipv6}})
}

fn pairs(model: &Model, gateway: Uuid, now: i64) -> BTreeMap<Pair, Sent> {
    let sent = |((client, resource), (until, _)): (Pair, Authorized)| {
        let row = model.client(client).expect("a live flow has its client");
        let peer = json!({"id": client, "public_key": row.public_key, "ipv4": row.ipv4, "ipv6": row.ipv6});
        let of_gateway = for_gateway(resource, model.resource(resource).expect("a live flow has its resource"));
        ((client, resource), Sent { until, peer, resource: of_gateway, since: model.since[&resource] })
    };
    model.authorized(gateway, now).into_iter().map(sent).collect()
}

/// Allowed resources as the client is shown them.
pub fn shown(model: &Model, client: Uuid, now: i64) -> BTreeMap<Uuid, Json> {
    let version = model.client(client).expect("it is live").last_seen_version.as_deref().unwrap_or("0.0.0");
    let rendered = |id: Uuid| Some((id, for_client(model, id, version)?));
    model.allowed(client, now).into_iter().filter_map(rendered).collect()
}

/// Versions here have parts of one digit, so that their texts are in their order.
pub fn for_client(model: &Model, id: Uuid, version: &str) -> Option<Json> {
    let row = model.resource(id)?;
    let site = |id: Uuid| json!({"id": id, "name": model.site(id).expect("it is live").name});
    let sites: Vec<Json> = model.live_sites(id).into_iter().map(site).collect();
    if row.kind == ResourceKind::Internet {
        return (version >= "1.3.0")
            .then(|| json!({"id": id, "type": "internet", "gateway_groups": sites, "can_be_disabled": true}));
    }
    let mut json = for_gateway(id, row);
    if row.kind == ResourceKind::Dns && version < "1.2.0" {
        let address = row.address.as_ref().expect("dns has one");
        json["address"] = match address.strip_prefix("**.").map(|rest| format!("*.{rest}")) {
            Some(address) => address.into(),
            None => match address.strip_prefix("*.") {
                Some(rest) => format!("?.{rest}").into(),
                None if address.contains(['*', '?']) => return None,
                None => json!(address),
            },
        };
    }
    json["address_description"] = json!(row.address_description);
    json["gateway_groups"] = sites.into();
    if let Some(ip_stack) = row.ip_stack {
        let name = match ip_stack {
            IpStack::Ipv4Only => "ipv4_only",
            IpStack::Ipv6Only => "ipv6_only",
            IpStack::Dual => "dual",
        };
        json["ip_stack"] = name.into();
    }
    Some(json)
}

fn for_gateway(id: Uuid, row: &ResourceRow) -> Json {
    let address = row.address.as_deref().unwrap_or_default();
    let (kind, address) = match row.kind {
        ResourceKind::Internet => return json!({"id": id, "type": "internet"}),
        ResourceKind::Dns => ("dns", address.to_owned()),
        ResourceKind::Cidr => ("cidr", address.to_owned()),
        ResourceKind::Ip if address.contains(':') => ("cidr", format!("{address}/128")),
        ResourceKind::Ip => ("cidr", format!("{address}/32")),
    };
    let filter = |filter: &Filter| {
        let protocol = format!("{:?}", filter.protocol).to_lowercase();
        match filter.ports {
            None => json!({"protocol": protocol}),
            Some((first, last)) => json!({"protocol": protocol, "port_range_start": first, "port_range_end": last}),
        }
    };
    let filters: Vec<Json> = row.filters.iter().map(filter).collect();
    json!({"id": id, "type": kind, "address": address, "name": row.name, "filters": filters})
}
