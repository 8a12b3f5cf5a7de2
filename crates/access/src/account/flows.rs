//! Flows: where each came from, and which of them have ended for good.
//!
//! A flow was authorised for an address. When the resource's address, type or IP stack changes, what was authorised
//! before is worth nothing, whatever else still holds: the flow *ends*, and stays ended until its row is deleted. The
//! comparison is by position: a flow counts only if its insert is known, and younger than the last change of address
//! that its resource may have had. A resource that is seen for the first time may have had one just then.
//!
//! Only observed order decides, never an order that is likely: what a load shows is a row, not when it was inserted, and
//! a row that comes from another account or key was inserted nobody knows when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::deadlines::{Due, after};
use crate::account::entries::{Address, AddressSince};
use crate::account::indexes::{self, Stored};
use crate::account::links::Ids;
use crate::account::nodes::Nodes;
use crate::account::snapshot::History;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::authorize::NewFlow;
use crate::rows::{FlowRow, Row, last_second};

/// A flow that has ended for good. Its row should be deleted by whoever writes the table; until then it stays ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlow {
    pub id: Uuid,
    pub why: Ended,
}

/// Why a flow has ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its resource's address, type or IP stack changed after it was inserted.
    AddressChanged,
    /// An update made it name another row.
    Repointed,
    /// What is known does not show that it was inserted after the last change of its resource's address.
    Unproven,
}

impl Ended {
    pub const ALL: [Self; 3] = [Self::AddressChanged, Self::Repointed, Self::Unproven];

    /// A name for counting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddressChanged => "address_changed",
            Self::Repointed => "repointed",
            Self::Unproven => "unproven",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FlowEntry {
    pub(crate) row: FlowRow,
    pub(crate) origin: Origin,
}

/// Where a flow is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its row. `shown`: what shows that it was not over then; None: nothing does.
    Row { shown: Option<Shown>, ended: bool },
    /// An announcement whose row has not come; over in second `until`.
    Announced { until: i64 },
}

/// What shows that a flow was authorised at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Its insert.
    Insert(Position),
    /// A load, of a table whose owner deletes the rows of flows that have ended.
    Load(Position),
}

/// How a row came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Inserted,
    Updated,
    Loaded,
}

/// What a commit has done so far that is judged at its end.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Resources as they stood before the commit.
    pub(crate) addresses: BTreeMap<Uuid, Option<Address>>,
    /// Resources of which versions may not have been seen.
    pub(crate) unseen: BTreeSet<Uuid>,
    /// Flows whose rows came.
    pub(crate) flows: BTreeSet<Uuid>,
}

/// What the flows of an account need beyond their rows.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Announced flows that ended by a change of address before their row came.
    pub(crate) before_their_row: BTreeSet<Uuid>,
    /// Not yet handed out.
    pub(crate) queue: VecDeque<EndedFlow>,
}

impl Shown {
    /// Whether what was authorised was authorised for the address that the resource has since then.
    fn outlives(self, since: AddressSince) -> bool {
        match self {
            Shown::Insert(position) => position > since.position,
            // Tables are loaded in any order: that a resource was loaded after its flows is no sign of a change.
            Shown::Load(position) => position > since.position || since.loaded,
        }
    }
}

impl FlowEntry {
    /// Collects the flow's pair, and the flow itself if it is only announced.
    pub(crate) fn touch(&self, id: Uuid, touched: &mut Touched) {
        touched.pair(self.row.gateway, self.row.client, self.row.resource);
        if matches!(self.origin, Origin::Announced { .. }) {
            touched.announced.insert(id);
        }
    }

    fn points_elsewhere(&self, row: &FlowRow) -> bool {
        let names = |row: &FlowRow| (row.policy, row.client, row.gateway, row.resource, row.token, row.membership);
        names(&self.row) != names(row)
    }
}

