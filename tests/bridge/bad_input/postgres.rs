//! A server that the bridge cannot or must not read from.

use penstock_testbed::cluster::Addresses;
use penstock_testbed::postgres::{Address, Postgres, Stop};

use super::{TABLE, delivered, insert};
use crate::scene::{Scene, expect_last_words, stack, world, world_on};

/// The shared broker and registry, and a Postgres of the test's own.
fn stack_with(postgres: &Postgres) -> Addresses {
    Addresses { postgres: postgres.address().clone(), ..stack().clone() }
}

#[test]
fn a_wrong_password_stops_the_first_start_and_makes_nothing() {
    let world = world(TABLE, "");
    let wrong = Address { password: "wrong".to_owned(), ..world.database.clone() };
    let said =
        expect_last_words(&mut world.run_through(&wrong), 1, &["password", "postgres", "correct user and password"]);
    assert!(!said.contains("wrong password \"wrong\"") && !said.contains(":wrong@"), "the password is told: {said}");
    let publications = world.database.psql("SELECT count(*) FROM pg_publication").expect("ask for publications");
    assert_eq!(publications, "0");

    let mut scene = Scene::of(world);
    insert(&scene, &[1, 2]);
    assert_eq!(delivered(&mut scene), ["1", "2"]);
    scene.stop();
}

#[test]
fn a_certificate_that_nobody_trusted_has_signed_is_refused() {
    let postgres = Postgres::builder().tls().start().expect("a Postgres with TLS");
    let certificates = postgres.certificates().expect("certificates");
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let mut world = world_on(&stack_with(&postgres), TABLE, "");
    world.set("SOURCE__TLS_MODE", "verify-full");
    world.set("SOURCE__TLS_ROOT_CERTIFICATE", &path(&certificates.foreign_authority));
    expect_last_words(&mut world.run(), 1, &["certificate", "not trusted", "root certificate"]);

    world.set("SOURCE__TLS_ROOT_CERTIFICATE", &path(&certificates.authority));
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
    assert_eq!(scene.sql(encrypted), "t");
    scene.stop();
}

#[test]
fn a_server_that_writes_too_little_wal_is_refused_with_the_setting() {
    let postgres = Postgres::builder().set("wal_level", "replica").start().expect("a Postgres");
    let world = world_on(&stack_with(&postgres), TABLE, "");
    let words = ["wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical'", "restart"];
    expect_last_words(&mut world.run(), 1, &words);

    postgres.configure(&[("wal_level", "logical")]).expect("set wal_level");
    postgres.restart(Stop::Fast).expect("restart Postgres");
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.stop();
}

#[test]
fn a_slot_whose_wal_is_gone_stops_with_what_may_be_missing() {
    let postgres = Postgres::builder().set("max_slot_wal_keep_size", "1MB").start().expect("a Postgres");
    let mut scene = Scene::of(world_on(&stack_with(&postgres), TABLE, ""));
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.bridge.signal("TERM");
    scene.bridge.wait(crate::scene::PATIENCE);
    insert(&scene, &[2]);
    let lost = "SELECT wal_status = 'lost' FROM pg_replication_slots";
    for _ in 0..100 {
        if scene.sql(lost) == "t" {
            break;
        }
        scene.sql(
            "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)); SELECT pg_switch_wal(); CHECKPOINT;",
        );
    }
    assert_eq!(scene.sql(lost), "t");

    scene.bridge = scene.world.run();
    scene.expect_halt(&["slot", "lost", &scene.world.slot().clone(), "missing"]);
}
