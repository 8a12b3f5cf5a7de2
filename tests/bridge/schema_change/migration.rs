//! A long migration under load: every change of schema that the stream tells, one after the other, while accounts insert,
//! update and delete, an old reader reads with the schemas it knew at the start, and a new one with those of the records.
//!
//! Nothing is lost, nothing doubled (the load's ledger says what there was), and both readers hold what a SELECT prints.

mod follower;
mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use self::follower::{Follower, Rows};
use self::script::{COMPARED, RENAMED, SCHEMA, STEPS};
use super::schema_id;
use crate::load::{self, Load};
use crate::reader::{self, Record};
use crate::scene::{PATIENCE, Scene, wait_for_loads, world};
use crate::world::World;

const CONFIGURATION: &str = "[tables]\ncapture = [\"public.*\"]\nleave_out = [\"public.ledger\"]\n\
    decimal = [\"public.items.amount\"]\n";
const ACCOUNTS: usize = 6;
/// Commits of the load before, between and after the steps.
const COMMITS: u64 = 20;

/// The schema of each table's newest record.
fn schemas(world: &World, records: &[Record]) -> BTreeMap<String, String> {
    let ids: BTreeMap<String, u32> = records
        .iter()
        .filter_map(|record| Some((record.change()?.source.table.clone(), schema_id(record.raw.as_deref()?))))
        .collect();
    ids.into_iter().map(|(table, id)| (table, reader::schema_text(&world.registry_url, id))).collect()
}

/// What a SELECT prints of the compared columns, by table and id.
fn selected(world: &World) -> Rows {
    let mut rows = Rows::new();
    for (table, columns) in COMPARED {
        let expressions: Vec<String> =
            columns.iter().map(|(_, sql)| format!("coalesce(({sql})::text, 'null')")).collect();
        let answer = world.database.psql(&format!("SELECT id, {} FROM {table}", expressions.join(", ")));
        for line in answer.expect("select").lines().filter(|line| !line.trim().is_empty()) {
            let mut values = line.split('|').map(str::to_owned);
            let id = values.next().expect("an id");
            let row = columns.iter().map(|(column, _)| (*column).to_owned()).zip(values).collect();
            rows.insert(((*table).to_owned(), id), row);
        }
    }
    rows
}

/// A reader's rows as far as they are compared. What it holds under a column's older name is that column: a row that nobody
/// touched since stands in the topic as it was written.
fn compared(rows: &Rows, knows: impl Fn(&str, &str) -> bool) -> Rows {
    let mut compared = Rows::new();
    for ((table, id), row) in rows {
        let Some((_, columns)) = COMPARED.iter().find(|(name, _)| name == table) else { continue };
        let value = |column: &str| {
            let older =
                RENAMED.iter().find(|renamed| renamed.0 == table && renamed.2 == column).map(|renamed| renamed.1);
            let found = row.get(column).filter(|value| *value != "null");
            found.or_else(|| row.get(older?)).cloned().unwrap_or_else(|| "null".to_owned())
        };
        let columns = columns.iter().filter(|(column, _)| knows(table, column));
        let columns = columns.map(|(column, _)| ((*column).to_owned(), value(column)));
        compared.insert((table.clone(), id.clone()), columns.collect());
    }
    compared
}

fn same(what: &str, found: &Rows, expected: &Rows) {
    assert_eq!(found.len(), expected.len(), "rows of {what}");
    for (row, values) in expected {
        assert_eq!(found.get(row), Some(values), "{what}, row {row:?}");
    }
}

#[test]
fn a_migration_under_load_loses_nothing_for_old_and_new_readers() {
    let mut scene = Scene::of(world(SCHEMA, CONFIGURATION));
    let load = Load::start(&scene.world.database, ACCOUNTS, Duration::from_millis(10));
    load.wait_for_more(COMMITS, PATIENCE);
    let records = scene.records();
    let old_schemas = schemas(&scene.world, &records);
    assert_eq!(old_schemas.len(), 2, "{:?}", old_schemas.keys());
    let old = Follower::start(&scene.world, old_schemas.clone());
    let new = Follower::start(&scene.world, BTreeMap::new());

    for (index, step) in STEPS.iter().enumerate() {
        if index == STEPS.len() / 2 {
            std::mem::replace(&mut scene.bridge, scene.world.run()).kill();
        }
        scene.sql(step);
        load.wait_for_more(COMMITS, PATIENCE);
    }
    load.stop();
    wait_for_loads(&scene);
    let records = scene.records_and_loads();
    let (old, new) = (old.finish(), new.finish());

    let events = load::check(&scene.world.database, &records);
    assert!(events > COMMITS * 6, "{events} events");
    let selected = selected(&scene.world);
    let new = compared(&new, |_, _| true);
    same("the new reader", &new, &selected);
    // The old reader knows nothing of tables and columns that came later, nor what became of a column's name.
    let knows = |table: &str, column: &str| {
        old_schemas.get(table).is_some_and(|text| text.contains(&format!("\"name\":\"{column}\"")))
    };
    let known = |rows: &Rows| {
        let mut rows = compared(rows, knows);
        rows.retain(|(table, _), _| old_schemas.contains_key(table));
        rows
    };
    let (old, selected) = (known(&old), known(&selected));
    let of_table = |name: &str| old.iter().find(|((table, _), _)| table == name).map_or(0, |(_, row)| row.len());
    assert_eq!((of_table("items"), of_table("notes")), (8, 4), "columns that the old reader knows");
    same("the old reader", &old, &selected);
    scene.stop();
}
