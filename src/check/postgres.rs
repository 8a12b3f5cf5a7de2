//! Postgres: the catalog's findings, if it can be asked.

use super::Report;
use crate::catalog::findings::{Facts, findings};
use crate::catalog::{Catalog, CatalogError};
use crate::config::Config;
use crate::run::describe;

/// The subject of the finding that Postgres cannot be asked.
pub(super) const UNREACHABLE: &str = "Postgres";

pub(super) async fn look(config: &Config, catalog: &mut Catalog) -> Report {
    let mut report = Report::default();
    if let Err(error) = ask(config, catalog, &mut report).await {
        report.stop(UNREACHABLE, describe(&error), error.advice());
    }
    report
}

async fn ask(config: &Config, catalog: &mut Catalog, report: &mut Report) -> Result<(), CatalogError> {
    let server = catalog.server_facts().await?;
    let publication = catalog.publication(&config.source.publication).await?;
    let slot = catalog.slot(&config.source.slot).await?;
    let tables = catalog.tables(&config.tables.capture, &config.source.publication).await?;
    let triggers = catalog.triggers().await?;
    let facts =
        Facts { server: &server, publication: publication.as_ref(), slot: slot.as_ref(), triggers, tables: &tables };
    let (major, minor) = (server.version / 10_000, server.version % 10_000);
    let count = facts.captured(config).count();
    let host = &config.source.server.host;
    report.look(
        "Postgres",
        format!(
            "{major}.{minor} at {host}, database {}, role {}, {count} tables to capture",
            server.database, server.role
        ),
    );
    report.findings.extend(findings(&facts, config));
    Ok(())
}
