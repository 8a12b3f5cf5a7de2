//! One deviation from a sound set of facts at a time, and what is found.

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

#[test]
fn server() {
    check(|w| w.server.version = 130_011, &["stop server: this is Postgres 13; use Postgres 14"]);
    check(|w| w.server.in_recovery = true, &["stop server: this is a standby"]);
    check(
        |w| w.server.wal_level = "replica".into(),
        &["stop server: wal_level is replica; ALTER SYSTEM SET wal_level = 'logical'"],
    );
    check(
        |w| {
            w.server.wal_level = "replica".into();
            w.server.rds = true;
        },
        &["rds.logical_replication = 1"],
    );
    check(
        |w| w.server.replication = false,
        &["stop role bridge: it may not read the replication stream; ALTER ROLE \"bridge\" REPLICATION;"],
    );
    check(
        |w| {
            w.server.replication = false;
            w.server.superuser = true;
        },
        &[],
    );
    check(|w| w.server.wal_senders_max = 0, &["stop server: max_wal_senders is 0"]);
    check(|w| w.server.slots_used = 10, &[]);
    check(
        |w| {
            w.slot = None;
            w.server.slots_used = 10;
        },
        &[
            "stop server: all 10 replication slots are in use",
            "stop slot penstock_portal: there is no such slot; run: penstock setup",
        ],
    );
    check(|w| w.server.encoding = "SQL_ASCII".into(), &["warn server: the database's encoding is SQL_ASCII"]);
    check(|w| w.server.wal_sender_timeout_ms = Some(1500), &["warn server: wal_sender_timeout is 1500 ms"]);
    check(|w| w.server.wal_sender_timeout_ms = None, &[]);
}

#[test]
fn slot() {
    check(|w| w.slot = None, &["stop slot penstock_portal: there is no such slot; run: penstock setup"]);
    check(|w| w.slot().logical = false, &["stop slot penstock_portal: it is a physical slot"]);
    check(
        |w| w.slot().database = Some("x".into()),
        &["stop slot penstock_portal: it belongs to database x, not to portal"],
    );
    check(|w| w.slot().plugin = Some("wal2json".into()), &["stop slot penstock_portal: its output plugin is wal2json"]);
    check(|w| w.slot().temporary = true, &["stop slot penstock_portal: it is temporary"]);
    check(
        |w| w.slot().wal_status = Some(WalStatus::Lost),
        &["stop slot penstock_portal: it is lost (the WAL that it needs was removed)"],
    );
    check(|w| w.slot().invalidation_reason = Some("rows_removed".into()), &["it is lost (rows_removed)"]);
    check(
        |w| w.slot().wal_status = Some(WalStatus::Unreserved),
        &["warn slot penstock_portal: the WAL that it needs is beyond"],
    );
    check(|w| w.slot().active_pid = Some(12), &["warn slot penstock_portal: process 12 of the server streams from it"]);
    check(
        |w| {
            w.slot().active_pid = Some(12);
            w.slot().confirmed_lsn = None;
        },
        &[
            "stop slot penstock_portal: process 12 of the server is still making it, and waits for transactions that run; \
           wait; if no `penstock setup` or `run` is at it any more: SELECT pg_terminate_backend(12);",
        ],
    );
}

#[test]
fn publication() {
    check(
        |w| {
            w.publication = None;
            w.slot = None;
            w.set("TABLES__CAPTURE", "public.*");
        },
        &[
            "stop publication penstock: there is no such publication; run: penstock setup",
            "there is no such slot; run: penstock setup",
        ],
    );
    check(
        |w| {
            w.publication = None;
            w.slot = None;
        },
        &["nothing tells what to publish; set tables.capture", "there is no such slot"],
    );
    check(|w| w.publication = None, &["stop publication penstock: it is gone, but slot penstock_portal is there"]);
    check(
        |w| {
            w.publication().delete = false;
            w.publication().truncate = false;
        },
        &[
            "stop publication penstock: it does not send delete, truncate; ALTER PUBLICATION \"penstock\" SET (publish =",
        ],
    );
    check(|w| w.publication().insert = false, &["it does not send insert;"]);
    check(|w| w.publication().update = false, &["it does not send update;"]);
    check(|w| w.publication().generated_columns = true, &["it sends generated columns"]);
    check(
        |w| w.publication().tables.clear(),
        &["stop publication penstock: it holds no table", "warn table public.policies: it is not in the publication"],
    );
    check(
        |w| w.publication().tables.get_mut(&policies()).unwrap().columns = Some(vec!["id".into()]),
        &["stop table public.policies: it is published with a column list"],
    );
    check(
        |w| w.publication().tables.get_mut(&policies()).unwrap().row_filter = Some("(a > 1)".into()),
        &[
            "stop table public.policies: it is published with a row filter: (a > 1); BEGIN; ALTER PUBLICATION \"penstock\" DROP TABLE \"public\".\"policies\"",
        ],
    );
}