impl AccountState {
    /// A flow's row came.
    pub(crate) fn put_flow(
        &mut self,
        id: Uuid,
        row: &FlowRow,
        position: Position,
        arrival: Arrival,
        scratch: &mut Scratch,
        touched: &mut Touched,
    ) {
        let held_at = self.flows.held(id).map(|held| held.position);
        if held_at.is_some_and(|held| held >= position) {
            return;
        }
        let is_unbroken = held_at.is_none_or(|held| self.unseen_between(held, position).is_none());
        let origin = match (arrival, self.flows.row(id).map(|entry| (entry, entry.origin))) {
            (Arrival::Inserted, None | Some((_, Origin::Announced { .. }))) if position.seq.is_arrival() => {
                Origin::Row { shown: None, ended: false }
            }
            // It may have named another row meanwhile.
            (Arrival::Updated, Some((_, Origin::Row { ended: false, .. }))) if !is_unbroken => {
                Origin::Row { shown: None, ended: false }
            }
            // An insert over a row: that one's delete was not seen.
            (Arrival::Inserted, _) => Origin::Row { shown: Some(Shown::Insert(position)), ended: false },
            (Arrival::Updated | Arrival::Loaded, Some((entry, Origin::Row { shown, ended }))) => {
                if !ended && entry.points_elsewhere(row) {
                    self.endings.queue.push_back(EndedFlow { id, why: Ended::Repointed });
                    Origin::Row { shown, ended: true }
                } else {
                    Origin::Row { shown, ended }
                }
            }
            (Arrival::Loaded, None | Some((_, Origin::Announced { .. }))) if self.loaded_flows_live => {
                Origin::Row { shown: Some(Shown::Load(position)), ended: false }
            }
            (Arrival::Updated | Arrival::Loaded, None | Some((_, Origin::Announced { .. }))) => {
                Origin::Row { shown: None, ended: false }
            }
        };
        if self.replace(id, Some(FlowEntry { row: row.clone(), origin }), position, touched) {
            scratch.flows.insert(id);
        }
    }

    /// The row of a flow was deleted: an announcement of it is over, and an id that ended before its row came may be
    /// used again.
    pub(crate) fn flow_row_is_gone(&mut self, id: Uuid, touched: &mut Touched) {
        self.endings.before_their_row.remove(&id);
        self.remove_announced(id, touched);
    }

    /// Judges addresses and flows at the end of a commit, when only what differs from before it counts.
    pub(crate) fn end_flows(&mut self, scratch: Scratch, touched: &mut Touched) {
        for (resource, before) in scratch.addresses {
            let Some(held) = self.resources.held_mut(resource) else { continue };
            match before {
                Some(before) if before.same_place(&held.row.address()) => {
                    held.row.address_since = before.since;
                    if scratch.unseen.contains(&resource) {
                        self.end_flows_of(resource, Ended::Unproven, touched);
                    }
                }
                // Of several changes the last row counts.
                Some(_) => {
                    held.row.address_since = AddressSince { position: held.position, loaded: false };
                    self.end_flows_of(resource, Ended::AddressChanged, touched);
                }
                None => self.end_flows_of(resource, Ended::Unproven, touched),
            }
        }
        for flow in scratch.flows {
            if self.endings.before_their_row.remove(&flow) {
                self.end_flow(flow, Ended::AddressChanged, touched);
            } else {
                self.end_if_older_than_address(flow, Ended::Unproven, touched);
            }
        }
    }

