//! Wherever a reader stops and goes on from its checkpoint, it comes to the same state as one that never did.

use std::collections::BTreeSet;

use penstock_access::account::snapshot::{RowState, Snapshot};
use penstock_access::authorize::{Answer, Request};
use penstock_access::rows::Table;
use penstock_wire::event::Op;
use proptest::prelude::*;

use crate::fixture::{self, Cell, Cells, text};
use crate::log::{Deed, Log, READ_AT, Reader};

const ACCOUNTS: [&str; 2] = [fixture::ACCOUNT, "7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c12"];

#[derive(Clone, Copy, Debug)]
struct Pick {
    table: usize,
    account: usize,
    row: u128,
    parent: u128,
    /// 0: deleted; 1: deleted softly; else what the columns hold.
    what: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Pick>),
    /// Records, and whether the reader then hears of progress.
    Read(usize, bool),
    Save,
    /// True: as a new process.
    Restart(bool),
}

fn id(table: Table, row: u128) -> String {
    let number = Table::ALL.iter().position(|of| *of == table).expect("it is a table") as u128;
    uuid::Uuid::from_u128((number << 64) | (1 + row)).to_string()
}

/// The row as it is then: the columns that name others do so within the account.
fn cells(pick: Pick) -> Deed {
    let Pick { table, account, row, parent, what } = pick;
    let table = Table::ALL[table];
    let row = row + 10 * account as u128;
    let of = |table| text(&id(table, parent + 10 * account as u128));
    let mut cells = fixture::sample(table);
    let mut set = |name: &str, cell: Cell| {
        cells.retain(|(column, _)| column != name);
        cells.push((name.to_owned(), cell));
    };
    set("account_id", text(ACCOUNTS[account]));
    set("id", text(&id(table, row)));
    let names: &[(&str, Table)] = match table {
        Table::Accounts => &[],
        Table::ActorGroupMemberships => &[("actor_id", Table::Actors), ("group_id", Table::ActorGroups)],
        Table::AuthIdentities => &[("provider_id", Table::AuthProviders)],
        Table::Tokens => &[("actor_id", Table::Actors)],
        Table::Clients => &[("actor_id", Table::Actors), ("identity_id", Table::AuthIdentities)],
        Table::Gateways => &[("group_id", Table::GatewayGroups)],
        Table::ResourceConnections => &[("resource_id", Table::Resources), ("gateway_group_id", Table::GatewayGroups)],
        Table::Policies => &[("actor_group_id", Table::ActorGroups), ("resource_id", Table::Resources)],
        Table::Flows => &[
            ("policy_id", Table::Policies),
            ("client_id", Table::Clients),
            ("gateway_id", Table::Gateways),
            ("resource_id", Table::Resources),
            ("token_id", Table::Tokens),
            ("actor_group_membership_id", Table::ActorGroupMemberships),
        ],
        Table::Actors | Table::ActorGroups | Table::AuthProviders | Table::GatewayGroups | Table::Resources => &[],
    };
    names.iter().for_each(|(column, parent)| set(column, of(*parent)));
    match table {
        Table::Accounts => set("id", text(ACCOUNTS[account])),
        Table::Resources => set("address", text(&format!("host{}.example", what % 3))),
        Table::Policies if what % 2 == 0 => set("conditions", text("{}")),
        _ => {}
    }
    if what == 1 {
        set("deleted_at", text("2021-01-01 10:00:00"));
    }
    let op = match what {
        0 => Op::Delete,
        what if what % 2 == 0 => Op::Create,
        _ => Op::Update,
    };
    Deed { table, op, cells }
}

/// A column that the table does not have is nobody's.
fn known(deed: Deed) -> Deed {
    let shape = fixture::shape(deed.table);
    let has = |name: &str| shape.columns.iter().any(|column| column.name == name);
    let cells: Cells = deed.cells.into_iter().filter(|(name, _)| has(name)).collect();
    Deed { cells, ..deed }
}

fn pick() -> impl Strategy<Value = Pick> {
    // Resources and flows say most.
    let table = prop_oneof![2 => 0..Table::ALL.len(), 1 => Just(10_usize), 1 => Just(13_usize)];
    (table, 0..2_usize, 0..2_u128, 0..2_u128, 0..12_u8).prop_map(|(table, account, row, parent, what)| Pick {
        table,
        account,
        row,
        parent,
        what,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(pick(), 1..5).prop_map(Step::Commit),
        4 => (prop_oneof![1..8_usize, Just(usize::MAX)], any::<bool>()).prop_map(|(records, end)| Step::Read(records, end)),
        2 => Just(Step::Save),
        2 => prop::bool::weighted(0.2).prop_map(Step::Restart),
    ]
}

/// A reader, and the last checkpoint of it.
struct Trial {
    log: Log,
    reader: Reader,
    kept: Option<Vec<u8>>,
}

impl Trial {
    fn run(steps: Vec<Step>) -> Self {
        let mut trial = Self { log: Log::default(), reader: Reader::new(), kept: None };
        let first: Vec<Pick> = (0..Table::ALL.len())
            .flat_map(|table| [0, 1].map(|account| Pick { table, account, row: 0, parent: 0, what: 2 }))
            .collect();
        trial.step(Step::Commit(first));
        trial.reader.catch_up(&trial.log);
        steps.into_iter().for_each(|step| trial.step(step));
        trial
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(picks) => self.log.commit(&picks.into_iter().map(cells).map(known).collect::<Vec<_>>()),
            Step::Read(_, true) => self.reader.catch_up(&self.log),
            Step::Read(records, false) => {
                self.reader.read(&self.log, records);
            }
            Step::Save => self.kept = self.reader.save().or(self.kept.take()),
            Step::Restart(anew) => self.restart(anew),
        }
    }

    fn restart(&mut self, anew: bool) {
        match anew {
            true => self.reader.start_again(),
            false => self.reader.release(),
        }
        self.reader.resume(self.kept.as_deref());
        // Nothing is known before progress says so.
        for account in ACCOUNTS {
            assert!(self.reader.replica.doubt(account, READ_AT).is_some());
        }
        let client = uuid::Uuid::from_u128(u128::MAX);
        let request = Request { client, token: client, resource: client, online: &[], flow: client };
        let answer = self.reader.replica.authorize(&request, READ_AT);
        assert!(matches!(answer, Answer::Unavailable { .. }), "its row may just not be read yet: {answer:?}");
    }

    fn state(reader: &Reader) -> Vec<(String, Snapshot, serde_json::Value)> {
        let accounts = reader.replica.accounts().map(|account| {
            let show = reader.replica.show(account.id(), READ_AT).expect("it has rows here");
            (account.id().to_owned(), account.snapshot(), serde_json::to_value(show).expect("JSON"))
        });
        accounts.filter(|(_, snapshot, _)| !snapshot.rows.is_empty()).collect()
    }

    /// All is read, and everything is known.
    fn finish(&mut self) {
        self.reader.catch_up(&self.log);
        for account in ACCOUNTS {
            assert_eq!(self.reader.replica.doubt(account, READ_AT), None);
        }
    }
}

