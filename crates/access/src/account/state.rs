//! The rows of one account, each with the position of its version, and the indexes over them.
//!
//! Invariants: a row changes only by a change above its position; a commit at or below the account's position changes
//! nothing. What is derived from rows (compiled conditions, parsed versions, renderings, deadlines) is a function of
//! them. The state makes no decisions: see `access`.

use std::collections::{BTreeSet, VecDeque};

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::deadlines::Deadlines;
use crate::account::entries::{Address, AddressSince, ClientEntry, GatewayEntry, PolicyEntry, ResourceEntry};
use crate::account::flows::{Arrival, Endings, FlowEntry, Origin, Scratch};
use crate::account::indexes::Stored;
use crate::account::links::{ActorLinks, GatewayGroupLinks, GroupLinks, Ids, PairFlow, ResourceLinks};
use crate::account::nodes::Nodes;
use crate::account::touched::Touched;
use crate::change::{Action, Change, Commit};
use crate::conditions;
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, GatewayGroupRow, MembershipRow, ResourceRow,
    Row, RowId, Table, TokenRow,
};

/// A policy has a condition that cannot be read, and that denies for it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyProblem {
    pub policy: Uuid,
    pub problem: conditions::Problem,
    /// Where the policy's row stands.
    pub position: Position,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct AccountState {
    /// The last commit that was applied.
    pub(crate) position: Position,
    /// Up to here versions of rows may have come and gone without being seen.
    pub(crate) unseen_to: Position,
    pub(crate) accounts: Nodes<AccountRow, ()>,
    pub(crate) actors: Nodes<ActorRow, ActorLinks>,
    pub(crate) actor_groups: Nodes<ActorGroupRow, GroupLinks>,
    /// Links: flows.
    pub(crate) memberships: Nodes<MembershipRow, Ids>,
    /// Links: identities.
    pub(crate) auth_providers: Nodes<AuthProviderRow, Ids>,
    /// Links: clients.
    pub(crate) auth_identities: Nodes<AuthIdentityRow, Ids>,
    /// Links: flows.
    pub(crate) tokens: Nodes<TokenRow, Ids>,
    /// Links: flows.
    pub(crate) clients: Nodes<ClientEntry, Ids>,
    pub(crate) gateway_groups: Nodes<GatewayGroupRow, GatewayGroupLinks>,
    pub(crate) gateways: Nodes<GatewayEntry, BTreeSet<PairFlow>>,
    pub(crate) resources: Nodes<ResourceEntry, ResourceLinks>,
    /// Connections stand at their resources, as its sites.
    pub(crate) connections: usize,
    /// Links: flows.
    pub(crate) policies: Nodes<PolicyEntry, Ids>,
    pub(crate) flows: Nodes<FlowEntry, ()>,
    /// Flows that are known from an announcement only.
    pub(crate) announced: BTreeSet<Uuid>,
    pub(crate) endings: Endings,
    pub(crate) deadlines: Deadlines,
    pub(crate) problems: VecDeque<PolicyProblem>,
    /// Whether a load shows that a flow has not ended.
    pub(crate) loaded_flows_live: bool,
}

impl AccountState {
    pub(crate) fn new(loaded_flows_live: bool) -> Self {
        Self { loaded_flows_live, ..Self::default() }
    }

    /// Drops all rows. What ended for good stays so, and what was not taken yet stays to be taken.
    pub(crate) fn start_over(&mut self) {
        let endings = std::mem::take(&mut self.endings);
        let problems = std::mem::take(&mut self.problems);
        *self = Self { endings, problems, ..Self::new(self.loaded_flows_live) };
    }

    /// Applies a transaction's changes, and collects what they may have changed.
    pub(crate) fn apply(&mut self, commit: &Commit, touched: &mut Touched) {
        if commit.position <= self.position {
            return;
        }
        let mut scratch = Scratch::default();
        for change in &commit.changes {
            self.apply_change(change, &mut scratch, touched);
        }
        self.end_flows(scratch, touched);
        self.position = commit.position;
    }

    fn apply_change(&mut self, change: &Change, scratch: &mut Scratch, touched: &mut Touched) {
        let position = change.position;
        match &change.action {
            Action::Insert(id, row) => self.put(*id, row, position, Arrival::Inserted, scratch, touched),
            Action::Update(id, row) => self.put(*id, row, position, Arrival::Updated, scratch, touched),
            Action::Load(id, row) => self.put(*id, row, position, Arrival::Loaded, scratch, touched),
            Action::Delete(id) => self.delete(change.table, *id, position, scratch, touched),
            Action::Truncate => self.delete_older(change.table, position, scratch, touched),
            Action::Sweep { begin } => self.delete_older(change.table, *begin, scratch, touched),
        }
    }

