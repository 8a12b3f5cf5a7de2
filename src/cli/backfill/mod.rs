//! `backfill`: asks the running bridge for reloads, and tells how far they are.
//!
//! A request is a logical message in the source database, and the bridge finds it in its stream: what is asked for survives
//! both, and whoever may write to the database may ask. What became of it stands in progress.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use penstock_core::backfill::interface::REQUEST_PREFIX;
use penstock_wire::reload::Reload;
use serde_json::{Map, Value, json};

use super::{ConfigArgs, endpoints, environment, failed, runtime, with_config};
use crate::catalog::Catalog;
use crate::config::{Config, TableName};
use crate::kafka::client::Brokers;
use crate::registry::Registry;
use crate::run::{describe, nonce};
use crate::status::reloads::{ReloadFacts, line};
use crate::stored::{StoredError, newest_progress};

mod bar;
mod follow;

use bar::Bar;

const EXAMPLES: &str = "\
From psql the same is asked for by a message; id, table, account and rows_per_second may be absent:
  SELECT pg_logical_emit_message(true, 'penstock.backfill', '{\"reload\": {\"table\": \"public.policies\"}}');
  SELECT pg_logical_emit_message(true, 'penstock.backfill', '{\"pause\": \"ID\"}');   -- resume, cancel

The bridge's role needs SELECT on what is read, and USAGE on its schemas; with pg_read_all_stats it need not wait for other
roles' transactions that are idle since before it began.";

#[derive(Clone, Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES,
    group = ArgGroup::new("scope").required(true).multiple(true).args(["all", "table", "account"])
)]
pub(super) struct BackfillArgs {
    #[command(subcommand)]
    command: Option<BackfillCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Every captured table.
    #[arg(long, conflicts_with_all = ["table", "account"])]
    all: bool,
    /// One table.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Option<TableName>,
    /// One account's rows, in every captured table or in one; "global" means rows without an account.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Read at most so many rows a second; 0 is no bound. Else what backfill.rows_per_second says.
    #[arg(long, value_name = "N")]
    rows_per_second: Option<u64>,
    /// Do not wait for its end.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum BackfillCommand {
    /// List reloads: those under way, and some that have ended.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// One JSON array: id, table, account, why, state, rows, rows_estimated, percent, rows_per_second, begin, end, detail.
        #[arg(long)]
        json: bool,
    },
    /// Read no further rows for a reload, until it is resumed.
    Pause(Change),
    /// Go on with a reload.
    Resume(Change),
    /// End a reload where it is. What was in doubt before it stays in doubt.
    Cancel(Change),
}

#[derive(Clone, Debug, Args)]
struct Change {
    #[command(flatten)]
    config: ConfigArgs,
    /// The reload, as `penstock backfill status` names it.
    #[arg(value_name = "ID")]
    id: String,
}

/// Who is asked.
#[derive(Debug)]
struct Site<'a> {
    config: &'a Config,
    brokers: Brokers,
    registry: Registry,
}

impl<'a> Site<'a> {
    fn new(config: &'a Config) -> Result<Self, ExitCode> {
        let registry = Registry::new(&endpoints::registry(&config.registry));
        let registry = registry.map_err(|error| failed(&error.to_string(), None))?;
        Ok(Self { config, brokers: endpoints::brokers(&config.kafka), registry })
    }

    /// What progress remembers; none without progress.
    async fn reloads(&self) -> Result<Vec<Reload>, StoredError> {
        Ok(self.newest().await?.map(|progress| progress.reloads).unwrap_or_default())
    }

    async fn newest(&self) -> Result<Option<penstock_wire::progress::Progress>, StoredError> {
        newest_progress(self.config, &self.brokers, &self.registry).await
    }

    async fn ask(&self, request: &Value) -> Result<(), ExitCode> {
        let mut catalog = Catalog::new(self.config.source.server.connect_options("penstock backfill request"));
        let asked = catalog.emit_message(REQUEST_PREFIX, &request.to_string()).await;
        asked.map_err(|error| failed(&describe(&error), Some(error.advice())))
    }
}

/// Does what it says.
pub(super) fn run(args: &BackfillArgs) -> ExitCode {
    let on = |config: &ConfigArgs, command: &dyn Fn(&Site<'_>) -> ExitCode| {
        with_config(config, |config| match Site::new(&config) {
            Ok(site) => command(&site),
            Err(code) => code,
        })
    };
    match &args.command {
        None => on(&args.config, &|site| within(reload(site, args))),
        Some(BackfillCommand::Status { config, json }) => on(config, &|site| within(status(site, *json))),
        Some(BackfillCommand::Pause(change)) => on(&change.config, &|site| within(alter(site, "pause", &change.id))),
        Some(BackfillCommand::Resume(change)) => on(&change.config, &|site| within(alter(site, "resume", &change.id))),
        Some(BackfillCommand::Cancel(change)) => on(&change.config, &|site| within(alter(site, "cancel", &change.id))),
    }
}

