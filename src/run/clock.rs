//! Reads the server's clock and positions twice a second, over an ordinary connection.
//!
//! What a walsender that lags behind says of its clock proves nothing about freshness; a reading of the clock and then of
//! the WAL position, in one query, does, once everything before that position is delivered. The same query feeds the lag
//! metrics, so that no lag is ever the difference of two moments.

use std::time::Duration;

use penstock_core::bridge::ClockSample;
use tokio::sync::watch;

use super::describe;
use super::shell::Shell;
use crate::catalog::Catalog;

const EVERY: Duration = Duration::from_millis(500);

/// Publishes readings until nobody listens.
pub(super) async fn read(shell: &Shell, readings: watch::Sender<Option<ClockSample>>) {
    let mut catalog = Catalog::new(shell.connect_options());
    while !readings.is_closed() {
        match reading(shell, &mut catalog).await {
            Ok(sample) => {
                shell.health.no_longer_waits("postgres catalog");
                readings.send_replace(Some(sample));
            }
            Err(error) => {
                catalog.disconnect();
                shell.health.waits_for("postgres catalog", describe(&error));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn reading(shell: &Shell, catalog: &mut Catalog) -> Result<ClockSample, crate::catalog::CatalogError> {
    let reading = catalog.clock_reading().await?;
    if let Some(slot) = catalog.slot_sample(shell.slot()).await? {
        let (read_to, durable) = shell.positions.get();
        shell.metrics.slot(&slot, read_to, durable);
    }
    Ok(ClockSample { lsn: reading.lsn, clock_us: reading.clock_us })
}
