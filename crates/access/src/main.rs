//! `penstock-access`: looks at access state from the outside.

mod commands;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock_access::service::{Access, Config};

use commands::{authorize, replay, show, verify, watch};

/// Who may reach what, rebuilt from Penstock's change topic.
///
/// Needs the brokers and the schema registry, and no database but for `verify`.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Configuration file: sections [kafka] (brokers, topic), [registry] (url) and [access].
    #[arg(long, short, global = true, env = "PENSTOCK_ACCESS_CONFIG", default_value = "penstock-access.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what a client or a gateway is told, as JSON lines; the first is `init`.
    ///
    /// Ends with `disconnect` (exit 0), or with Ctrl-C. Exits 1 if the channel may not be open.
    Watch(watch::Watch),
    /// Answer whether a client may reach a resource, and by which flow.
    Authorize(authorize::Authorize),
    /// Print who may reach what in an account, as JSON.
    Show(show::Show),
    /// Print what a client or a gateway would have been told between two points of the topic's history, and when.
    ///
    /// Pushes that the clock makes (windows that open and close, what expires) stand at their deadlines in the replayed
    /// time. Flows that were announced, and not only written, are not in the topic: pushes for them are left out until
    /// their rows come. Where compaction has removed what is needed nothing is printed, and the exit code is 1.
    Replay(replay::Replay),
    /// Compare the state that is made of the topic with the database, row by row, while both go on.
    ///
    /// Lists every row that one side lacks, or that differs in a column that decisions read, and exits 1 if there is any.
    /// Flows that the state holds as ended, and whose rows nobody has deleted yet, are listed apart and are no
    /// differences. Reads in one transaction, and writes nothing; a row that was just being written is compared again.
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    runtime.block_on(async {
        tokio::select! {
            code = run(&cli) => code.unwrap_or_else(|error| complain(&*error)),
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

fn complain(error: &dyn Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::load(&cli.config)?;
    // Only what asks for the state as it is now follows the topic.
    let live = match &cli.command {
        Command::Replay(options) => return replay::run(&config, options).await,
        Command::Verify(options) => return verify::run(&config, options).await,
        Command::Watch(_) | Command::Authorize(_) | Command::Show(_) => Access::connect(&config).await?,
    };
    let code = match &cli.command {
        Command::Watch(options) => watch::run(&live, options).await?,
        Command::Authorize(options) => authorize::run(&live, options).await?,
        Command::Show(options) => show::run(&live, options).await?,
        Command::Replay(_) | Command::Verify(_) => ExitCode::SUCCESS,
    };
    live.close().await;
    Ok(code)
}
