//! The command line: what there is to say, and what it exits with.
//!
//! 0: done. 1: failed. 2: the call or the configuration is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use penstock_core::continuity::Accepted;
use penstock_wire::lsn::{EndLsn, Lsn};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::run::Start;

mod backfill;
mod bridge;
mod check;
mod endpoints;
mod replay;
mod schema;
mod status;

/// The exit code of a call or a configuration that is wrong.
const USAGE: u8 = 2;

/// A durable bridge from Postgres' write-ahead log to Kafka.
///
/// Every committed change becomes a typed Avro record in one topic, partitioned by account, exactly once and in commit
/// order. Begin with `penstock check`, then `penstock setup`, then `penstock run`.
#[derive(Debug, Parser)]
#[command(
    name = "penstock",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 the call or the configuration is wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Configuration file. Every key can be set by the environment too: PENSTOCK_<SECTION>__<KEY>.
    #[arg(short, long, value_name = "FILE", env = "PENSTOCK_CONFIG", default_value = "penstock.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge until it is told to stop (Ctrl-C, SIGTERM).
    ///
    /// Where slot, progress and topic do not exist yet, it makes them first, as `setup` does, and loads the rows that are in
    /// the captured tables already.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Go on without the rows that captured tables held before the first start, which are loaded otherwise. Remembered
        /// by later starts; readers are told that the load is incomplete. `penstock backfill --all` loads them after all.
        #[arg(long)]
        from_now: bool,
        /// Go on although changes behind this LSN may be missing: the one that the bridge has named when it stopped. A new
        /// epoch begins, readers are told that they know nothing until all rows were read again, and that is begun. Once it
        /// has happened, the option means nothing any more: another gap stops the bridge again.
        #[arg(long, value_name = "LSN")]
        accept_gap: Option<Lsn>,
        /// The same after `pg_upgrade`, whose server counts as another one.
        #[arg(long, value_name = "LSN", conflicts_with = "accept_gap")]
        accept_upgrade: Option<Lsn>,
    },
    /// Create topics, publication, event triggers and slot, in this order, and write the first progress record.
    ///
    /// The event triggers tell the bridge of DDL that Postgres does not announce; they need a superuser. Where the slot exists
    /// already, only they are made, or replaced by this version's.
    Setup {
        #[command(flatten)]
        config: ConfigArgs,
        /// Create nothing; print the SQL, for a database administrator to run. Topics are still `setup`'s.
        #[arg(long)]
        print_sql: bool,
    },
    /// Look at everything a bridge needs and say what is not as it must be, each with what mends it.
    ///
    /// Postgres (settings, rights, publication, every captured table, slot), Kafka (topics and their settings), the schema
    /// registry, and whether slot, progress and topic fit together. Changes nothing and may run beside the bridge. Exits 1
    /// if something would stop it; what `setup` makes does not count.
    Check(check::CheckArgs),
    /// Tell how far the bridge is, and the cause of any standstill in one sentence.
    ///
    /// What it retains and has not delivered, its positions by partition, and its own word if it answers at http.listen.
    /// Exits 1 if nothing is being delivered.
    Status(status::StatusArgs),
    /// Read rows again that are in the tables already, and deliver them among the changes: everything, a table, or an account.
    ///
    /// For a reader that has lost something, a table that is new in the configuration, rows from before the first start. The
    /// bridge goes on delivering changes meanwhile; no row that changes is overtaken by its older self. At the end readers
    /// drop what they have of the scope and did not get again. Waits for that, and exits 1 if it does not come to it.
    Backfill(backfill::BackfillArgs),
    /// Print the records of the topic, decoded, as one JSON object a line.
    ///
    /// Needs only Kafka and the schema registry. Shows changes of rows; --all-records adds tombstones and control records.
    /// Records come in order within a partition, and each once: what is at or below a position of its source that was
    /// already read in its partition is dropped and counted. Ranges hold their beginning and not their end. Reads up to
    /// where the topic ended when it began. What was read, left out and dropped is told at the end on stderr; a record
    /// that cannot be decoded is shown with the reason, and makes the exit code 1.
    ///
    /// Each line: position {epoch, commit_lsn, seq}, partition, offset, kind (row, tombstone, control, undecodable),
    /// account, table, op, key, before, after, unchanged, source, transaction, control, header {source,
    /// end_of_transaction, identity_only, previous}, timestamp_ms; while following also delay_ms, the time from the commit
    /// in Postgres until the record was read here. Times in rows are numbers as in the record: microseconds, or days.
    Replay(replay::ReplayArgs),
    /// Print records as they come: `replay --follow`.
    ///
    /// Begins at the beginning of the topic unless a range is given; `--from-offset end` shows only what is new.
    Tail(replay::ReplayArgs),
    /// Write the Avro schemas of the captured tables, and of the bridge's own records, as files.
    ///
    /// They are those that would be registered if the bridge began now. Asks only Postgres. Commit them: then a change of
    /// a table is seen in review, and --check fails until the files tell it too.
    Schema(schema::SchemaArgs),
    /// Run a mock broker and a registry in memory, for the demo where real ones cannot be had. Proves nothing.
    #[command(hide = true)]
    Trial(crate::trial::TrialArgs),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and exit 0.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Run { config, from_now, accept_gap, accept_upgrade } => {
            let accepted = Accepted { gap: accept_gap.map(EndLsn), upgrade: accept_upgrade.map(EndLsn) };
            with_config(&config, |config| bridge::run(config, Start { from_now, accepted, setup_only: false }))
        }
        Command::Setup { config, print_sql } => with_config(&config, |config| match print_sql {
            true => bridge::print_sql(&config),
            false => bridge::run(config, Start { setup_only: true, ..Start::default() }),
        }),
        Command::Backfill(args) => backfill::run(&args),
        Command::Replay(args) => replay::run(&args, false),
        Command::Tail(args) => replay::run(&args, true),
        Command::Check(args) => with_config(&args.config, |config| check::run(&config, &args)),
        Command::Status(args) => with_config(&args.config, |config| status::run(&config, &args)),
        Command::Schema(args) => with_config(&args.config, |config| schema::run(&config, &args)),
        Command::Trial(args) => crate::trial::main(&args),
    }
}

fn with_config(args: &ConfigArgs, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(Some(&args.config), environment()) {
        Ok(config) => command(config),
        Err(error) => {
            eprintln!("penstock: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Says why the command failed, and what to do about it.
fn failed(why: &str, remedy: Option<&str>) -> ExitCode {
    eprintln!("penstock: {why}");
    if let Some(remedy) = remedy {
        eprintln!("penstock: {remedy}");
    }
    ExitCode::FAILURE
}

/// Ends at the first SIGINT or SIGTERM.
fn watch_signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
