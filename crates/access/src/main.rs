//! `penstock-access`: looks at access state from the outside.

mod commands;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock_access::service::{Config, ConnectError};

use commands::{authorize, bar, show, watch};

/// Who may reach what, rebuilt from Penstock's change topic.
///
/// Needs the brokers and the schema registry, and no database. Exit codes: 0 done, 1 failed, 2 the call or the configuration
/// is wrong. `authorize` exits 0 whatever the answer is.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Configuration file: sections [kafka] (brokers, topic) and [registry] (url); [access] and [http] if wanted.
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
    /// Print who may reach what in an account.
    Show(show::Show),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| bar::filter().into());
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

/// 2: the call or the configuration has to be another; 1: it failed.
fn complain(error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("error: {error}");
    match error.downcast_ref::<ConnectError>().is_some_and(ConnectError::is_configuration) {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

async fn run(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::load(&cli.config)?;
    match &cli.command {
        Command::Watch(options) => watch::run(&config, options).await,
        Command::Authorize(options) => authorize::run(&config, options).await,
        Command::Show(options) => show::run(&config, options).await,
    }
}
