//! One deviation from a sound set of facts at a time, and what is found.

mod identity;
mod names;
mod publication;
mod server;
mod table;
mod triggers;

use std::collections::BTreeMap;

use penstock_wire::lsn::EndLsn;

use super::*;
use crate::catalog::{Column, Identity, Kind, Partition, Persistence, Published, WalStatus};
use crate::config::{Config, TableName};

const TEXT: u32 = 25;
const JSONB: u32 = 3802;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;

/// Facts that can be changed, and a configuration.
struct World {
    server: ServerFacts,
    publication: Option<Publication>,
    slot: Option<Slot>,
    triggers: Triggers,
    tables: BTreeMap<TableName, Table>,
    settings: Vec<(&'static str, &'static str)>,
}

fn policies() -> TableName {
    TableName::new("public", "policies")
}

fn column(number: i16, name: &str, base_oid: u32) -> Column {
    Column {
        name: name.to_owned(),
        number,
        type_oid: base_oid,
        modifier: -1,
        type_name: if base_oid == UUID { "uuid" } else { "other" }.to_owned(),
        base_oid,
        base_name: "other".to_owned(),
        not_null: true,
        generated: false,
        readable: true,
        out_of_line: base_oid != UUID,
    }
}

fn table(name: &str) -> Table {
    Table {
        oid: 1,
        name: TableName::new("public", name),
        kind: Kind::Ordinary,
        is_partition: false,
        persistence: Persistence::Permanent,
        identity: Identity::Full,
        primary_key: vec!["id".to_owned()],
        primary_key_deferrable: false,
        schema_usable: true,
        columns: vec![
            column(1, "id", UUID),
            column(2, "account_id", UUID),
            column(3, "description", TEXT),
            column(4, "conditions", JSONB),
        ],
        partitions: Vec::new(),
    }
}

fn partition(name: &str, identity: Identity) -> Partition {
    Partition {
        name: TableName::new("public", name),
        kind: Kind::Ordinary,
        persistence: Persistence::Permanent,
        identity,
        tells_truncate: true,
    }
}

fn world() -> World {
    World {
        server: ServerFacts {
            version: 150_004,
            wal_level: "logical".to_owned(),
            encoding: "UTF8".to_owned(),
            in_recovery: false,
            database: "portal".to_owned(),
            database_oid: 5,
            slot_wal_keep_bytes: None,
            wal_sender_timeout_ms: Some(60_000),
            slots_max: 10,
            slots_used: 1,
            wal_senders_max: 10,
            role: "bridge".to_owned(),
            superuser: false,
            replication: true,
            rds: false,
        },
        publication: Some(Publication {
            name: "penstock".to_owned(),
            oid: 7,
            all_tables: false,
            insert: true,
            update: true,
            delete: true,
            truncate: true,
            via_root: true,
            generated_columns: false,
            tables: [(policies(), Published::default())].into(),
        }),
        triggers: Triggers::Whole,
        slot: Some(Slot {
            name: "penstock_portal".to_owned(),
            plugin: Some("pgoutput".to_owned()),
            logical: true,
            database: Some("portal".to_owned()),
            temporary: false,
            active_pid: None,
            restart_lsn: None,
            confirmed_lsn: Some(EndLsn::new(0x10)),
            wal_status: Some(WalStatus::Reserved),
            safe_wal_bytes: None,
            two_phase: false,
            failover: None,
            invalidation_reason: None,
            inactive_since: None,
        }),
        tables: [(policies(), table("policies"))].into(),
        settings: vec![
            ("SOURCE__NAME", "portal"),
            ("SOURCE__URL", "postgres://bridge@127.0.0.1/portal"),
            ("KAFKA__BROKERS", "k:1"),
            ("REGISTRY__URL", "http://r"),
        ],
    }
}

impl World {
    fn table(&mut self) -> &mut Table {
        self.tables.get_mut(&policies()).unwrap()
    }

    fn publication(&mut self) -> &mut Publication {
        self.publication.as_mut().unwrap()
    }

    fn slot(&mut self) -> &mut Slot {
        self.slot.as_mut().unwrap()
    }

    fn add(&mut self, table: Table) {
        self.tables.insert(table.name.clone(), table);
    }

    fn set(&mut self, name: &'static str, value: &'static str) {
        self.settings.push((name, value));
    }

    fn findings(&self) -> Vec<String> {
        let environment = self.settings.iter().map(|(name, value)| (format!("PENSTOCK_{name}"), (*value).to_owned()));
        let config = Config::load(None, environment).unwrap();
        let facts = Facts {
            server: &self.server,
            publication: self.publication.as_ref(),
            slot: self.slot.as_ref(),
            triggers: self.triggers,
            tables: &self.tables,
        };
        findings(&facts, &config).iter().map(ToString::to_string).collect()
    }
}

/// Changes the sound facts and compares what is found with the beginnings that are expected.
#[track_caller]
fn check(change: impl FnOnce(&mut World), expected: &[&str]) {
    let mut world = world();
    change(&mut world);
    let found = world.findings();
    let as_expected =
        found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
    assert!(as_expected, "expected {expected:#?}\nfound {found:#?}");
}

#[test]
fn sound_facts_give_no_findings() {
    check(|_| {}, &[]);
}
