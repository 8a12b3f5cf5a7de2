//! Rows that name rows which their account does not have.
//!
//! Postgres' foreign keys let no such row come about, so one that comes is a sign: a table or a row is not captured, or
//! rows of one account name those of another. It grants nothing, because every rule asks for the row that is not there;
//! this is only about saying so. Of a load nothing is said: its tables come in any order.

use uuid::Uuid;

use crate::account::links::find_sorted;
use crate::account::state::AccountState;
use crate::change::{Action, Change, Commit};
use crate::rows::{Row, RowId, Table};

/// A row of a table names a row of `parent` that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub table: Table,
    pub parent: Table,
    /// Where the row stands.
    pub position: penstock_wire::position::Position,
}

impl AccountState {
    /// Of what a commit inserted and updated, once all of it is applied. `own`: the id of the account's own row.
    pub(crate) fn orphans(&self, own: Option<Uuid>, commit: &Commit) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for change in &commit.changes {
            let (id, row) = match &change.action {
                Action::Insert(id, row) | Action::Update(id, row) => (*id, row),
                Action::Load(..) | Action::Delete(_) | Action::Truncate | Action::Sweep { .. } => continue,
            };
            if !self.still_holds(change, id) {
                continue;
            }
            let mut ask = |parent, of: Option<Uuid>| {
                if of.is_some_and(|of| !self.has_row(parent, of)) {
                    orphans.push(Orphan { table: change.table, parent, position: change.position });
                }
            };
            ask(Table::Accounts, own.filter(|_| change.table != Table::Accounts));
            each_parent(id, row, ask);
        }
        orphans
    }

    /// The commit itself has neither deleted the row again nor written it anew.
    fn still_holds(&self, change: &Change, id: RowId) -> bool {
        match id {
            RowId::Id(id) => self.position_of(change.table, id) == Some(change.position),
            RowId::Connection { resource, gateway_group } => {
                let links = self.resources.links(resource);
                links.is_some_and(|links| find_sorted(&links.sites, gateway_group).is_some())
            }
        }
    }

    fn has_row(&self, table: Table, id: Uuid) -> bool {
        self.position_of(table, id).is_some()
    }
}

/// Gives the rows that a row names. The token that a client or gateway last used is none: it may be gone.
fn each_parent(id: RowId, row: &Row, mut give: impl FnMut(Table, Option<Uuid>)) {
    match row {
        Row::Account(_) | Row::Actor(_) | Row::ActorGroup(_) | Row::AuthProvider(_) => {}
        Row::GatewayGroup(_) | Row::Resource(_) => {}
        Row::Membership(row) => {
            give(Table::Actors, Some(row.actor));
            give(Table::ActorGroups, Some(row.group));
        }
        Row::AuthIdentity(row) => give(Table::AuthProviders, Some(row.provider)),
        Row::Token(row) => give(Table::Actors, row.actor),
        Row::Client(row) => {
            give(Table::Actors, Some(row.actor));
            give(Table::AuthIdentities, row.identity);
        }
        Row::Gateway(row) => give(Table::GatewayGroups, Some(row.group)),
        Row::ResourceConnection => {
            let RowId::Connection { resource, gateway_group } = id else { return };
            give(Table::Resources, Some(resource));
            give(Table::GatewayGroups, Some(gateway_group));
        }
        Row::Policy(row) => {
            give(Table::ActorGroups, Some(row.group));
            give(Table::Resources, Some(row.resource));
        }
        Row::Flow(row) => {
            give(Table::Policies, Some(row.policy));
            give(Table::Clients, Some(row.client));
            give(Table::Gateways, Some(row.gateway));
            give(Table::Resources, Some(row.resource));
            give(Table::Tokens, Some(row.token));
            give(Table::ActorGroupMemberships, Some(row.membership));
        }
    }
}
