//! A topic of one partition, written row by row, and the replica that reads it.

use std::collections::BTreeMap;

use penstock_access::account;
use penstock_access::authorize::{Answer, NewFlow, Request};
use penstock_access::channel::Event;
use penstock_access::decode::Names;
use penstock_access::partition::{Isolation, Options as Reading};
use penstock_access::replica::{Options, Output, RawRecord, Replica};
use penstock_access::rows::{Micros, Table};
use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::event::{Event as Envelope, Op, Transaction};
use penstock_wire::header::{HEADER_LENGTH, Header};
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::plan::Plan;
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::{KeyPin, PartitionProgress, Progress};
use penstock_wire::reload::Scope;
use penstock_wire::table::SourceInfo;
use serde_json::json;
use uuid::Uuid;

use crate::fixture::shape;

const CONTROL: u32 = 1000;
/// Seconds since 1970 at which every world begins.
pub const START: i64 = 1_700_000_000;

/// An id in text, told apart by its last digits.
pub fn id(number: u32) -> String {
    uuid(number).to_string()
}

pub fn uuid(number: u32) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 | u128::from(number))
}

pub const ACCOUNT: u32 = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    last: Position,
    commit: u64,
}

pub struct World {
    pub replica: Replica,
    /// Seconds since `START`.
    pub now: i64,
    /// Seconds since what is written was committed: by default it is old enough to be compacted.
    pub age: i64,
    offset: i64,
    sources: BTreeMap<u16, Written>,
    log: Vec<Logged>,
}

