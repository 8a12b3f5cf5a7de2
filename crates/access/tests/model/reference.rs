//! The rules told a second time, as plainly as possible: tables, and questions that read all of them.
//!
//! Nothing here is shared with what it is compared with, but the types of rows.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::change::{Action, Commit};
use penstock_access::rows::*;
use penstock_wire::position::Position;
use uuid::Uuid;

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

pub trait Of: Sized {
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

    pub fn row<R: Of>(&self, table: Table, id: Uuid) -> Option<&R> {
        R::of(&self.rows.get(&(table, RowId::Id(id)))?.1)
    }

    pub fn all<'a, R: Of + 'a>(&'a self, table: Table) -> impl Iterator<Item = (Uuid, &'a R)> {
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
}

fn same_names(one: &FlowRow, other: &FlowRow) -> bool {
    one.policy == other.policy
        && one.client == other.client
        && one.gateway == other.gateway
        && one.resource == other.resource
        && one.token == other.token
        && one.membership == other.membership
}
