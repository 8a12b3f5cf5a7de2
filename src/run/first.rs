//! The first start: makes what does not exist, in the order that loses nothing.
//!
//! Topics, then the publication and the event triggers, then the slot: a slot decodes with the catalog of its own time and
//! must not be older than its publication. A first start happens only where slot, progress and records are all absent, or the
//! records are other sources'. Two sources that begin at the same moment under one number can miss each other: each looks
//! twice, and the second time when it has been fenced in, right before its first record.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_core::continuity::{self, Continuation, Known};
use penstock_core::resume::{Decision, Others};
use penstock_wire::lsn::EndLsn;

use super::describe;
use super::fencing::readers;
use super::opening::{Fresh, Start, other_progress, server, slot, stored_progress, topic};
use super::shell::{RunError, Shell, pinned};
use crate::catalog::findings::{Facts, Severity, findings};
use crate::catalog::{Catalog, CatalogError, Rows, Step, Table, WalStatus, mute_partitions};
use crate::config::TableName;
use crate::kafka::topics::{Creation, Topics};
use crate::source::SystemIdentity;

/// Creating a slot waits for every transaction that is running.
const SLOT_PATIENCE: Duration = Duration::from_secs(120);
/// How long the server may take to take back a slot.
const UNDO_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what was committed before the slot and cannot be seen yet.
const WRITERS_PATIENCE: Duration = Duration::from_secs(60);

/// Makes what a first start needs; `None` where something exists already, which the opening then judges.
pub(super) async fn make(shell: &Shell, start: Start, identity: &SystemIdentity) -> Result<Option<Fresh>, RunError> {
    // Before anything is found wrong with it.
    if let Some(pid) = maker(shell).await? {
        return Err(RunError::SlotUnfinished { slot: shell.slot().to_owned(), pid });
    }
    preflight(shell).await?;
    let found = slot(shell).await?;
    if found.as_ref().is_some_and(|slot| !slot.lost) {
        if start.setup_only {
            let tables = captured(shell).await?;
            install_triggers(shell, &mut *shell.catalog.lock().await, &tables).await?;
        }
        return Ok(None);
    }
    let readers = readers(shell)?;
    let stored = stored_progress(shell, &readers).await?;
    let others = if stored.is_none() { other_progress(shell, &readers).await? } else { Others::new() };
    let (server, topic) = (server(shell, identity).await?, topic(shell, &readers).await?);
    let known = Known {
        pinned: &pinned(&shell.config),
        server: &server,
        slot: found.as_ref(),
        progress: stored.as_ref(),
        others: &others,
        topic: topic.as_ref(),
        // A timeline that is gone on with brings its slot along.
        switch_point: None,
    };
    match continuity::go_on(known, start.accepted).map_err(|refusal| RunError::Refused(Box::new(refusal)))? {
        Continuation::Decided(Decision::FirstStart) => create(shell, start).await.map(Some),
        Continuation::Decided(Decision::Resume(_)) => Ok(None),
        Continuation::NewEpoch(_) => {
            renew_slot(shell, found.is_some()).await?;
            Ok(None)
        }
    }
}

/// Makes the slot that a new epoch begins with. Between here and the epoch's first progress it is ahead of progress, which is
/// refused like the gap itself, and accepted with it.
async fn renew_slot(shell: &Shell, lost: bool) -> Result<(), RunError> {
    let tables = captured(shell).await?;
    let mut catalog = shell.catalog.lock().await;
    if lost {
        catalog.drop_slot(shell.slot()).await?;
    }
    catalog.create_publication(&shell.config.source.publication, tables.keys()).await?;
    install_triggers(shell, &mut catalog, &tables).await?;
    if let Step::Made(from) = catalog.create_slot(shell.slot(), SLOT_PATIENCE).await? {
        tracing::warn!(slot = shell.slot(), %from, "made the slot anew");
    }
    Ok(())
}

/// The server process that is making the slot.
async fn maker(shell: &Shell) -> Result<Option<i32>, RunError> {
    Ok(shell.catalog.lock().await.slot(shell.slot()).await?.and_then(|slot| slot.maker()))
}

/// Where [`make`] failed or was not waited for, or no progress was begun behind it: a slot that nobody knows the beginning of is
/// not left behind.
pub(super) async fn unmake(shell: &Shell) {
    let slot = shell.slot();
    let undone = async { shell.catalog.lock().await.undo_slot(slot, UNDO_PATIENCE).await };
    match tokio::time::timeout(UNDO_PATIENCE, undone).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => tracing::warn!(slot, "the slot that was being made is left; the next start says what to do"),
        Ok(Err(error)) => {
            let error = describe(&error);
            tracing::warn!(slot, error, "the slot that was being made may be left; the next start says what to do");
        }
        Err(_) => tracing::warn!(slot, "Postgres does not answer; the slot that was being made may be left"),
    }
}

/// What `check` finds and would stop the bridge, but for what a first start makes itself.
async fn preflight(shell: &Shell) -> Result<(), RunError> {
    let stops = stopping_findings(shell).await?;
    if stops.is_empty() { Ok(()) } else { Err(RunError::Findings(stops)) }
}

/// The same, as text.
pub(super) async fn stopping_findings(shell: &Shell) -> Result<Vec<String>, CatalogError> {
    let config = &shell.config;
    let mut catalog = shell.catalog.lock().await;
    let server = catalog.server_facts().await?;
    let publication = catalog.publication(&config.source.publication).await?;
    // What becomes of a lost one is not a finding's to say: that depends on progress.
    let slot = catalog.slot(shell.slot()).await?.filter(|slot| slot.wal_status != Some(WalStatus::Lost));
    let tables = catalog.tables(&config.tables.capture, &config.source.publication).await?;
    let triggers = catalog.triggers().await?;
    let facts =
        Facts { server: &server, publication: publication.as_ref(), slot: slot.as_ref(), triggers, tables: &tables };
    let found = findings(&facts, config);
    let stops = found.iter().filter(|finding| finding.severity == Severity::Stop && !finding.mended_by_setup);
    Ok(stops.map(ToString::to_string).collect())
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
    install_triggers(shell, &mut catalog, &tables).await?;
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

/// Before the slot: whatever it sends is told of.
async fn install_triggers(
    shell: &Shell,
    catalog: &mut Catalog,
    tables: &BTreeMap<TableName, Table>,
) -> Result<(), RunError> {
    if !shell.config.source.event_triggers {
        return Ok(());
    }
    if !catalog.create_triggers().await? || !catalog.create_partition_triggers(mute_partitions(tables)).await? {
        tracing::warn!(
            "the role may not create event triggers: of DDL only what Postgres announces is noticed; have a superuser run \
             what `penstock setup --print-sql` prints, or set source.event_triggers = false"
        );
    }
    Ok(())
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
            (None, _) => format!("{}.{} (cannot be read: see penstock check)", name.schema, name.table),
            (_, Some(estimate)) if estimate > 0 => format!("{}.{} (about {estimate} rows)", name.schema, name.table),
            _ => format!("{}.{} (some rows)", name.schema, name.table),
        })
        .collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}
