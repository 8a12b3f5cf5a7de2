//! What the model's tables mean, at a second: every question reads all of them.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::rows::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::reference::{Authorized, Model, Pair};
use crate::windows;

impl Model {
    pub fn live_sites(&self, resource: Uuid) -> Vec<Uuid> {
        let connected = self.rows.keys().filter_map(|(_, id)| match id {
            RowId::Connection { resource: of, gateway_group } if *of == resource => Some(*gateway_group),
            _ => None,
        });
        connected.filter(|site| self.site(*site).is_some_and(|site| site.live)).collect()
    }

    pub fn connectable(&self, resource: Uuid) -> bool {
        self.resource(resource).is_some_and(|row| row.live) && !self.live_sites(resource).is_empty()
    }

    pub fn account_is_live(&self) -> bool {
        self.account().is_some_and(|account| account.live)
    }

    pub fn client_is_live(&self, client: Uuid) -> bool {
        let Some(row) = self.client(client) else { return false };
        row.live
            && self.account_is_live()
            && self.row::<ActorRow>(Table::Actors, row.actor).is_some_and(|actor| actor.live)
    }

    pub fn token(&self, id: Uuid, now: i64) -> Option<&TokenRow> {
        let row = self.row::<TokenRow>(Table::Tokens, id)?;
        (row.live && !expired(last_second(row.expires_at), now)).then_some(row)
    }

    fn provider(&self, client: &ClientRow) -> Option<Uuid> {
        let identity = self.row::<AuthIdentityRow>(Table::AuthIdentities, client.identity?)?;
        let provider = self.row::<AuthProviderRow>(Table::AuthProviders, identity.provider)?;
        (identity.live && provider.live).then_some(identity.provider)
    }

    /// Policies that reach the client's actor for the resource, by id, with the membership they do so by.
    fn reaching(&self, client: Uuid, resource: Uuid) -> Vec<(Uuid, &PolicyRow, Uuid)> {
        let mut found = Vec::new();
        let Some(actor) = self.client(client).filter(|_| self.client_is_live(client)).map(|row| row.actor) else {
            return found;
        };
        for (id, policy) in self.all::<PolicyRow>(Table::Policies) {
            let group = self.row::<ActorGroupRow>(Table::ActorGroups, policy.group);
            let member = self
                .all::<MembershipRow>(Table::ActorGroupMemberships)
                .find(|(_, row)| row.actor == actor && row.group == policy.group);
            if let Some((membership, _)) = member
                && policy.live
                && policy.resource == resource
                && group.is_some_and(|group| group.live)
            {
                found.push((id, policy, membership));
            }
        }
        found
    }

