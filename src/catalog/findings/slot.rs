//! The replication slot.

use super::{Facts, Findings};
use crate::catalog::WalStatus;
use crate::config::{Config, quote_literal};

pub(super) fn check(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let subject = format!("slot {}", config.source.slot);
    let Some(slot) = facts.slot else {
        return findings.left_to_setup(subject, "there is no such slot");
    };
    let another = "set source.slot to a name of its own";
    if let Some(pid) = slot.maker() {
        let what = format!("process {pid} of the server is still making it, and waits for transactions that run");
        let remedy =
            format!("wait; if no `penstock setup` or `run` is at it any more: SELECT pg_terminate_backend({pid});");
        return findings.stop(subject, what, remedy);
    }
    if !slot.logical {
        return findings.stop(subject, "it is a physical slot", another);
    }
    if let Some(database) = slot.database.as_ref().filter(|database| **database != facts.server.database) {
        let what = format!("it belongs to database {database}, not to {}", facts.server.database);
        findings.stop(&subject, what, format!("{another}, or set source.url to that database"));
    }
    if let Some(plugin) = slot.plugin.as_ref().filter(|plugin| *plugin != "pgoutput") {
        findings.stop(&subject, format!("its output plugin is {plugin}, not pgoutput"), another);
    }
    if slot.temporary {
        findings.stop(&subject, "it is temporary and vanishes with its session", another);
    }
    if slot.wal_status == Some(WalStatus::Lost) || slot.invalidation_reason.is_some() {
        let reason = slot.invalidation_reason.as_deref().unwrap_or("the WAL that it needs was removed");
        let confirmed = slot.confirmed_lsn.map(|lsn| format!(" after {lsn}")).unwrap_or_default();
        let remedy = format!(
            "`penstock run` names the LSN up to which all was delivered, and the option that goes on behind it with everything read again; without it: SELECT pg_drop_replication_slot({})",
            quote_literal(&slot.name)
        );
        return findings.stop(subject, format!("it is lost ({reason}): changes{confirmed} are missing"), remedy);
    }
    if slot.wal_status == Some(WalStatus::Unreserved) {
        let what = "the WAL that it needs is beyond max_slot_wal_keep_size and goes at the next checkpoint";
        findings.warn(&subject, what, "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();");
    }
    if let Some(pid) = slot.active_pid {
        let what = format!("process {pid} of the server streams from it: a second bridge waits until it ends");
        findings.warn(subject, what, "nothing if that is the running bridge; else stop what streams from it");
    }
}
