//! `status`: how far the bridge is, and why it stands still if it does.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, endpoints, failed, runtime};
use crate::catalog::SlotSample;
use crate::config::Config;
use crate::moment::format_us;
use crate::registry::Registry;
use crate::status::reloads::line;
use crate::status::{Readiness, Status, status};

#[derive(Clone, Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// One JSON object: delivering, cause, bridge, slot, progress, errors.
    #[arg(long)]
    json: bool,
}

/// Asks everybody and says what they said.
pub(super) fn run(config: &Config, args: &StatusArgs) -> ExitCode {
    let registry = match Registry::new(&endpoints::registry(&config.registry)) {
        Ok(registry) => registry,
        Err(error) => return failed(&error.to_string(), None),
    };
    let status = match runtime() {
        Ok(runtime) => {
            let status = runtime.block_on(status(config, &endpoints::brokers(&config.kafka), &registry));
            runtime.shutdown_background();
            status
        }
        Err(error) => return failed(&format!("cannot start: {error}"), None),
    };
    match args.json {
        true => match serde_json::to_string(&status) {
            Ok(json) => println!("{json}"),
            Err(error) => return failed(&error.to_string(), None),
        },
        false => print!("{}", text(&status)),
    }
    if status.cause().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn text(status: &Status) -> String {
    let mut text = match status.cause() {
        None => "Delivering.\n".to_owned(),
        Some(cause) => format!("Standing still: {cause}.\n"),
    };
    if let Readiness::Delayed(reason) = &status.readiness {
        text.push_str(&format!("Beside that it waits: {reason}.\n"));
    }
    match (status.slot(), &status.postgres) {
        (Some(slot), _) => text.push_str(&slot_text(status.slot_name(), slot)),
        (None, Ok(_)) => text.push_str(&format!("slot {}: there is none\n", status.slot_name())),
        (None, Err(error)) => text.push_str(&format!("slot {}: not known: {error}\n", status.slot_name())),
    }
    match &status.progress {
        Ok(Some(_)) => text.push_str(&progress_text(status)),
        Ok(None) => text.push_str("progress: there is none\n"),
        Err(error) => text.push_str(&format!("progress: not known: {error}\n")),
    }
    text
}

fn slot_text(name: &str, slot: &SlotSample) -> String {
    let activity = if slot.active { "active" } else { "not active" };
    let wal_status = slot.wal_status.map_or("", |status| status.as_str());
    let confirmed = slot.confirmed_lsn.map(|lsn| lsn.to_string()).unwrap_or_default();
    format!(
        "slot {name}: {activity}, WAL {wal_status}; retains {}, not confirmed {} (confirmed {confirmed}, written {})\n",
        size(slot.retained_bytes()),
        size(slot.confirmed_lag_bytes()),
        slot.current_lsn,
    )
}

fn progress_text(status: &Status) -> String {
    let Some(progress) = status.newest() else { return String::new() };
    let last = match (status.in_part(), status.last_commit_us(), status.last_commit_age_s()) {
        (Some(part), ..) => {
            format!("transaction {}, committed {}, is delivered in part", part.xid, format_us(part.commit_time_us))
        }
        (None, Some(micros), Some(age_s)) => format!("last delivered commit {age_s:.1} s ago ({})", format_us(micros)),
        (None, ..) => "no commit delivered in this epoch".to_owned(),
    };
    let load = if progress.load_complete { "load complete" } else { "load incomplete" };
    let mut text = format!(
        "progress: epoch {}, end {}, not delivered {}; {:.1} s old; {last}; {load}\n",
        progress.epoch,
        progress.end_lsn,
        size(status.delivered_lag_bytes()),
        status.progress_age_s().unwrap_or_default(),
    );
    for reload in progress.reloads.iter().filter(|reload| !reload.state.is_finished()) {
        text.push_str(&format!("reload {}\n", line(reload)));
    }
    text.push_str(&format!("{:>9}  {:>11}  last position (epoch:commit LSN:seq)\n", "partition", "next offset"));
    for entry in &progress.partitions {
        text.push_str(&format!("{:>9}  {:>11}  {}\n", entry.partition, entry.next_offset, entry.last));
    }
    text
}

/// Bytes in the largest unit that leaves a whole number before the point.
fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "an unknown amount".to_owned() };
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_their_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (u64::MAX, "16777216.0 TiB")]
        {
            assert_eq!(size(Some(bytes)), text);
        }
        assert_eq!(size(None), "an unknown amount");
    }
}