/// Rows without what only history tells.
fn rows(snapshot: &Snapshot) -> Vec<RowState> {
    let plain = |row: &RowState| RowState { history: penstock_access::account::snapshot::History::None, ..row.clone() };
    snapshot.rows.iter().map(plain).collect()
}

/// Flows that authorise somebody.
fn flows(show: &serde_json::Value) -> BTreeSet<String> {
    let gateways = show["gateways"].as_array().expect("a list").iter();
    let pairs = gateways.flat_map(|gateway| gateway["authorized"].as_array().expect("a list"));
    pairs.flat_map(|pair| pair["flow_ids"].as_array().expect("a list")).map(ToString::to_string).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_from_a_checkpoint_anywhere_changes_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let mut trial = Trial::run(steps);
        trial.finish();
        prop_assert_eq!(trial.reader.rebuilds, 0, "nothing was compacted");
        let mut steady = Reader::new();
        steady.catch_up(&trial.log);
        prop_assert_eq!(Trial::state(&trial.reader), Trial::state(&steady));
        // The one that did not stop has told of no flow that the other has not.
        prop_assert!(trial.reader.ended.is_superset(&steady.ended));
    }

    #[test]
    fn what_was_compacted_under_a_checkpoint_is_noticed(
        before in prop::collection::vec(step(), 1..30),
        behind in prop::collection::vec(prop::collection::vec(pick(), 1..5), 1..6),
    ) {
        let mut trial = Trial::run(before);
        trial.finish();
        trial.step(Step::Save);
        behind.into_iter().for_each(|picks| trial.step(Step::Commit(picks)));
        let mut steady = Reader::new();
        steady.catch_up(&trial.log);
        trial.log.compact();
        trial.restart(true);
        trial.finish();
        let (mine, all) = (Trial::state(&trial.reader), Trial::state(&steady));
        prop_assert_eq!(mine.len(), all.len());
        for ((account, rows_of_mine, mine), (_, rows_of_all, all)) in mine.iter().zip(&all) {
            prop_assert_eq!(rows(rows_of_mine), rows(rows_of_all), "{}", account);
            prop_assert_eq!(&mine["clients"], &all["clients"]);
            // Flows that history does not vouch for have ended; none lives that should not.
            let (mine, all) = (flows(mine), flows(all));
            prop_assert!(mine.is_subset(&all), "{:?} beyond {:?}", mine, all);
        }
    }
}

#[test]
fn a_restart_reads_only_what_is_new() {
    let mut trial = Trial::run(Vec::new());
    trial.finish();
    let before = trial.log.records.len();
    trial.step(Step::Save);
    trial.step(Step::Commit(vec![Pick { table: 10, account: 0, row: 0, parent: 0, what: 3 }]));
    trial.restart(true);
    trial.finish();
    assert_eq!((trial.reader.read, trial.reader.rebuilds), (1, 0), "{before} were read before");
}

#[test]
fn a_flow_that_was_ended_stays_so_behind_a_restart() {
    let mut trial = Trial::run(Vec::new());
    let flow = Pick { table: 13, account: 0, row: 0, parent: 0, what: 2 };
    trial.finish();
    trial.step(Step::Commit(vec![Pick { table: 10, account: 0, row: 0, parent: 0, what: 4 }]));
    trial.finish();
    assert_eq!(trial.reader.ended.len(), 1, "its resource has another address");
    trial.step(Step::Save);
    trial.restart(true);
    // An update of the row, as a bookkeeping column makes it, wakes nothing.
    trial.step(Step::Commit(vec![Pick { what: 3, ..flow }]));
    trial.finish();
    let (point, accounts) = trial.reader.replica.save(0).expect("all is read");
    let flows = accounts.iter().flat_map(|saved| &saved.snapshot.rows).filter(|row| row.table == Table::Flows);
    let ended = penstock_access::account::snapshot::FlowHistory::Ended;
    let is_ended = |row: &RowState| row.history == penstock_access::account::snapshot::History::Flow(ended);
    assert_eq!(flows.filter(|row| is_ended(row)).count(), 1);
    assert_eq!(point.offset(), trial.log.records.len() as i64);
}
