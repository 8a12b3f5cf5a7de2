//! The command line: what there is to say, and what it exits with.
//!
//! 0: done. 1: failed. 2: the call or the configuration is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::run::Start;

mod bridge;

/// A durable bridge from Postgres' write-ahead log to Kafka.
///
/// Every committed change becomes a typed Avro record in one topic, partitioned by account, exactly once and in commit
/// order. Begin with `penstock check`, then `penstock setup`, then `penstock run`.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, max_term_width = 100)]
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
    /// Where slot, progress and topic do not exist yet, it makes them first, as `setup` does.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Begin with the changes from now on, although captured tables already hold rows. Readers are told that the
        /// load is incomplete.
        #[arg(long)]
        from_now: bool,
    },
    /// Create topics, publication and slot, in this order, and write the first progress record.
    Setup {
        #[command(flatten)]
        config: ConfigArgs,
    },
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
        Command::Run { config, from_now } => with_config(&config, |config| {
            bridge::run(config, Start { from_now, setup_only: false })
        }),
        Command::Setup { config } => with_config(&config, |config| {
            bridge::run(config, Start { from_now: false, setup_only: true })
        }),
    }
}

fn with_config(args: &ConfigArgs, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    let environment = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    match Config::load(Some(&args.config), environment) {
        Ok(config) => command(config),
        Err(error) => {
            eprintln!("penstock: {error}");
            ExitCode::from(2)
        }
    }
}
