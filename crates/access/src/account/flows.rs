//! Flows: where each came from, and which of them have ended for good.
//!
//! A flow was authorised for an address. When the resource's address, type or IP stack changes, what was authorised
//! before is worth nothing, whatever else still holds: the flow *ends*, and stays ended until its row is deleted. The
//! comparison is by position: a flow counts only if its insert is known, and younger than the last change of address
//! that its resource may have had. A resource that is seen for the first time may have had one just then.
//!
//! Only observed order decides, never an order that is likely: what a load shows is a row, not when it was inserted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::entries::Address;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::rows::FlowRow;

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

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FlowEntry {
    pub(crate) row: FlowRow,
    pub(crate) origin: Origin,
}

/// Where a flow is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its row. `inserted`: the position of its insert, where that was seen.
    Row { inserted: Option<Position>, ended: bool },
    /// An announcement whose row has not come; over in second `until`.
    Announced { until: i64 },
}

/// How a flow's row came.
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
    /// Flows whose rows came.
    pub(crate) flows: BTreeSet<Uuid>,
}

/// What the flows of an account need beyond their rows.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Announced flows that ended by a change of address before their row came.
    before_their_row: BTreeSet<Uuid>,
    /// Not yet handed out.
    pub(crate) queue: VecDeque<EndedFlow>,
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
        let origin = match (arrival, self.flows.row(id).map(|entry| (entry, entry.origin))) {
            // An insert over a row: that one's delete was not seen.
            (Arrival::Inserted, _) => Origin::Row { inserted: Some(position), ended: false },
            (Arrival::Updated | Arrival::Loaded, Some((entry, Origin::Row { inserted, ended }))) => {
                if !ended && entry.points_elsewhere(row) {
                    self.endings.queue.push_back(EndedFlow { id, why: Ended::Repointed });
                    Origin::Row { inserted, ended: true }
                } else {
                    Origin::Row { inserted, ended }
                }
            }
            (Arrival::Loaded, None | Some((_, Origin::Announced { .. }))) if self.loaded_flows_live => {
                Origin::Row { inserted: Some(position), ended: false }
            }
            (Arrival::Updated | Arrival::Loaded, None | Some((_, Origin::Announced { .. }))) => {
                Origin::Row { inserted: None, ended: false }
            }
        };
        if self.replace(id, Some(FlowEntry { row: row.clone(), origin }), position, touched) {
            scratch.flows.insert(id);
        }
    }

    /// The row of a flow was deleted: an id that ended before its row came may be used again.
    pub(crate) fn flow_row_is_gone(&mut self, id: Uuid) {
        self.endings.before_their_row.remove(&id);
    }

    /// Judges addresses and flows at the end of a commit, when only what differs from before it counts.
    pub(crate) fn end_flows(&mut self, scratch: Scratch, touched: &mut Touched) {
        for (resource, before) in scratch.addresses {
            let Some(held) = self.resources.held_mut(resource) else { continue };
            match before {
                Some(before) if before.same_place(&held.row.address()) => held.row.address_since = before.since,
                // Of several changes the last row counts.
                Some(_) => {
                    held.row.address_since = held.position;
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
        let Origin::Row { inserted, ended: false } = entry.origin else { return };
        match (inserted, self.resources.row(entry.row.resource)) {
            (None, _) => self.end_flow(flow, Ended::Unproven, touched),
            (Some(inserted), Some(resource)) if inserted <= resource.address_since => {
                self.end_flow(flow, why, touched);
            }
            // Without its resource a flow is not live; when that comes, it is judged again.
            (Some(_), None | Some(_)) => {}
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

    /// Whether the id may be announced: nothing is known of it yet.
    pub(crate) fn may_announce(&self, id: Uuid) -> bool {
        self.flows.row(id).is_none() && !self.endings.before_their_row.contains(&id)
    }

    /// The caller will not write the row of an ended, announced flow.
    pub(crate) fn forget_announced(&mut self, id: Uuid) {
        self.endings.before_their_row.remove(&id);
    }
}