#[test]
fn capture_and_publication_must_agree() {
    check(|w| w.set("TABLES__CAPTURE", "public.policies"), &[]);
    check(
        |w| w.set("TABLES__CAPTURE", "public.policies,public.polices"),
        &["stop table public.polices: there is no such table (did you mean policies?)"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.policies,public.flows");
            w.add(table("flows"));
        },
        &[
            "stop table public.flows: it is not in the publication: its changes are not captured; ALTER PUBLICATION \"penstock\" ADD TABLE \"public\".\"flows\";",
        ],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.*");
            w.add(table("flows"));
        },
        &["warn table public.flows: it is not in the publication"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.*");
            w.set("TABLES__LEAVE_OUT", "public.flows");
            w.add(table("flows"));
        },
        &[],
    );
    check(
        |w| w.set("TABLES__LEAVE_OUT", "public.policies"),
        &["stop table public.policies: it is published, but the configuration does not ask for it"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.policies,public.flows");
            w.add(Table { kind: Kind::Other, ..table("flows") });
        },
        &["stop table public.flows: it is not a table"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.flows");
            w.add(table("flows"));
            w.publication().tables.insert(TableName::new("public", "flows"), Published::default());
        },
        &["stop table public.policies: it is published, but the configuration does not ask for it"],
    );
}

#[test]
fn tables_that_cannot_be_captured() {
    check(|w| w.table().kind = Kind::Foreign, &["stop table public.policies: it lives on another server"]);
    check(|w| w.table().kind = Kind::Other, &["stop table public.policies: it is not a table"]);
    check(
        |w| w.table().persistence = Persistence::Unlogged,
        &["is unlogged: its changes never reach the WAL; ALTER TABLE \"public\".\"policies\" SET LOGGED;"],
    );
    check(|w| w.table().persistence = Persistence::Temporary, &["is temporary"]);
    check(|w| w.table().primary_key.clear(), &["stop table public.policies: it has no primary key"]);
    for name in ["__account", "__source"] {
        check(
            |w| {
                w.table().primary_key = vec![name.into()];
                w.table().columns.push(column(9, name, UUID));
            },
            &["bears a name that record keys have themselves"],
        );
    }
}

#[test]
fn account_and_key_columns() {
    check(
        |w| w.table().columns[1].name = "acount_id".into(),
        &[
            "stop table public.policies: it has no account column account_id (did you mean acount_id?); name the column that tells the account ([tables.\"public.policies\"] account_column",
        ],
    );
    for (oid, fits) in [
        (UUID, true),
        (TEXT, true),
        (1043, true),
        (21, true),
        (23, true),
        (20, true),
        (1700, false),
        (16_400, false),
        (1042, false),
    ] {
        let expected: &[&str] =
            if fits { &[] } else { &["stop table public.policies: its account column account_id is of type"] };
        check(|w| w.table().columns[1].base_oid = oid, expected);
    }
    check(|w| w.set("TABLES__EXCLUDE", "public.policies.account_id"), &["its account column account_id is excluded"]);
    check(|w| w.set("TABLES__EXCLUDE", "public.policies.id"), &["its key column id is excluded"]);
    check(
        |w| w.set("TABLES__IGNORE_UPDATES", "public.policies.account_id"),
        &["updates of its account column account_id are ignored"],
    );
    check(|w| w.table().columns[0].generated = true, &["stop table public.policies: its key column id is generated"]);
    check(
        |w| w.table().columns[2].generated = true,
        &["warn table public.policies: its column description is generated"],
    );
    check(
        |w| {
            w.table().columns[2].generated = true;
            w.set("TABLES__EXCLUDE", "public.policies.description");
        },
        &[],
    );
    check(|w| w.set("TABLES__ACCOUNT_COLUMN", "id"), &[]);
}

