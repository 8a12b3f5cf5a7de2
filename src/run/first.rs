//! The first start: makes what does not exist, in the order that loses nothing.
//!
//! Topics, then the publication, then the slot: a slot decodes with the catalog of its own time and must not be older
//! than its publication. A first start happens only where slot, progress and records are all absent.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_core::resume::{self, Refusal, Server};
use penstock_wire::lsn::{EndLsn, Lsn};

use super::fencing::readers;
use super::opening::{Fresh, Start, pinned, slot, stored_progress, topic};
use super::shell::{RunError, Shell};
use crate::catalog::findings::{Facts, Severity, findings};
use crate::catalog::{Rows, Step, Table};
use crate::config::TableName;
use crate::kafka::topics::{Creation, Topics};

/// Creating a slot waits for every transaction that is running.
const SLOT_PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait for what was committed before the slot and cannot be seen yet.
const WRITERS_PATIENCE: Duration = Duration::from_secs(60);

/// Makes what a first start needs; `None` where something exists already, which the opening then judges.
pub(super) async fn make(shell: &Shell, start: Start) -> Result<Option<Fresh>, RunError> {
    preflight(shell).await?;
    if slot(shell).await?.is_some() {
        return Ok(None);
    }
    let readers = readers(shell)?;
    if let Some(progress) = stored_progress(shell, &readers).await? {
        let refusal = Refusal::ProgressWithoutSlot { slot: progress.slot, end: progress.end_lsn };
        return Err(RunError::Refused(Box::new(refusal)));
    }
    // Without slot and progress nothing is asked of the server.
    let nothing = Server { system_identifier: 0, database_oid: 0, timeline: 0, flushed: Lsn(0) };
    let decision = resume::decide(&pinned(shell), &nothing, None, None, topic(shell, &readers).await?.as_ref());
    decision.map_err(|refusal| RunError::Refused(Box::new(refusal)))?;
    create(shell, start).await.map(Some)
}

/// What `check` finds and would stop the bridge, but for what a first start makes itself.
async fn preflight(shell: &Shell) -> Result<(), RunError> {
    let config = &shell.config;
    let mut catalog = shell.catalog.lock().await;
    let server = catalog.server_facts().await?;
    let publication = catalog.publication(&config.source.publication).await?;
    let slot = catalog.slot(shell.slot()).await?;
    let tables = catalog.tables(&config.tables.capture, &config.source.publication).await?;
    let facts = Facts { server: &server, publication: publication.as_ref(), slot: slot.as_ref(), tables: &tables };
    let found = findings(&facts, config);
    let stops = found.iter().filter(|finding| finding.severity == Severity::Stop && !finding.mended_by_setup);
    let stops: Vec<String> = stops.map(ToString::to_string).collect();
    if stops.is_empty() { Ok(()) } else { Err(RunError::Findings(stops)) }
}

async fn create(shell: &Shell, start: Start) -> Result<Fresh, RunError> {
    let config = &shell.config;
    let creation = Creation {
        partitions: config.kafka.partitions,
        replication: config.kafka.replication,
        min_insync_replicas: config.kafka.min_insync_replicas,
        min_compaction_lag: config.kafka.min_compaction_lag,
        delete_retention: config.kafka.delete_retention,
        message_bytes_max: config.limits.record_bytes_max,
    };
    let tables = captured(shell).await?;
    let before = rows_text(&shell.catalog.lock().await.rows(&tables).await?);
    Topics::new(&shell.brokers())?.create(&shell.names(), creation).await?;
    let mut catalog = shell.catalog.lock().await;
    catalog.create_publication(&config.source.publication, tables.keys()).await?;
    let from = match catalog.create_slot(shell.slot(), SLOT_PATIENCE).await? {
        Step::Made(from) => from,
        Step::Found => EndLsn::default(),
    };
    // Asked again behind the slot: a row that came in between is before the slot or after it, and counts as missing.
    let rows = match rows_text(&catalog.rows(&tables).await?).or(before) {
        Some(rows) => Some(rows),
        None if catalog.await_writers(WRITERS_PATIENCE).await? => rows_text(&catalog.rows(&tables).await?),
        None => Some("whatever transactions write that were running and did not end".to_owned()),
    };
    tracing::info!(slot = shell.slot(), %from, "created topics, publication and slot");
    let detail = match &rows {
        None => "complete: no captured table held rows at the first start".to_owned(),
        Some(rows) if start.from_now => format!("incomplete: rows from before the first start are missing: {rows}"),
        Some(rows) => format!("incomplete: rows from before the first start follow by a reload: {rows}"),
    };
    let clock_us = catalog.clock_reading().await?.clock_us;
    Ok(Fresh { from, load_complete: rows.is_none(), detail, clock_us })
}

async fn captured(shell: &Shell) -> Result<BTreeMap<TableName, Table>, RunError> {
    let tables = &shell.config.tables;
    let mut catalog = shell.catalog.lock().await;
    let known = catalog.tables(&tables.capture, &shell.config.source.publication).await?;
    Ok(known.into_iter().filter(|(name, _)| tables.captures(name)).collect())
}

/// `public.a (about 12 rows), public.b (some rows)`; `None` if every table is known to be empty.
pub fn rows_text(rows: &BTreeMap<TableName, Rows>) -> Option<String> {
    let held = rows.iter().filter(|(_, rows)| rows.any != Some(false));
    let texts: Vec<String> = held
        .map(|(name, rows)| match (rows.any, rows.estimate) {
            (None, _) => format!("{}.{} (cannot be read)", name.schema, name.table),
            (_, Some(estimate)) if estimate > 0 => format!("{}.{} (about {estimate} rows)", name.schema, name.table),
            _ => format!("{}.{} (some rows)", name.schema, name.table),
        })
        .collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}
