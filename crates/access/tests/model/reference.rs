//! The rules told a second time, as plainly as possible: tables, and questions that read all of them.
//!
//! Nothing here is shared with what it is compared with, but the types of rows.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::change::{Action, Commit};
use penstock_access::rows::*;
use penstock_wire::position::Position;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::windows;

/// What shows that a flow was not over at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Insert(Position),
    Load(Position),
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub own: Uuid,
    pub position: Position,
    pub rows: BTreeMap<(Table, RowId), (Position, Row)>,
    /// Of each resource: where its address changed last, and whether a load first showed it.
    pub since: BTreeMap<Uuid, (Position, bool)>,
    shown: BTreeMap<Uuid, Shown>,
    pub ended: BTreeSet<Uuid>,
    /// With the second in which it is over.
    pub announced: BTreeMap<Uuid, (FlowRow, i64)>,
    ended_unseen: BTreeSet<Uuid>,
    pub handed_out: BTreeSet<Uuid>,
    pub loaded_flows_live: bool,
}

/// A client and a resource.
pub type Pair = (Uuid, Uuid);

/// The latest expiry of a pair's flows, and the flows.
pub type Authorized = (Option<i64>, Vec<Uuid>);

type Place = (Option<std::sync::Arc<str>>, ResourceKind, Option<IpStack>);

fn place(row: &ResourceRow) -> Place {
    (row.address.clone(), row.kind, row.ip_stack)
}

trait Of: Sized {
    fn of(row: &Row) -> Option<&Self>;
}

macro_rules! of {
    ($($row:ident $variant:ident,)*) => {
        $(impl Of for $row {
            fn of(row: &Row) -> Option<&Self> {
                match row {
                    Row::$variant(row) => Some(row),
                    _ => None,
                }
            }
        })*
    };
}

of! {
    AccountRow Account, ActorRow Actor, ActorGroupRow ActorGroup, MembershipRow Membership,
    AuthProviderRow AuthProvider, AuthIdentityRow AuthIdentity, TokenRow Token, ClientRow Client,
    GatewayGroupRow GatewayGroup, GatewayRow Gateway, ResourceRow Resource, PolicyRow Policy, FlowRow Flow,
}

impl Model {
    /// Of an account of which nothing is known.
    pub fn new(own: Uuid, loaded_flows_live: bool) -> Self {
        Self { own, loaded_flows_live, ..Self::default() }
    }

    fn row<R: Of>(&self, table: Table, id: Uuid) -> Option<&R> {
        R::of(&self.rows.get(&(table, RowId::Id(id)))?.1)
    }

    fn all<'a, R: Of + 'a>(&'a self, table: Table) -> impl Iterator<Item = (Uuid, &'a R)> {
        self.rows.iter().filter(move |((of, _), _)| *of == table).filter_map(|((_, id), (_, row))| match id {
            RowId::Id(id) => Some((*id, R::of(row)?)),
            RowId::Connection { .. } => None,
        })
    }

    pub fn client(&self, id: Uuid) -> Option<&ClientRow> {
        self.row(Table::Clients, id)
    }

    pub fn gateway(&self, id: Uuid) -> Option<&GatewayRow> {
        self.row(Table::Gateways, id)
    }

    pub fn resource(&self, id: Uuid) -> Option<&ResourceRow> {
        self.row(Table::Resources, id)
    }

    pub fn account(&self) -> Option<&AccountRow> {
        self.row(Table::Accounts, self.own)
    }

    pub fn site(&self, id: Uuid) -> Option<&GatewayGroupRow> {
        self.row(Table::GatewayGroups, id)
    }

    pub fn clients(&self) -> Vec<Uuid> {
        self.all::<ClientRow>(Table::Clients).filter(|(_, row)| row.live).map(|(id, _)| id).collect()
    }

    pub fn gateways(&self) -> Vec<Uuid> {
        self.all::<GatewayRow>(Table::Gateways).filter(|(_, row)| row.live).map(|(id, _)| id).collect()
    }

    // Transactions.

    pub fn apply(&mut self, commit: &Commit) {
        if commit.position <= self.position {
            return;
        }
        let before = self.clone();
        // Where the run of equal addresses began that a resource ends the transaction with.
        let mut runs: BTreeMap<Uuid, (Position, bool)> = before.since.clone();
        for change in &commit.changes {
            let at = change.position;
            match &change.action {
                Action::Insert(id, row) => self.put(*id, row, at, Shown::Insert(at), false, &mut runs),
                Action::Update(id, row) => self.put(*id, row, at, Shown::Nothing, false, &mut runs),
                Action::Load(id, row) if self.loaded_flows_live => {
                    self.put(*id, row, at, Shown::Load(at), true, &mut runs)
                }
                Action::Load(id, row) => self.put(*id, row, at, Shown::Nothing, true, &mut runs),
                Action::Delete(id) => self.remove(change.table, |key, _| key == *id, &mut runs, Some(*id)),
                Action::Truncate => self.remove(change.table, |_, held| held < at, &mut runs, None),
                Action::Sweep { begin } => self.remove(change.table, |_, held| held < *begin, &mut runs, None),
            }
        }
        self.compare_addresses(&before, &runs);
        self.end_old_flows();
        self.position = commit.position;
    }