#[test]
fn tables_that_the_role_may_not_read() {
    check(
        |w| w.table().columns.iter_mut().for_each(|column| column.readable = false),
        &[
            "warn table public.policies: role bridge may not read it, so nobody can tell whether it held rows before the first start; \
             GRANT SELECT ON \"public\".\"policies\" TO \"bridge\";",
        ],
    );
    check(
        |w| w.table().schema_usable = false,
        &["GRANT USAGE ON SCHEMA \"public\" TO \"bridge\"; GRANT SELECT ON \"public\".\"policies\" TO \"bridge\";"],
    );
    // A secret stays one.
    check(
        |w| {
            w.table().columns[0].readable = false;
            w.table().columns[3].readable = false;
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &["GRANT SELECT (\"id\", \"account_id\", \"description\") ON \"public\".\"policies\" TO \"bridge\";"],
    );
    check(
        |w| {
            w.table().columns[3].readable = false;
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &[],
    );
}

/// A key of id and account, so that the default identity holds what is needed.
fn with_identity(world: &mut World, identity: Identity) {
    world.table().identity = identity;
    world.table().primary_key = vec!["account_id".into(), "id".into()];
}

#[test]
fn replica_identity() {
    let lacks = "its replica identity lacks";
    let large = "large values of description, conditions are not sent again";
    check(
        |w| w.table().identity = Identity::Default,
        &[
            "its replica identity lacks account_id: a delete or a move would not say which row or account it concerns; ALTER TABLE \"public\".\"policies\" REPLICA IDENTITY FULL;",
        ],
    );
    check(|w| w.table().identity = Identity::Nothing, &["its replica identity lacks id, account_id"]);
    check(|w| with_identity(w, Identity::Default), &[large]);
    check(|w| with_identity(w, Identity::Index(vec!["id".into(), "account_id".into()])), &[large]);
    check(|w| with_identity(w, Identity::Index(vec!["id".into()])), &[lacks]);
    check(|w| with_identity(w, Identity::Index(Vec::new())), &[lacks]);
    check(
        |w| {
            with_identity(w, Identity::Default);
            w.table().primary_key.push("description".into());
        },
        &["large values of conditions are not sent again"],
    );
    check(
        |w| {
            with_identity(w, Identity::Default);
            w.table().primary_key_deferrable = true;
        },
        &[lacks],
    );
    check(
        |w| {
            with_identity(w, Identity::Default);
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
            w.set("TABLES__ACCEPT_UNCHANGED", "public.policies.description");
        },
        &[],
    );
    check(
        |w| {
            with_identity(w, Identity::Default);
            w.table().columns.truncate(2);
            w.table().columns.push(column(3, "seen_at", UUID));
            w.set("TABLES__IGNORE_UPDATES", "public.policies.seen_at");
        },
        &["warn table public.policies: without REPLICA IDENTITY FULL nobody can tell what an update changed"],
    );
}

fn partition(name: &str, identity: Identity) -> Partition {
    Partition {
        name: TableName::new("public", name),
        kind: Kind::Ordinary,
        persistence: Persistence::Permanent,
        identity,
    }
}

#[test]
fn partitions() {
    let partitioned = |w: &mut World, partitions: Vec<Partition>| {
        w.table().kind = Kind::Partitioned;
        w.table().partitions = partitions;
    };
    check(|w| partitioned(w, vec![partition("p1", Identity::Full)]), &[]);
    check(
        |w| partitioned(w, vec![partition("p1", Identity::Full), partition("p2", Identity::Default)]),
        &["1 of its 2 partitions lack REPLICA IDENTITY FULL; ALTER TABLE \"public\".\"p2\" REPLICA IDENTITY FULL;"],
    );
    check(
        |w| {
            partitioned(w, vec![partition("p1", Identity::Full)]);
            w.table().identity = Identity::Default;
        },
        &["its own REPLICA IDENTITY is not FULL"],
    );
    check(
        |w| {
            partitioned(w, vec![Partition { persistence: Persistence::Unlogged, ..partition("p1", Identity::Full) }]);
        },
        &["public.p1 is unlogged"],
    );
    check(
        |w| {
            partitioned(w, vec![partition("p1", Identity::Full)]);
            w.add(Table { is_partition: true, ..table("p1") });
            w.publication().via_root = false;
            w.set("TABLES__CAPTURE", "public.policies");
            w.publication().tables = [(TableName::new("public", "p1"), Published::default())].into();
        },
        &[
            "stop table public.p1: it is a partition, sent as a table of its own; ALTER PUBLICATION \"penstock\" SET (publish_via_partition_root = true);",
        ],
    );
}

#[test]
fn names_that_are_the_same_in_avro() {
    let published = |w: &mut World, name: &str| {
        w.publication().tables.insert(TableName::new("public", name), Published::default());
        w.add(table(name));
    };
    check(
        |w| {
            published(w, "t-x");
            published(w, "t_x002D_x");
        },
        &[
            "stop table public.t_x002D_x: its records would have the names of public.t-x's: both become public.t_x002D_x in Avro; \
             ALTER TABLE \"public\".\"t_x002D_x\" RENAME TO",
        ],
    );
    let columns = |w: &mut World| {
        w.table().columns.push(column(5, "a-b", TEXT));
        w.table().columns.push(column(6, "a_x002D_b", TEXT));
    };
    check(columns, &["stop table public.policies: its columns a-b and a_x002D_b both become a_x002D_b in Avro;"]);
    check(
        |w| {
            columns(w);
            w.set("TABLES__EXCLUDE", "public.policies.a-b");
        },
        &[],
    );
}

#[test]
fn names_that_mean_nothing() {
    check(
        |w| w.set("TABLES__EXCLUDE", "public.policies.condition"),
        &["stop tables.exclude: table public.policies has no column condition (did you mean conditions?)"],
    );
    check(
        |w| w.set("TABLES__EXCLUDE", "public.polices.conditions"),
        &[
            "stop tables.exclude: public.polices.conditions is not a column of a captured table (did you mean public.policies?)",
        ],
    );
    check(
        |w| w.set("TABLES__IGNORE_UPDATES", "public.policies.seen"),
        &["warn tables.ignore_updates: table public.policies has no column seen;"],
    );
    check(|w| w.set("TABLES__ACCEPT_UNCHANGED", "public.x.y"), &["warn tables.accept_unchanged: public.x.y is not"]);
    check(
        |w| w.set("TABLES__DECIMAL", "public.policies.amount"),
        &["stop tables.decimal: table public.policies has no column amount; correct the name"],
    );
}

#[test]
fn columns_that_cannot_travel_as_decimals() {
    let numeric = |w: &mut World, number: usize, base_name: &str| {
        let name = w.table().columns[number].name.clone();
        w.table().columns[number] =
            Column { base_name: base_name.to_owned(), ..column(i16::try_from(number + 1).unwrap(), &name, NUMERIC) };
    };
    check(
        |w| {
            numeric(w, 2, "numeric(12,2)");
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        &[],
    );
    check(
        |w| {
            numeric(w, 2, "numeric");
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        &[
            "stop table public.policies: its column description cannot travel as a decimal: its type declares no precision and scale, \
             which every value of an Avro decimal shares; ALTER TABLE \"public\".\"policies\" ALTER COLUMN \"description\" \
             TYPE numeric(…, …); Or remove \"public.policies.description\" from tables.decimal",
        ],
    );
    check(
        |w| {
            numeric(w, 2, "numeric");
            w.table().columns[2].type_oid = 70_000;
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        // A domain cannot be given another type.
        &["which every value of an Avro decimal shares; remove \"public.policies.description\" from tables.decimal"],
    );
    check(
        |w| w.set("TABLES__DECIMAL", "public.policies.conditions"),
        &["its column conditions cannot travel as a decimal: only numeric, and domains over it"],
    );
    check(
        |w| {
            numeric(w, 0, "numeric(20,0)");
            w.set("TABLES__DECIMAL", "public.policies.id");
        },
        &["its column id cannot travel as a decimal: it is a key column"],
    );
    check(
        |w| {
            w.set("TABLES__DECIMAL", "public.policies.conditions");
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &[],
    );
}