struct Logged {
    offset: i64,
    timestamp_ms: i64,
    header: [u8; HEADER_LENGTH],
    is_control: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A row: its table, and its columns beside those of its account.
pub type Cells = (Table, Vec<(&'static str, String)>);

impl World {
    pub fn new(account: account::Options) -> Self {
        let partition = Reading {
            isolation: Isolation::ReadCommitted,
            stale_after: std::time::Duration::from_secs(10),
            compaction_lag: std::time::Duration::from_secs(1000),
            tombstone_retention: std::time::Duration::from_secs(5000),
        };
        let partitions = Partitioner::new(1).expect("one partition");
        let mut replica = Replica::new(Options { account, partition, names: Names::default(), partitions });
        for table in Table::ALL {
            let plan = plan(table);
            let (key, value) = schemas(table);
            replica.handle_schema(key, Some(plan.key_schema()));
            replica.handle_schema(value, Some(plan.envelope_schema()));
        }
        replica.handle_schema(CONTROL, Some(Control::schema()));
        let mut world = Self { replica, now: 0, age: 100_000, offset: 0, sources: BTreeMap::new(), log: Vec::new() };
        world.replica.assign(0, world.micros());
        world
    }

    /// A world in which client 30 may reach resource 60 through gateway 50, all of it known; in source 1.
    pub fn known(options: account::Options) -> Self {
        let mut world = Self::new(options);
        for row in small() {
            world.row(1, Op::Create, row);
        }
        world.heartbeat(1);
        world.end();
        assert_eq!(world.ask(), "ok");
        world
    }

    pub fn micros(&self) -> Micros {
        Micros::from_seconds(START + self.now)
    }

    /// A transaction of one row of account 1.
    pub fn row(&mut self, source: u16, op: Op, row: Cells) {
        self.row_of(ACCOUNT, source, op, row);
    }

    pub fn row_of(&mut self, account: u32, source: u16, op: Op, (table, cells): Cells) {
        let (shape, plan) = (shape(table), plan(table));
        let account = id(account);
        let text = |name: &str| match name {
            "account_id" => Some(account.as_bytes()),
            "id" if table == Table::Accounts => Some(account.as_bytes()),
            name => cells.iter().find(|(column, _)| *column == name).map(|(_, text)| text.as_bytes()),
        };
        let columns: Vec<Column<'_>> =
            shape.columns.iter().map(|column| text(&column.name).map_or(Column::Null, Column::Text)).collect();
        let event = Envelope {
            op,
            before: matches!(op, Op::Delete | Op::Update).then_some(&*columns),
            after: (op != Op::Delete).then_some(&*columns),
            commit_time_us: self.micros().0,
            commit_lsn: CommitLsn::new(1),
            seq: Seq(8),
            transaction: (op != Op::Read).then_some(Transaction { xid: 7, total_order: 1, data_collection_order: 1 }),
            row_lsn: None,
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        plan.encode_key(&columns, Account::from_column(Some(account.as_bytes())).unwrap(), &mut key).unwrap();
        plan.encode_envelope(&event, &mut value).unwrap();
        self.write(source, &key, &value, false);
    }

    pub fn control(&mut self, source: u16, control: &Control) {
        let mut value = Vec::new();
        control.encode(CONTROL, &mut value);
        self.write(source, &[], &value, true);
    }

    /// A reload of everything in a source that finds these rows of account 1.
    pub fn reload(&mut self, source: u16, rows: Vec<Cells>) {
        self.reload_of(source, &Scope::default(), rows);
    }

    pub fn reload_of(&mut self, source: u16, scope: &Scope, rows: Vec<Cells>) {
        let begin = self.next(source);
        self.control(source, &Control::reload(ControlKind::ReloadBegin, scope, begin));
        for row in rows {
            self.row(source, Op::Read, row);
        }
        self.control(source, &Control::reload(ControlKind::ReloadEnd, scope, begin));
    }

    /// Where the source's next record stands.
    fn next(&self, source: u16) -> Position {
        let commit = self.sources.get(&source).map_or(0, |written| written.commit) + 1;
        Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(8) }
    }

    /// The next record is written, and nobody gets to see it.
    pub fn skip(&mut self, source: u16) {
        let position = self.next(source);
        let written = self.sources.entry(source).or_default();
        (written.last, written.commit) = (position, position.commit_lsn.raw());
        self.offset += 1;
    }

    fn write(&mut self, source: u16, key: &[u8], value: &[u8], is_control: bool) {
        let previous = self.sources.get(&source).copied().unwrap_or_default().last;
        self.skip(source);
        let position = self.sources[&source].last;
        let header = Header { end_of_transaction: true, identity_only: false, source, position, previous }.encode();
        let (key, value) = (key.to_vec(), value.to_vec());
        let timestamp_ms = (START + self.now - self.age) * 1000;
        self.log.push(Logged { offset: self.offset - 1, timestamp_ms, header, is_control, key, value });
        self.read_from(self.log.len() - 1);
    }

    /// The partition went to another instance and came back, and is read from its beginning to its end.
    pub fn reassign(&mut self) {
        self.replica.revoke(0, self.micros());
        self.replica.assign(0, self.micros());
        self.read_from(0);
        self.end();
    }

    /// Another process goes on where this one stood.
    pub fn restart(&mut self, options: account::Options) {
        let (point, saved) = self.replica.save(0).expect("it is live");
        self.replica = Self::new(options).replica;
        self.replica.resume(point, saved, self.micros());
    }

    fn read_from(&mut self, index: usize) {
        let now = self.micros();
        for logged in &self.log[index..] {
            let record = RawRecord {
                partition: 0,
                offset: logged.offset,
                timestamp_ms: logged.timestamp_ms,
                header: Some(&logged.header),
                is_control: logged.is_control,
                key: &logged.key,
                value: Some(&logged.value),
            };
            self.replica.handle_record(&record, now).expect("its schema is known");
        }
    }

    /// A record of which nothing can be read, not even whose it is. It is the next one of the source.
    pub fn misplaced(&mut self, source: u16) {
        self.skip(source);
        let record = RawRecord {
            partition: 0,
            offset: self.offset - 1,
            timestamp_ms: 0,
            header: None,
            is_control: false,
            key: &[],
            value: None,
        };
        self.replica.handle_record(&record, self.micros()).expect("no schema is needed");
    }

    /// Progress that covers all of a source, as of now.
    pub fn progress(&self, source: u16) -> Progress {
        let written = self.sources.get(&source).copied().unwrap_or_default();
        let pin =
            |table: Table| KeyPin { schema: "public".to_owned(), table: table.name().to_owned(), ..KeyPin::default() };
        let next_offset = if written.last == Position::ZERO { 0 } else { self.offset };
        Progress {
            source_number: source,
            epoch: 1,
            partition_count: 1,
            topic_id: "topic".to_owned(),
            end_lsn: EndLsn::new(written.commit + 1),
            partitions: vec![PartitionProgress { partition: 0, last: written.last, next_offset }],
            key_pins: Table::ALL.map(pin).to_vec(),
            postgres_clock_us: self.micros().0,
            load_complete: true,
            ..Progress::default()
        }
    }

    pub fn heartbeat(&mut self, source: u16) {
        let progress = self.progress(source);
        self.replica.handle_progress(&progress, self.micros());
    }

    pub fn end(&mut self) {
        self.replica.handle_end(0, self.offset, self.micros());
    }

    pub fn ask(&self) -> String {
        self.ask_for(30)
    }

    /// The answer's name, and why it is none.
    pub fn ask_for(&self, client: u32) -> String {
        let online = [uuid(50)];
        let request =
            Request { client: uuid(client), token: uuid(20), resource: uuid(60), online: &online, flow: uuid(99) };
        let answer = self.replica.authorize(&request, self.micros());
        let json = serde_json::to_value(&answer).unwrap();
        match answer {
            Answer::Unavailable { .. } => format!("unavailable {}", json["reason"].as_str().unwrap()),
            Answer::Ok { .. }
            | Answer::Forbidden { .. }
            | Answer::NotFound
            | Answer::Offline
            | Answer::VersionMismatch => json["result"].as_str().unwrap().to_owned(),
        }
    }

    /// The flow that client 30 gets.
    pub fn authorized(&self) -> NewFlow {
        let online = [uuid(50)];
        let request =
            Request { client: uuid(30), token: uuid(20), resource: uuid(60), online: &online, flow: uuid(99) };
        match self.replica.authorize(&request, self.micros()) {
            Answer::Ok { flow } => flow,
            other => panic!("{other:?}"),
        }
    }

    /// What channels are told, by name.
    pub fn told(&mut self) -> Vec<String> {
        let outputs = std::iter::from_fn(|| self.replica.poll_output());
        let told = outputs.filter_map(|output| match output {
            Output::Channel { event: Event::Push(message), .. } => Some(serde_json::to_value(message).unwrap()),
            Output::Channel { event: Event::Refused(refusal), .. } => Some(json!({"push": refusal.to_string()})),
            Output::EndedFlow { .. } | Output::Read { .. } | Output::Problem(_) => None,
        });
        told.map(|json| json["push"].as_str().unwrap().to_owned()).collect()
    }

    /// The flows that gateway 50 has.
    pub fn flows(&self) -> usize {
        let show = self.replica.show(&id(ACCOUNT), self.micros()).expect("it has rows");
        show.gateways.iter().flat_map(|gateway| &gateway.authorized).map(|pair| pair.flow_ids.len()).sum()
    }
}

fn schemas(table: Table) -> (u32, u32) {
    let index = Table::ALL.iter().position(|other| *other == table).unwrap();
    let index = u32::try_from(index).unwrap();
    (10 + 2 * index, 11 + 2 * index)
}

fn plan(table: Table) -> Plan {
    let source = SourceInfo { name: "main".into(), number: 1, database: "portal".into() };
    let mut plan = Plan::compile(&shape(table), &source).unwrap();
    let (key, value) = schemas(table);
    plan.registered(key, value);
    plan
}

pub fn small() -> Vec<Cells> {
    vec![
        (Table::Accounts, vec![("slug", "acme".to_owned())]),
        (Table::Actors, vec![("id", id(10)), ("type", "account_user".to_owned())]),
        (Table::ActorGroups, vec![("id", id(11)), ("type", "static".to_owned())]),
        (Table::ActorGroupMemberships, vec![("id", id(12)), ("actor_id", id(10)), ("group_id", id(11))]),
        (Table::Tokens, vec![("id", id(20)), ("type", "client".to_owned()), ("actor_id", id(10))]),
        client(30),
        (Table::GatewayGroups, vec![("id", id(40)), ("name", "Berlin".to_owned())]),
        (
            Table::Gateways,
            vec![
                ("id", id(50)),
                ("group_id", id(40)),
                ("public_key", "key".to_owned()),
                ("last_seen_version", "1.4.0".to_owned()),
            ],
        ),
        resource("one.example.com"),
        (Table::ResourceConnections, vec![("resource_id", id(60)), ("gateway_group_id", id(40))]),
        (
            Table::Policies,
            vec![("id", id(70)), ("actor_group_id", id(11)), ("resource_id", id(60)), ("conditions", "{}".to_owned())],
        ),
    ]
}

pub fn client(number: u32) -> Cells {
    (
        Table::Clients,
        vec![
            ("id", id(number)),
            ("actor_id", id(10)),
            ("last_used_token_id", id(20)),
            ("public_key", "key".to_owned()),
            ("last_seen_version", "1.4.0".to_owned()),
        ],
    )
}

pub fn resource(address: &str) -> Cells {
    (
        Table::Resources,
        vec![
            ("id", id(60)),
            ("name", "Wiki".to_owned()),
            ("type", "dns".to_owned()),
            ("address", address.to_owned()),
            ("filters", "[]".to_owned()),
        ],
    )
}

pub fn flow(number: u32) -> Cells {
    (
        Table::Flows,
        vec![
            ("id", id(number)),
            ("policy_id", id(70)),
            ("client_id", id(30)),
            ("gateway_id", id(50)),
            ("resource_id", id(60)),
            ("token_id", id(20)),
            ("actor_group_membership_id", id(12)),
        ],
    )
}
