//! The server, the role and the slot.

use super::*;

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
