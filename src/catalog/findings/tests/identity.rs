//! Replica identities, of tables and of the partitions that rows stand in.

use super::*;

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
