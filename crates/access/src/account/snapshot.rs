//! An account's rows, in key order, for comparison with the database and for a checkpoint; and an account made from one.
//!
//! Beside the rows a checkpoint holds what rows do not tell and history did: where addresses changed last, and which
//! flows are known not to be over. What channels were sent is theirs, and is not in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use penstock_wire::position::Position;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::entries::{AddressSince, ClientEntry, GatewayEntry, PolicyEntry, ResourceEntry};
use crate::account::flows::{Arrival, FlowEntry, Origin, Scratch, Shown};
use crate::account::indexes::Stored;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::account::{Account, Options};
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, GatewayGroupRow, MembershipRow, Micros, Row,
    RowId, Table, TokenRow,
};

/// All that an account's state is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last transaction that is in it.
    #[serde(with = "crate::checkpoint::fields::position")]
    pub position: Position,
    /// By table, parents first, and by key.
    pub rows: Vec<RowState>,
    /// Announced flows that ended before their rows came.
    pub ended_before_their_row: BTreeSet<Uuid>,
}

/// A row as it is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowState {
    pub table: Table,
    pub id: RowId,
    /// Of the row's version.
    #[serde(with = "crate::checkpoint::fields::position")]
    pub position: Position,
    pub row: Row,
    pub history: History,
}

/// What a row does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum History {
    None,
    /// Where a resource's address, type or IP stack changed last; `loaded`: where a load first showed it.
    Resource {
        #[serde(with = "crate::checkpoint::fields::position")]
        address_since: Position,
        loaded: bool,
    },
    Flow(FlowHistory),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowHistory {
    Ended,
    /// Its insert was seen, and it is not over.
    Inserted(#[serde(with = "crate::checkpoint::fields::position")] Position),
    /// A load showed it, and it is not over.
    Loaded(#[serde(with = "crate::checkpoint::fields::position")] Position),
}

impl Account {
    /// All rows, and what else a checkpoint must hold.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            position: self.state.position,
            rows: self.state.rows(),
            ended_before_their_row: self.state.endings.before_their_row.clone(),
        }
    }

    /// The account that a snapshot was taken of. Nothing is known of it until `set_knowledge` says so.
    pub fn restore(id: &str, options: Arc<Options>, snapshot: &Snapshot, now: Micros) -> Self {
        let mut account = Self::new(id, options);
        account.refill(snapshot, now);
        account
    }

    /// Takes a snapshot's rows where there are none: after `drop_rows`, for the channels that stayed.
    pub fn refill(&mut self, snapshot: &Snapshot, now: Micros) {
        for row in &snapshot.rows {
            self.state.restore(row, &mut self.touched);
        }
        self.state.position = snapshot.position;
        // What ended here since the snapshot was taken has ended all the same.
        self.state.endings.before_their_row.extend(&snapshot.ended_before_their_row);
        self.settle(now);
    }
}

impl AccountState {
    fn rows(&self) -> Vec<RowState> {
        let mut rows = Vec::new();
        self.rows_of::<AccountRow>(&mut rows);
        self.rows_of::<ActorRow>(&mut rows);
        self.rows_of::<ActorGroupRow>(&mut rows);
        self.rows_of::<MembershipRow>(&mut rows);
        self.rows_of::<AuthProviderRow>(&mut rows);
        self.rows_of::<AuthIdentityRow>(&mut rows);
        self.rows_of::<TokenRow>(&mut rows);
        self.rows_of::<ClientEntry>(&mut rows);
        self.rows_of::<GatewayGroupRow>(&mut rows);
        self.rows_of::<GatewayEntry>(&mut rows);
        self.rows_of::<ResourceEntry>(&mut rows);
        rows.extend(self.connections_in_order().into_iter().map(|(resource, gateway_group, position)| RowState {
            table: Table::ResourceConnections,
            id: RowId::Connection { resource, gateway_group },
            position,
            row: Row::ResourceConnection,
            history: History::None,
        }));
        self.rows_of::<PolicyEntry>(&mut rows);
        self.rows_of::<FlowEntry>(&mut rows);
        rows
    }

    fn rows_of<T: Stored>(&self, rows: &mut Vec<RowState>) {
        rows.extend(T::nodes(self).in_order().into_iter().filter_map(|(id, held)| {
            let (row, history) = held.row.told()?;
            Some(RowState { table: row.table(), id: RowId::Id(id), position: held.position, row, history })
        }));
    }

    fn restore(&mut self, held: &RowState, touched: &mut Touched) {
        match (held.id, &held.row, held.history) {
            (RowId::Id(id), Row::Resource(row), History::Resource { address_since, loaded }) => {
                let address_since = AddressSince { position: address_since, loaded };
                self.replace(id, Some(ResourceEntry { row: row.clone(), address_since }), held.position, touched);
            }
            (RowId::Id(id), Row::Flow(row), History::Flow(history)) => {
                let entry = FlowEntry { row: row.clone(), origin: history.into() };
                self.replace(id, Some(entry), held.position, touched);
            }
            // Without its history a flow is ended, and a resource is as if it had just been seen.
            (id, row, _) => self.put(id, row, held.position, Arrival::Updated, &mut Scratch::default(), touched),
        }
    }
}

impl From<FlowHistory> for Origin {
    fn from(history: FlowHistory) -> Self {
        match history {
            FlowHistory::Ended => Origin::Row { shown: None, ended: true },
            FlowHistory::Inserted(position) => Origin::Row { shown: Some(Shown::Insert(position)), ended: false },
            FlowHistory::Loaded(position) => Origin::Row { shown: Some(Shown::Load(position)), ended: false },
        }
    }
}

impl FlowEntry {
    /// What is known of its row; None: it has none yet.
    pub(crate) fn history(&self) -> Option<FlowHistory> {
        match self.origin {
            Origin::Announced { .. } => None,
            Origin::Row { ended: true, .. } | Origin::Row { shown: None, .. } => Some(FlowHistory::Ended),
            Origin::Row { shown: Some(Shown::Insert(position)), ended: false } => Some(FlowHistory::Inserted(position)),
            Origin::Row { shown: Some(Shown::Load(position)), ended: false } => Some(FlowHistory::Loaded(position)),
        }
    }
}
