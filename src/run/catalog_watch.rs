//! Watches the catalog while the bridge streams: what `check` would find, and, where no trigger tells the stream, whether the
//! captured tables are still the ones that were pinned.
//!
//! A catalog that does not answer is not the watch's business: the replication connection says what is wrong.

use std::time::Duration;

use penstock_core::watch::Seen;

use super::first::stopping_findings;
use super::shell::Shell;
use crate::catalog::{CatalogError, Triggers};

const EVERY: Duration = Duration::from_secs(10);

/// What the catalog shows.
#[derive(Debug)]
pub(super) struct Reading {
    /// What would stop a start.
    pub(super) stops: Vec<String>,
    /// The published tables; `None` if triggers tell the stream of what happens to them.
    pub(super) seen: Option<Seen>,
}

/// The next reading, after a pause.
pub(super) async fn next(shell: &Shell) -> Reading {
    loop {
        tokio::time::sleep(EVERY).await;
        match read(shell).await {
            Ok(reading) => return reading,
            Err(error) => tracing::debug!(error = super::describe(&error), "the catalog was not read"),
        }
    }
}

async fn read(shell: &Shell) -> Result<Reading, CatalogError> {
    let stops = stopping_findings(shell).await?;
    Ok(Reading { stops, seen: seen(shell).await? })
}

/// The published tables; `None` if triggers tell the stream of what happens to them.
pub(super) async fn seen(shell: &Shell) -> Result<Option<Seen>, CatalogError> {
    let source = &shell.config.source;
    let mut catalog = shell.catalog.lock().await;
    if catalog.triggers().await? != Triggers::Missing {
        return Ok(None);
    }
    let Some(publication) = catalog.publication(&source.publication).await? else { return Ok(None) };
    let tables = catalog.tables(&shell.config.tables.capture, &source.publication).await?;
    let published = tables.into_values().filter(|table| publication.tables.contains_key(&table.name));
    Ok(Some(published.map(|table| ((table.name.schema, table.name.table), table.oid)).collect()))
}