    fn put(
        &mut self,
        id: RowId,
        row: &Row,
        at: Position,
        shown: Shown,
        loaded: bool,
        runs: &mut BTreeMap<Uuid, (Position, bool)>,
    ) {
        let old = self.rows.get(&(row.table(), id)).map(|(_, row)| row.clone());
        match (id, row) {
            (RowId::Id(id), Row::Flow(row)) => {
                self.announced.remove(&id);
                match &old {
                    None => drop(self.shown.insert(id, shown)),
                    Some(Row::Flow(old)) if !same_names(old, row) => self.end(id),
                    Some(_) => {}
                }
                if self.ended_unseen.remove(&id) {
                    self.end(id);
                }
            }
            (RowId::Id(id), Row::Resource(row)) => {
                let stays = matches!(&old, Some(Row::Resource(old)) if place(old) == place(row));
                if !stays {
                    runs.insert(id, (at, loaded && old.is_none()));
                }
            }
            _ => {}
        }
        self.rows.insert((row.table(), id), (at, row.clone()));
    }

    fn remove(
        &mut self,
        table: Table,
        which: impl Fn(RowId, Position) -> bool,
        runs: &mut BTreeMap<Uuid, (Position, bool)>,
        named: Option<RowId>,
    ) {
        let gone: Vec<RowId> = self
            .rows
            .iter()
            .filter(|((of, id), (held, _))| *of == table && which(*id, *held))
            .map(|((_, id), _)| *id)
            .collect();
        for id in gone.iter().copied().chain(named) {
            self.rows.remove(&(table, id));
            if let RowId::Id(id) = id {
                match table {
                    Table::Flows => {
                        self.shown.remove(&id);
                        self.ended.remove(&id);
                        self.ended_unseen.remove(&id);
                        self.announced.remove(&id);
                    }
                    Table::Resources => drop(runs.remove(&id)),
                    _ => {}
                }
            }
        }
    }

    fn compare_addresses(&mut self, before: &Model, runs: &BTreeMap<Uuid, (Position, bool)>) {
        let resources: Vec<(Uuid, Position, Place)> = self
            .rows
            .iter()
            .filter_map(|((_, id), (at, row))| match (id, row) {
                (RowId::Id(id), Row::Resource(row)) => Some((*id, *at, place(row))),
                _ => None,
            })
            .collect();
        self.since.clear();
        for (id, at, now) in resources {
            let since = match before.resource(id).map(place) {
                Some(then) if then == now => before.since[&id],
                Some(_) => {
                    let lost: Vec<Uuid> =
                        self.announced.iter().filter(|(_, (row, _))| row.resource == id).map(|(id, _)| *id).collect();
                    for flow in lost {
                        self.announced.remove(&flow);
                        self.ended_unseen.insert(flow);
                        self.handed_out.insert(flow);
                    }
                    (at, false)
                }
                None => runs[&id],
            };
            self.since.insert(id, since);
        }
    }

    fn end_old_flows(&mut self) {
        let flows: Vec<(Uuid, Uuid)> = self.all::<FlowRow>(Table::Flows).map(|(id, row)| (id, row.resource)).collect();
        for (id, resource) in flows {
            let since = self.since.get(&resource);
            let over = match self.shown[&id] {
                Shown::Nothing => true,
                Shown::Insert(at) => since.is_some_and(|(since, _)| at <= *since),
                Shown::Load(at) => since.is_some_and(|(since, loaded)| at <= *since && !loaded),
            };
            if over {
                self.end(id);
            }
        }
    }

    fn end(&mut self, flow: Uuid) {
        if self.ended.insert(flow) {
            self.handed_out.insert(flow);
        }
    }

    /// Announced flows that are not live at this second are over for good.
    pub fn end_announced(&mut self, now: i64) {
        let over: Vec<Uuid> =
            self.announced.keys().filter(|id| self.live_until(**id, now).is_none()).copied().collect();
        for id in over {
            self.announced.remove(&id);
        }
    }

    pub fn withdraw(&mut self, id: Uuid) {
        self.ended_unseen.remove(&id);
        self.announced.remove(&id);
    }

    // Questions.

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

fn same_names(one: &FlowRow, other: &FlowRow) -> bool {
    one.policy == other.policy
        && one.client == other.client
        && one.gateway == other.gateway
        && one.resource == other.resource
        && one.token == other.token
        && one.membership == other.membership
}
