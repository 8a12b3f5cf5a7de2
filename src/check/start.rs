//! Whether slot, progress and topic are a beginning, as the bridge itself would decide.
//!
//! The bridge may be running. So they are read in the order in which each can only have grown: the slot, then progress,
//! which is never behind it, then the topic and the server, which are never behind progress.

use penstock_core::continuity::{Accepted, Continuation, Known, go_on};
use penstock_core::resume::{Decision, Others, Refusal, Server, Slot, Topic};
use penstock_wire::progress::Progress;
use penstock_wire::reload::Scope;

use super::Report;
use crate::backfill::survey;
use crate::catalog::{Catalog, CatalogError, WalStatus};
use crate::config::Config;
use crate::kafka::client::Brokers;
use crate::kafka::topics::{TopicsError, describe as describe_topic};
use crate::moment::format_us;
use crate::registry::Registry;
use crate::run::{describe, pinned, rows_text, switch_point};
use crate::schema::captured;
use crate::source::{Connection, SourceError, SystemIdentity, TimelineSwitch};
use crate::status::reloads::line;
use crate::stored::{StoredError, newest_progress, other_progress};

const SUBJECT: &str = "start";
const MISSING: &str = "rows that captured tables held before the first start were never delivered";
const RELOAD: &str = "load them, with the bridge running: penstock backfill --all";

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
    let (identity, switches) = identify(config).await?;
    let server = Server {
        system_identifier: identity.system_identifier,
        database_oid: catalog.server_facts().await?.database_oid,
        timeline: identity.timeline,
        flushed: identity.flushed,
    };
    let known = Known {
        pinned: &pinned(config),
        server: &server,
        slot: slot.as_ref(),
        progress: progress.as_ref(),
        others: &others,
        topic: topic.as_ref(),
        switch_point: progress.as_ref().and_then(|progress| switch_point(&switches, progress.timeline)),
    };
    match go_on(known, Accepted::default()) {
        Ok(Continuation::Decided(Decision::Resume(progress))) => {
            resume(config, catalog, &progress, from_now, report).await?;
        }
        Ok(Continuation::NewEpoch(next)) => {
            report.look(SUBJECT, format!("begins epoch {}: {}", next.progress.epoch, next.detail));
            resume(config, catalog, &next.progress, from_now, report).await?;
        }
        Ok(Continuation::Decided(Decision::FirstStart)) => {
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

async fn identify(config: &Config) -> Result<(SystemIdentity, Vec<TimelineSwitch>), SourceError> {
    let mut connection = Connection::connect(&config.source.server.connect_options("penstock check")).await?;
    let identity = connection.identify_system().await?;
    let switches = connection.timeline_history(identity.timeline).await?;
    connection.close().await?;
    Ok((identity, switches))
}

async fn resume(
    config: &Config,
    catalog: &mut Catalog,
    progress: &Progress,
    from_now: bool,
    report: &mut Report,
) -> Result<(), StartError> {
    let clock = format_us(progress.postgres_clock_us);
    let seen = format!("resumes in epoch {} behind {}, Postgres' clock then {clock}", progress.epoch, progress.end_lsn);
    report.look(SUBJECT, seen);
    let of_all = || progress.reloads.iter().filter(|reload| reload.scope == Scope::default());
    match of_all().find(|reload| !reload.state.is_finished()).or_else(|| of_all().next_back()) {
        _ if progress.load_complete => {}
        Some(reload) if !reload.state.is_finished() => report.look(SUBJECT, format!("under way: {}", line(reload))),
        Some(reload) => {
            let what = format!("{MISSING}; the last load of everything ended so: {}", line(reload));
            report.warn(SUBJECT, what, RELOAD);
        }
        None => load(config, catalog, MISSING.to_owned(), from_now, report).await?,
    }
    Ok(())
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
        load(config, catalog, format!("these tables already hold rows: {rows}"), from_now, report).await?;
    }
    Ok(())
}

/// What becomes of rows from before the first start: loaded by the run, unless it is told to go on without them.
async fn load(
    config: &Config,
    catalog: &mut Catalog,
    what: String,
    from_now: bool,
    report: &mut Report,
) -> Result<(), StartError> {
    if from_now {
        report.warn(SUBJECT, what, "a run with --from-now goes on without them, and tells readers so");
        return Ok(());
    }
    match survey(catalog, config, &Scope::default()).await? {
        Ok(_) => report.look(SUBJECT, format!("{what}; penstock run loads them")),
        Err(why) => report.warn(SUBJECT, format!("{what}, and they cannot be loaded"), why.why().to_owned()),
    }
    Ok(())
}