    /// Ends every flow: what happened between their inserts and now is not known.
    pub(crate) fn end_all_flows(&mut self, touched: &mut Touched) {
        let ids: Vec<Uuid> = self.flows.in_order().iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.end_flow(id, Ended::Unproven, touched);
        }
    }

    fn end_flows_of(&mut self, resource: Uuid, why: Ended, touched: &mut Touched) {
        let flows: Vec<Uuid> = self.resources.links(resource).iter().flat_map(|links| &links.flows).copied().collect();
        for flow in flows {
            touched.entries += 1;
            match self.flows.row(flow).map(|entry| entry.origin) {
                Some(Origin::Announced { .. }) if why == Ended::AddressChanged => self.end_flow(flow, why, touched),
                Some(Origin::Announced { .. }) | None => {}
                Some(Origin::Row { .. }) => self.end_if_older_than_address(flow, why, touched),
            }
        }
    }

    fn end_if_older_than_address(&mut self, flow: Uuid, why: Ended, touched: &mut Touched) {
        let Some(entry) = self.flows.row(flow) else { return };
        let Origin::Row { shown, ended: false } = entry.origin else { return };
        let Some(shown) = shown else { return self.end_flow(flow, Ended::Unproven, touched) };
        // Without its resource a flow is not live; when that comes, it is judged again.
        let Some(resource) = self.resources.row(entry.row.resource) else { return };
        if !shown.outlives(resource.address_since) {
            self.end_flow(flow, why, touched);
        }
    }

    fn end_flow(&mut self, id: Uuid, why: Ended, touched: &mut Touched) {
        let Some(held) = self.flows.held_mut(id) else { return };
        held.row.touch(id, touched);
        match &mut held.row.origin {
            Origin::Row { ended: true, .. } => return,
            Origin::Row { ended, .. } => *ended = true,
            Origin::Announced { .. } => {
                self.endings.before_their_row.insert(id);
                self.remove_announced(id, touched);
            }
        }
        self.endings.queue.push_back(EndedFlow { id, why });
    }

    /// Takes an announced flow out; a flow whose row is there stays.
    pub(crate) fn remove_announced(&mut self, id: Uuid, touched: &mut Touched) -> bool {
        let announced = matches!(self.flows.row(id), Some(FlowEntry { origin: Origin::Announced { .. }, .. }));
        announced && self.replace::<FlowEntry>(id, None, Position::ZERO, touched)
    }

    /// Authorises a flow until second `until`, or until its row comes; false if the id is known already.
    pub(crate) fn announce(&mut self, flow: &NewFlow, until: i64, touched: &mut Touched) -> bool {
        if self.flows.row(flow.id).is_some() || self.endings.before_their_row.contains(&flow.id) {
            return false;
        }
        let entry = FlowEntry { row: flow.row(), origin: Origin::Announced { until } };
        self.replace(flow.id, Some(entry), Position::ZERO, touched)
    }

    /// The caller will not write the row of an ended, announced flow.
    pub(crate) fn forget_announced(&mut self, id: Uuid) {
        self.endings.before_their_row.remove(&id);
    }
}

impl Stored for FlowEntry {
    indexes::nodes!(flows, ());

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Flow(self.row.clone()), History::Flow(self.history()?)))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        change_flow_links(&self.row, state, |flows| {
            flows.insert(id);
        });
        state.gateways.change_links(self.row.gateway, |flows| {
            flows.insert((self.row.client, self.row.resource, id));
        });
        state.deadlines.add(after(last_second(self.row.expires_at)), Due::Flow(id));
        if let Origin::Announced { until } = self.origin {
            state.deadlines.add(Some(until), Due::Unconfirmed(id));
            state.announced.insert(id);
        }
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        change_flow_links(&self.row, state, |flows| {
            flows.remove(&id);
        });
        state.gateways.change_links(self.row.gateway, |flows| {
            flows.remove(&(self.row.client, self.row.resource, id));
        });
        state.deadlines.remove(after(last_second(self.row.expires_at)), Due::Flow(id));
        if let Origin::Announced { until } = self.origin {
            state.deadlines.remove(Some(until), Due::Unconfirmed(id));
            state.announced.remove(&id);
        }
    }

    fn reach(&self, id: Uuid, _: &AccountState, touched: &mut Touched) {
        self.touch(id, touched);
    }
}

/// The links of all rows that a flow names, but of its gateway, which are pairs.
fn change_flow_links(row: &FlowRow, state: &mut AccountState, change: impl Fn(&mut Ids)) {
    state.clients.change_links(row.client, &change);
    state.tokens.change_links(row.token, &change);
    state.memberships.change_links(row.membership, &change);
    state.policies.change_links(row.policy, &change);
    state.resources.change_links(row.resource, |links| change(&mut links.flows));
}