    /// Each condition that fails by its property, and when the policy's conditions cease to hold.
    fn judge(&self, policy: &PolicyRow, client: Uuid, now: i64) -> (Vec<String>, Option<Option<i64>>) {
        let (mut failing, mut until, mut hopeless) = (Vec::new(), i64::MAX, policy.conditions.is_none());
        let client = self.client(client).expect("it was looked up");
        for condition in policy.conditions.iter().flat_map(|conditions| conditions.iter()) {
            let Some(condition) = condition else {
                hopeless = true;
                continue;
            };
            let values: Vec<&str> =
                condition["values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
            let (property, operator) =
                (condition["property"].as_str().unwrap(), condition["operator"].as_str().unwrap());
            let within = |found: Option<String>, wanted: bool| {
                found.is_some_and(|found| values.contains(&found.as_str()) == wanted)
            };
            let holds = match (property, operator) {
                ("remote_ip_location_region", _) => {
                    within(client.region.as_ref().map(|r| r.to_string()), operator == "is_in")
                }
                ("provider_id", _) => within(self.provider(client).map(|id| id.to_string()), operator == "is_in"),
                ("client_verified", _) => values != ["true"] || client.verified,
                ("current_utc_datetime", _) => match windows::open_until(&values, now) {
                    Some(end) => {
                        until = until.min(end);
                        true
                    }
                    None => false,
                },
                _ => false,
            };
            if !holds && !failing.iter().any(|name| name == property) {
                failing.push(property.to_owned());
            }
        }
        let granted = (failing.is_empty() && !hopeless).then(|| (until != i64::MAX).then_some(until));
        (failing, granted)
    }

    /// (policy, membership, until) of each policy that grants, by id.
    pub fn grants(&self, client: Uuid, resource: Uuid, now: i64) -> Vec<(Uuid, Uuid, Option<i64>)> {
        let reaching = self.reaching(client, resource).into_iter();
        reaching.filter_map(|(id, policy, by)| Some((id, by, self.judge(policy, client, now).1?))).collect()
    }

    pub fn violated(&self, client: Uuid, resource: Uuid, now: i64) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, policy, _) in self.reaching(client, resource) {
            for name in self.judge(policy, client, now).0 {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    pub fn allowed(&self, client: Uuid, now: i64) -> Vec<Uuid> {
        let resources = self.all::<ResourceRow>(Table::Resources).map(|(id, _)| id);
        resources.filter(|id| self.connectable(*id) && !self.grants(client, *id, now).is_empty()).collect()
    }

    /// Whether a gateway is live in a live site of the resource.
    pub fn serves(&self, gateway: Uuid, resource: Uuid) -> bool {
        self.gateway(gateway).is_some_and(|row| row.live && self.live_sites(resource).contains(&row.group))
    }

    /// None: not live. Some(None): for ever.
    pub fn live_until(&self, flow: Uuid, now: i64) -> Option<Option<i64>> {
        let row = match self.announced.get(&flow) {
            Some((row, until)) if now < *until => row,
            Some(_) => return None,
            None => self.row::<FlowRow>(Table::Flows, flow).filter(|_| !self.ended.contains(&flow))?,
        };
        let membership = self.row::<MembershipRow>(Table::ActorGroupMemberships, row.membership)?;
        let policy = self.row::<PolicyRow>(Table::Policies, row.policy)?;
        let token = self.token(row.token, now)?;
        let (_, _, until) =
            self.grants(row.client, row.resource, now).into_iter().find(|(policy, _, _)| *policy == row.policy)?;
        let of_them = membership.actor == self.client(row.client)?.actor && membership.group == policy.group;
        let own = last_second(row.expires_at);
        let live = row.live
            && of_them
            && self.resource(row.resource)?.live
            && self.serves(row.gateway, row.resource)
            && !expired(own, now);
        let ends = [own, until, last_second(token.expires_at)].into_iter().flatten().min();
        live.then_some(ends)
    }

    /// Live and announced flows by pair, with the latest of their expiries.
    pub fn authorized(&self, gateway: Uuid, now: i64) -> BTreeMap<Pair, Authorized> {
        let rows = self.all::<FlowRow>(Table::Flows).map(|(id, row)| (id, row.clone()));
        let announced = self.announced.iter().map(|(id, (row, _))| (*id, row.clone()));
        let flows: BTreeMap<Uuid, FlowRow> = rows.chain(announced).filter(|(_, row)| row.gateway == gateway).collect();
        let mut pairs: BTreeMap<Pair, Authorized> = BTreeMap::new();
        for (id, row) in flows {
            let Some(until) = self.live_until(id, now) else { continue };
            let pair = pairs.entry((row.client, row.resource)).or_insert((Some(i64::MIN), Vec::new()));
            pair.0 = if let (Some(one), Some(other)) = (pair.0, until) { Some(one.max(other)) } else { None };
            pair.1.push(id);
        }
        pairs
    }

    /// Every second in (from, to] in which something may begin or cease by time alone.
    pub fn turns(&self, from: i64, to: i64) -> BTreeSet<i64> {
        let tokens = self.all::<TokenRow>(Table::Tokens).filter_map(|(_, row)| last_second(row.expires_at));
        let flows = self.all::<FlowRow>(Table::Flows).filter_map(|(_, row)| last_second(row.expires_at));
        let announced = self
            .announced
            .values()
            .flat_map(|(row, until)| last_second(row.expires_at).into_iter().chain(Some(*until - 1)));
        let mut turns: BTreeSet<i64> = tokens.chain(flows).chain(announced).map(|last| last + 1).collect();
        for (_, policy) in self.all::<PolicyRow>(Table::Policies) {
            for condition in policy.conditions.iter().flat_map(|list| list.iter().flatten()) {
                if condition["property"] == "current_utc_datetime" {
                    let values = condition["values"].as_array().unwrap().iter().map(|value| value.as_str().unwrap());
                    turns.extend(windows::edges(&values.collect::<Vec<_>>(), from, to));
                }
            }
        }
        turns.into_iter().filter(|turn| (from + 1..=to).contains(turn)).collect()
    }

    pub fn show(&self, now: i64) -> Json {
        let client = |id: Uuid| json!({"id": id, "allowed": self.allowed(id, now)});
        let pair = |((client, resource), (until, flows)): (&Pair, &Authorized)| json!({"client_id": client, "resource_id": resource, "expires_at": until, "flow_ids": flows});
        let gateway =
            |id: Uuid| json!({"id": id, "authorized": self.authorized(id, now).iter().map(pair).collect::<Vec<_>>()});
        json!({
            "clients": self.clients().into_iter().map(client).collect::<Vec<_>>(),
            "gateways": self.gateways().into_iter().map(gateway).collect::<Vec<_>>(),
        })
    }

    pub fn count(&self, table: Table) -> usize {
        self.rows.keys().filter(|(of, _)| *of == table).count()
    }
}

pub fn expired(last: Option<i64>, now: i64) -> bool {
    last.is_some_and(|last| now > last)
}
