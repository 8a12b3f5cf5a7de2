//! Rows from before the first start are never forgotten silently.

use std::time::Duration;

use penstock_testbed::cluster::shared;

use crate::load;
use crate::reader::{self, Content};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: &str =
    "INSERT INTO items SELECT n, md5(n::text)::uuid, 1, 1, 'early' FROM generate_series(1, 500) n; ANALYZE items";

#[test]
fn a_run_with_rows_from_before_stops_and_says_how_many() {
    let mut world = World::new(shared().expect("the shared stack"), load::SCHEMA);
    world.configure(load::CAPTURE);
    world.database.psql(ROWS).expect("rows from before");

    let mut bridge = world.run();
    assert_eq!(bridge.wait(PATIENCE).code(), Some(1));
    let log = bridge.log();
    assert!(log.contains("public.items (about 500 rows)") && log.contains("--from-now"), "{log}");
    let slots = world.database.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()");
    assert_eq!(slots.expect("count the slots").trim(), "0", "nothing was created");

    let mut setup = world.spawn("setup", &[], &world.database);
    assert!(setup.wait(PATIENCE).success(), "{}", setup.log());
    let mut bridge = world.run();
    assert_eq!(bridge.wait(PATIENCE).code(), Some(1));
    assert!(bridge.log().contains("public.items (about 500 rows)"), "{}", bridge.log());

    let mut bridge = world.spawn("run", &["--from-now"], &world.database);
    world.wait_ready(&mut bridge, PATIENCE);
    world.database.psql("INSERT INTO items VALUES (1000, md5('x')::uuid, 2, 1, 'late')").expect("a row from now");
    world.wait_confirmed(&mut bridge, PATIENCE);
    assert!(bridge.stop().success());
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    let told = records.iter().filter(|record| match &record.content {
        Content::Control(control) => control.detail.as_deref().is_some_and(|detail| detail.starts_with("incomplete: ")),
        Content::Change(_) | Content::Tombstone => false,
    });
    assert_eq!(told.count(), 12, "an epoch record in every partition says that the load is incomplete");
    assert_eq!(records.iter().filter(|record| record.change().is_some()).count(), 1);
}