    pub(crate) fn put(
        &mut self,
        id: RowId,
        row: &Row,
        position: Position,
        arrival: Arrival,
        scratch: &mut Scratch,
        touched: &mut Touched,
    ) {
        match (id, row) {
            (RowId::Id(id), Row::Account(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::Actor(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::ActorGroup(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::Membership(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::AuthProvider(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::AuthIdentity(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::Token(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::Client(row)) => self.replace(id, Some(ClientEntry::new(id, row)), position, touched),
            (RowId::Id(id), Row::GatewayGroup(row)) => self.replace(id, Some(row.clone()), position, touched),
            (RowId::Id(id), Row::Gateway(row)) => self.replace(id, Some(GatewayEntry::new(row)), position, touched),
            (RowId::Id(id), Row::Resource(row)) => self.put_resource(id, row, position, arrival, scratch, touched),
            (RowId::Connection { resource, gateway_group }, Row::ResourceConnection) => {
                self.connect(resource, gateway_group, position, touched)
            }
            (RowId::Id(id), Row::Policy(row)) => {
                let (entry, problems) = PolicyEntry::compile(row);
                let replaced = self.replace(id, Some(entry), position, touched);
                if replaced {
                    touched.policies.insert(id);
                    self.problems.extend(problems.into_iter().map(|problem| PolicyProblem {
                        policy: id,
                        problem,
                        position,
                    }));
                }
                replaced
            }
            (RowId::Id(id), Row::Flow(row)) => {
                self.put_flow(id, row, position, arrival, scratch, touched);
                true
            }
            (RowId::Connection { .. }, _) | (RowId::Id(_), Row::ResourceConnection) => {
                panic!("a row of {:?} cannot have the key {id:?}", row.table())
            }
        };
    }

    fn put_resource(
        &mut self,
        id: Uuid,
        row: &ResourceRow,
        position: Position,
        arrival: Arrival,
        scratch: &mut Scratch,
        touched: &mut Touched,
    ) -> bool {
        let held = self.resources.held(id);
        if held.is_some_and(|held| held.position >= position) {
            return false;
        }
        let unseen = held.and_then(|held| self.unseen_between(held.position, position));
        let mut before = held.map(|held| held.row.address());
        if let (Some(before), Some(unseen)) = (&mut before, unseen) {
            // It may have been elsewhere meanwhile, and be back.
            before.since = AddressSince { position: unseen.max(before.since.position), loaded: false };
            scratch.unseen.insert(id);
        }
        let here = AddressSince { position, loaded: before.is_none() && arrival == Arrival::Loaded };
        let address = Address::of(row, here);
        let since = before.as_ref().filter(|before| before.same_place(&address)).map_or(here, |before| before.since);
        scratch.addresses.entry(id).or_insert(before);
        self.replace(id, Some(ResourceEntry { row: row.clone(), address_since: since }), position, touched)
    }

    /// Up to where versions of a row between two that were seen may have gone unseen; None: there are none.
    pub(crate) fn unseen_between(&self, held: Position, next: Position) -> Option<Position> {
        (held < self.unseen_to).then(|| self.unseen_to.min(next))
    }

    /// Puts a row in the place of the one held, or takes that out; true if that changed something that decisions read.
    pub(crate) fn replace<T: Stored>(
        &mut self,
        id: Uuid,
        new: Option<T>,
        position: Position,
        touched: &mut Touched,
    ) -> bool {
        if let Some(held) = T::nodes_mut(self).held_mut(id) {
            if new.is_some() && held.position >= position {
                return false;
            }
            if new.as_ref().is_some_and(|new| new.same(&held.row)) {
                held.position = position;
                return false;
            }
        }
        if let Some(old) = T::nodes(self).row(id) {
            old.reach(id, self, touched);
        }
        if let Some(old) = T::nodes_mut(self).take(id) {
            old.row.unlink(id, self);
        } else if new.is_none() {
            return false;
        }
        if let Some(new) = new {
            new.link(id, self);
            T::nodes_mut(self).put(id, new, position);
            T::nodes(self).row(id).expect("it was put there").reach(id, self, touched);
        }
        true
    }

    fn delete(&mut self, table: Table, id: RowId, position: Position, scratch: &mut Scratch, touched: &mut Touched) {
        match id {
            RowId::Id(id) => {
                let newest = self.position_of(table, id).filter(|held| *held < position);
                if table == Table::Flows {
                    self.flow_row_is_gone(id, touched);
                }
                if newest.is_some() {
                    self.remove(table, id, scratch, touched);
                }
            }
            RowId::Connection { resource, gateway_group } => {
                self.disconnect(resource, gateway_group, position, touched);
            }
        }
    }

    fn delete_older(&mut self, table: Table, bound: Position, scratch: &mut Scratch, touched: &mut Touched) {
        if table == Table::ResourceConnections {
            for (resource, gateway_group, _) in self.connections_in_order() {
                self.disconnect(resource, gateway_group, bound, touched);
            }
            return;
        }
        for (id, position) in self.positions(table) {
            if position < bound {
                self.remove(table, id, scratch, touched);
            }
        }
    }

    fn remove(&mut self, table: Table, id: Uuid, scratch: &mut Scratch, touched: &mut Touched) {
        if table == Table::Resources {
            let before = self.resources.row(id).map(ResourceEntry::address);
            scratch.addresses.entry(id).or_insert(before);
        }
        match table {
            Table::Accounts => self.replace::<AccountRow>(id, None, Position::ZERO, touched),
            Table::Actors => self.replace::<ActorRow>(id, None, Position::ZERO, touched),
            Table::ActorGroups => self.replace::<ActorGroupRow>(id, None, Position::ZERO, touched),
            Table::ActorGroupMemberships => self.replace::<MembershipRow>(id, None, Position::ZERO, touched),
            Table::AuthProviders => self.replace::<AuthProviderRow>(id, None, Position::ZERO, touched),
            Table::AuthIdentities => self.replace::<AuthIdentityRow>(id, None, Position::ZERO, touched),
            Table::Tokens => self.replace::<TokenRow>(id, None, Position::ZERO, touched),
            Table::Clients => self.replace::<ClientEntry>(id, None, Position::ZERO, touched),
            Table::GatewayGroups => self.replace::<GatewayGroupRow>(id, None, Position::ZERO, touched),
            Table::Gateways => self.replace::<GatewayEntry>(id, None, Position::ZERO, touched),
            Table::Resources => self.replace::<ResourceEntry>(id, None, Position::ZERO, touched),
            Table::Policies => self.replace::<PolicyEntry>(id, None, Position::ZERO, touched),
            Table::Flows => self.replace::<FlowEntry>(id, None, Position::ZERO, touched),
            Table::ResourceConnections => panic!("a connection is not kept under one id: {id}"),
        };
    }

    pub(super) fn position_of(&self, table: Table, id: Uuid) -> Option<Position> {
        match table {
            Table::Accounts => self.accounts.held(id).map(|held| held.position),
            Table::Actors => self.actors.held(id).map(|held| held.position),
            Table::ActorGroups => self.actor_groups.held(id).map(|held| held.position),
            Table::ActorGroupMemberships => self.memberships.held(id).map(|held| held.position),
            Table::AuthProviders => self.auth_providers.held(id).map(|held| held.position),
            Table::AuthIdentities => self.auth_identities.held(id).map(|held| held.position),
            Table::Tokens => self.tokens.held(id).map(|held| held.position),
            Table::Clients => self.clients.held(id).map(|held| held.position),
            Table::GatewayGroups => self.gateway_groups.held(id).map(|held| held.position),
            Table::Gateways => self.gateways.held(id).map(|held| held.position),
            Table::Resources => self.resources.held(id).map(|held| held.position),
            Table::Policies => self.policies.held(id).map(|held| held.position),
            Table::Flows => self.flows.held(id).filter(|held| has_row(&held.row)).map(|held| held.position),
            Table::ResourceConnections => None,
        }
    }

    fn positions(&self, table: Table) -> Vec<(Uuid, Position)> {
        fn of<T: Stored>(state: &AccountState) -> Vec<(Uuid, Position)> {
            T::nodes(state).in_order().into_iter().map(|(id, held)| (id, held.position)).collect()
        }
        match table {
            Table::Accounts => of::<AccountRow>(self),
            Table::Actors => of::<ActorRow>(self),
            Table::ActorGroups => of::<ActorGroupRow>(self),
            Table::ActorGroupMemberships => of::<MembershipRow>(self),
            Table::AuthProviders => of::<AuthProviderRow>(self),
            Table::AuthIdentities => of::<AuthIdentityRow>(self),
            Table::Tokens => of::<TokenRow>(self),
            Table::Clients => of::<ClientEntry>(self),
            Table::GatewayGroups => of::<GatewayGroupRow>(self),
            Table::Gateways => of::<GatewayEntry>(self),
            Table::Resources => of::<ResourceEntry>(self),
            Table::ResourceConnections => Vec::new(),
            Table::Policies => of::<PolicyEntry>(self),
            Table::Flows => {
                let rows = self.flows.in_order().into_iter().filter(|(_, held)| has_row(&held.row));
                rows.map(|(id, held)| (id, held.position)).collect()
            }
        }
    }
}

/// Whether a flow is more than announced.
pub(crate) fn has_row(entry: &FlowEntry) -> bool {
    match entry.origin {
        Origin::Row { .. } => true,
        Origin::Announced { .. } => false,
    }
}
