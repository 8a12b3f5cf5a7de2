//! The server and the role.

use super::{Facts, Findings};
use crate::config::{Config, quote_identifier};

/// The oldest major version whose pgoutput can send binary values and messages.
const VERSION_MIN: i32 = 140_000;

pub(super) fn check(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    const SUBJECT: &str = "server";
    let server = facts.server;
    if server.version < VERSION_MIN {
        let what = format!("this is Postgres {}", server.version / 10_000);
        findings.stop(SUBJECT, what, "use Postgres 14 or newer");
    }
    if server.in_recovery {
        findings.stop(
            SUBJECT,
            "this is a standby; decoding there is refused",
            "connect to the primary: set source.url",
        );
    }
    if server.wal_level != "logical" {
        let remedy = if server.rds {
            "set rds.logical_replication = 1 in the parameter group, and reboot"
        } else {
            "ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres"
        };
        findings.stop(SUBJECT, format!("wal_level is {}", server.wal_level), remedy);
    }
    if !server.replication && !server.superuser {
        let role = quote_identifier(&server.role);
        let remedy = if server.rds {
            format!("GRANT rds_replication TO {role};")
        } else {
            format!("ALTER ROLE {role} REPLICATION;")
        };
        findings.stop(format!("role {}", server.role), "it may not read the replication stream", remedy);
    }
    if facts.slot.is_none() && server.slots_used >= server.slots_max {
        let remedy =
            format!("ALTER SYSTEM SET max_replication_slots = {}; and restart Postgres", server.slots_used + 5);
        findings.stop(SUBJECT, format!("all {} replication slots are in use", server.slots_max), remedy);
    }
    if server.wal_senders_max == 0 {
        findings.stop(SUBJECT, "max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders = 10; and restart Postgres");
    }
    if server.encoding == "SQL_ASCII" {
        let what = "the database's encoding is SQL_ASCII: texts that are not UTF-8 will stop the bridge";
        findings.warn(SUBJECT, what, "make sure that every text is UTF-8, or move to a database with encoding UTF8");
    }
    let interval_ms = config.source.status_interval.as_millis();
    if let Some(timeout_ms) = server.wal_sender_timeout_ms.filter(|timeout| u128::from(*timeout) < interval_ms * 2) {
        let what = format!("wal_sender_timeout is {timeout_ms} ms, and the bridge reports every {interval_ms} ms only");
        findings.warn(SUBJECT, what, format!("set source.status_interval_ms = {} or less", timeout_ms / 4));
    }
}
