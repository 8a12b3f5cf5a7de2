//! Whether slot, progress and topic are a beginning, as the bridge itself would decide.
//!
//! The bridge may be running. So they are read in the order in which each can only have grown: the slot, then progress,
//! which is never behind it, then the topic and the server, which are never behind progress.

use penstock_core::resume::{Decision, Others, Refusal, Server, Slot, Topic, decide};
use penstock_wire::progress::Progress;

use super::Report;
use crate::catalog::{Catalog, CatalogError, WalStatus};
use crate::config::Config;
use crate::kafka::client::Brokers;
use crate::kafka::topics::{TopicsError, describe as describe_topic};
use crate::moment::format_us;
use crate::registry::Registry;
use crate::run::{describe, pinned, rows_text};
use crate::schema::captured;
use crate::source::{Connection, SourceError, SystemIdentity};
use crate::stored::{StoredError, newest_progress, other_progress};

const SUBJECT: &str = "start";

/// What was seen.
pub(super) struct Start {
    pub(super) report: Report,
    /// Slot, progress and topic are no beginning.
    pub(super) refused: bool,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the replication connection")]
    Source(#[from] SourceError),
    #[error(transparent)]
    Progress(#[from] StoredError),
    #[error(transparent)]
    Topic(#[from] TopicsError),
}

pub(super) async fn look(
    config: &Config,
    brokers: &Brokers,
    registry: &Registry,
    catalog: &mut Catalog,
    from_now: bool,
) -> Start {
    let mut report = Report::default();
    let asked = ask(config, brokers, registry, catalog, from_now, &mut report).await;
    if let Err(error) = &asked {
        report.stop(SUBJECT, describe(error), error.advice());
    }
    Start { report, refused: asked.unwrap_or(false) }
}

impl StartError {
    fn advice(&self) -> &'static str {
        match self {
            Self::Catalog(error) => error.advice(),
            Self::Source(error) => error.advice(),
            Self::Progress(StoredError::Format(_)) => "use the version of Penstock that wrote it, or a newer one",
            Self::Progress(_) | Self::Topic(_) => "check that the brokers and the registry are up, then check again",
        }
    }
}

/// Whether it was refused.
async fn ask(
    config: &Config,
    brokers: &Brokers,
    registry: &Registry,
    catalog: &mut Catalog,
    from_now: bool,
    report: &mut Report,
) -> Result<bool, StartError> {
    let slot = catalog.slot(&config.source.slot).await?;
    if slot.as_ref().is_some_and(|slot| slot.maker().is_some()) {
        // The slot's own finding says it.
        return Ok(true);
    }
    let slot = slot.map(|slot| Slot {
        lost: slot.wal_status == Some(WalStatus::Lost),
        confirmed: slot.confirmed_lsn.unwrap_or_default(),
        name: slot.name,
    });
    let progress = newest_progress(config, brokers, registry).await?;
    let others = match &progress {
        Some(_) => Others::new(),
        None => other_progress(config, brokers, registry).await?,
    };
    let topic = describe_topic(brokers, &config.kafka.topic).await?;
    let topic = topic.map(|state| Topic { id: state.id, ends: state.offsets.iter().map(|(_, end)| *end).collect() });
    let identity = identify(config).await?;
    let server = Server {
        system_identifier: identity.system_identifier,
        database_oid: catalog.server_facts().await?.database_oid,
        timeline: identity.timeline,
        flushed: identity.flushed,
    };
    match decide(&pinned(config), &server, slot.as_ref(), progress, &others, topic.as_ref()) {
        Ok(Decision::Resume(progress)) => resume(&progress, from_now, report),
        Ok(Decision::FirstStart) => {
            report.look(SUBJECT, beside(&others, topic.as_ref()));
            first_start(config, catalog, from_now, report).await?;
        }
        // The topic's own finding says it.
        Err(Refusal::Repartitioned { .. }) => {}
        Err(refusal) => {
            report.stop(SUBJECT, refusal.to_string(), refusal.remedy());
            return Ok(true);
        }
    }
    Ok(false)
}

async fn identify(config: &Config) -> Result<SystemIdentity, SourceError> {
    let mut connection = Connection::connect(&config.source.server.connect_options("penstock check")).await?;
    let identity = connection.identify_system().await?;
    connection.close().await?;
    Ok(identity)
}

fn resume(progress: &Progress, from_now: bool, report: &mut Report) {
    let clock = format_us(progress.postgres_clock_us);
    let seen = format!("resumes in epoch {} behind {}, Postgres' clock then {clock}", progress.epoch, progress.end_lsn);
    report.look(SUBJECT, seen);
    if !progress.load_complete {
        let what = "rows that captured tables held before the first start were never delivered";
        incomplete(what.to_owned(), from_now, report);
    }
}

/// Stops a bridge that was not told to go on without the rows.
fn incomplete(what: String, from_now: bool, report: &mut Report) {
    match from_now {
        true => report.warn(SUBJECT, what, "readers are told that the load is incomplete; rows come as they change"),
        false => report.stop(SUBJECT, what, "go on without them: penstock run --from-now (and check --from-now)"),
    }
}

/// What a first start finds in the topic.
fn beside(others: &Others, topic: Option<&Topic>) -> String {
    let writes_here = |progress: &Progress| topic.is_some_and(|topic| topic.id == progress.topic_id);
    let found: Vec<&str> =
        others.iter().filter(|(_, progress)| writes_here(progress)).map(|(name, _)| name.as_str()).collect();
    match found.is_empty() {
        true => "first start: there is neither slot nor progress, and the topic is empty or not there".to_owned(),
        false => {
            format!("first start: there is neither slot nor progress, and the topic is that of {}", found.join(", "))
        }
    }
}

async fn first_start(
    config: &Config,
    catalog: &mut Catalog,
    from_now: bool,
    report: &mut Report,
) -> Result<(), StartError> {
    let tables = captured(config, catalog).await?;
    if let Some(rows) = rows_text(&catalog.rows(&tables).await?) {
        let what = format!("these tables already hold rows, which a bridge that starts now never delivers: {rows}");
        incomplete(what, from_now, report);
    }
    Ok(())
}