fn within(command: impl Future<Output = Result<(), ExitCode>>) -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let ended = runtime.block_on(command);
            runtime.shutdown_background();
            ended.err().unwrap_or(ExitCode::SUCCESS)
        }
        Err(error) => failed(&format!("cannot start: {error}"), None),
    }
}

async fn reload(site: &Site<'_>, args: &BackfillArgs) -> Result<(), ExitCode> {
    // Short, for people to type; a bridge takes a second request of the same id for the first one, written twice.
    let id: String = nonce().chars().take(8).collect();
    site.ask(&request(&id, args)).await?;
    eprintln!("penstock: reload {id} is asked for");
    if args.no_wait {
        println!("{id}");
        return Ok(());
    }
    let plain =
        !std::io::stderr().is_terminal() || environment().any(|(name, value)| name == "TERM" && value == "dumb");
    follow::to_the_end(site, &id, &Bar::new(plain)).await
}

fn request(id: &str, args: &BackfillArgs) -> Value {
    let mut reload = Map::new();
    reload.insert("id".to_owned(), json!(id));
    if let Some(table) = &args.table {
        reload.insert("table".to_owned(), json!(table.to_string()));
    }
    if let Some(account) = &args.account {
        reload.insert("account".to_owned(), json!(account));
    }
    if let Some(rows) = args.rows_per_second {
        reload.insert("rows_per_second".to_owned(), json!(rows));
    }
    json!({ "reload": reload })
}

async fn status(site: &Site<'_>, as_json: bool) -> Result<(), ExitCode> {
    let reloads = site.reloads().await.map_err(|error| failed(&describe(&error), None))?;
    if as_json {
        let facts: Vec<ReloadFacts<'_>> = reloads.iter().map(ReloadFacts).collect();
        let text = serde_json::to_string(&facts).map_err(|error| failed(&error.to_string(), None))?;
        println!("{text}");
        return Ok(());
    }
    if reloads.is_empty() {
        println!("There is no reload under way, and none is remembered.");
    }
    for reload in &reloads {
        println!("{}", line(reload));
        println!("    {}", reload.why);
    }
    Ok(())
}

/// Only what is under way can be altered: anything else is most likely a mistaken id.
async fn alter(site: &Site<'_>, what: &str, id: &str) -> Result<(), ExitCode> {
    let reloads = site.reloads().await.map_err(|error| failed(&describe(&error), None))?;
    match reloads.iter().find(|reload| reload.id == id) {
        Some(reload) if !reload.state.is_finished() => {}
        Some(reload) => return Err(failed(&format!("reload {} has ended", line(reload)), None)),
        None => {
            let live: Vec<&str> =
                reloads.iter().filter(|reload| !reload.state.is_finished()).map(|reload| reload.id.as_str()).collect();
            let known = if live.is_empty() {
                "none is under way".to_owned()
            } else {
                format!("under way: {}", live.join(", "))
            };
            return Err(failed(&format!("there is no reload {id}; {known}"), None));
        }
    }
    site.ask(&json!({ what: id })).await?;
    follow::until_altered(site, what, id).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use penstock_core::backfill::request::Request;
    use penstock_wire::reload::Scope;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BackfillArgs,
    }

    fn parse(words: &[&str]) -> Result<BackfillArgs, clap::Error> {
        Line::try_parse_from([&["backfill"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn a_request_is_what_the_bridge_reads() {
        let table = |table: &str| Some(("public".to_owned(), table.to_owned()));
        for (words, scope, rows_per_second) in [
            (&["--all"][..], Scope::default(), 0),
            (&["--table", "public.t", "--rows-per-second", "7"], Scope { table: table("t"), account: None }, 7),
            (
                &["--table", "public.\"a.b\"", "--account", "x\"y\\"],
                Scope { table: table("a.b"), account: Some("x\"y\\".into()) },
                0,
            ),
            (&["--account", "1", "--no-wait"], Scope { table: None, account: Some("1".into()) }, 0),
        ] {
            let content = request("abc", &parse(words).unwrap()).to_string();
            let expected = Request::Reload { id: Some("abc".to_owned()), scope, rows_per_second };
            assert_eq!(Request::parse(content.as_bytes()), Ok(expected), "{content}");
        }
    }

    #[test]
    fn calls_that_say_too_little_or_too_much_are_refused() {
        for words in [
            &[][..],
            &["--no-wait"],
            &["--all", "--table", "public.t"],
            &["--all", "--account", "x"],
            &["--table", "t"],
            &["--all", "status"],
            &["pause"],
            &["stop", "x"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        assert!(matches!(
            parse(&["status", "--json"]).unwrap().command,
            Some(BackfillCommand::Status { json: true, .. })
        ));
        assert!(
            matches!(parse(&["cancel", "x"]).unwrap().command, Some(BackfillCommand::Cancel(Change { id, .. })) if id == "x")
        );
    }
}
