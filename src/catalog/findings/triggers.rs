//! The event triggers, and partitions' own triggers for TRUNCATE.

use super::{Facts, Findings};
use crate::catalog::Triggers;
use crate::config::Config;

pub(super) fn check(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let what = match facts.triggers {
        _ if !config.source.event_triggers => return,
        Triggers::Whole => return partitions(facts, config, findings),
        Triggers::Missing => "they are not there, or disabled: of DDL only what Postgres announces is noticed",
        Triggers::Other => "they are of another version of Penstock",
    };
    let remedy = match facts.server.superuser {
        true => "run: penstock setup",
        false => {
            "have a superuser run what `penstock setup --print-sql` prints; or set source.event_triggers = false to do without"
        }
    };
    findings.better_after_setup("event triggers", what, remedy);
}

fn partitions(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    for table in facts.captured(config) {
        let mute = table.partitions.iter().filter(|partition| !partition.tells_truncate).count();
        if mute > 0 {
            let what = format!("a TRUNCATE of {mute} of its {} partitions is not noticed", table.partitions.len());
            let remedy = match facts.server.superuser {
                true => "run: penstock setup",
                false => "have their owner run what `penstock setup --print-sql` prints",
            };
            findings.better_after_setup(format!("table {}", table.name), what, remedy);
        }
    }
}
