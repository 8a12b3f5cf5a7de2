//! `penstock-access`: looks at access state from the outside.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use penstock_access::account::ClientOptions;
use penstock_access::authorize::{Answer, Request};
use penstock_access::channel::push::Push;
use penstock_access::service::{Access, Config, Notice};
use serde_json::json;
use uuid::Uuid;

/// Who may reach what, rebuilt from Penstock's change topic.
///
/// Needs the brokers and the schema registry, and no database.
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
    Watch(Watch),
    /// Answer whether a client may reach a resource, and by which flow.
    Authorize(Authorize),
    /// Print who may reach what in an account, as JSON.
    Show(Show),
}

#[derive(Debug, Args)]
#[group(id = "subscriber", required = true, multiple = false)]
struct Subscriber {
    /// A client's id.
    #[arg(long, value_name = "ID", group = "subscriber")]
    client: Option<Uuid>,
    /// A gateway's id.
    #[arg(long, value_name = "ID", group = "subscriber")]
    gateway: Option<Uuid>,
}

#[derive(Debug, Args)]
struct Watch {
    #[command(flatten)]
    subscriber: Subscriber,
    /// The token that the channel is opened with; without it the one that the row was last used with.
    #[arg(long, value_name = "ID")]
    token: Option<Uuid>,
    /// The client takes a resource's move to other sites as an update.
    #[arg(long, requires = "client")]
    can_move_sites: bool,
}

#[derive(Debug, Args)]
struct Authorize {
    /// The client's id.
    #[arg(long, value_name = "ID")]
    client: Uuid,
    /// The resource's id.
    #[arg(long, value_name = "ID")]
    resource: Uuid,
    /// The token; without it the one that the client's row was last used with.
    #[arg(long, value_name = "ID")]
    token: Option<Uuid>,
    /// A gateway that is online; as often as there are.
    #[arg(long, value_name = "ID")]
    gateway: Vec<Uuid>,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
struct Show {
    /// The account's id.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Print one line of JSON instead of an indented one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
struct Wait {
    /// Wait at most so many seconds for the state to be complete.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
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

fn complain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run(cli: &Cli) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&cli.config)?;
    let access = Access::connect(&config).await?;
    let code = match &cli.command {
        Command::Watch(options) => watch(&access, options).await?,
        Command::Authorize(options) => authorize(&access, options).await?,
        Command::Show(options) => show(&access, options).await?,
    };
    access.close().await;
    Ok(code)
}

async fn watch(access: &Access, options: &Watch) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let Watch { subscriber, token, can_move_sites } = options;
    let mut channel = match (subscriber.client, subscriber.gateway) {
        (Some(client), _) => access.subscribe_client(client, *token, ClientOptions { can_move_sites: *can_move_sites }),
        (None, Some(gateway)) => access.subscribe_gateway(gateway, *token),
        (None, None) => return Err("give --client or --gateway".into()),
    };
    while let Some(notice) = channel.next().await {
        match notice {
            Notice::Push(message) => {
                println!("{}", serde_json::to_string(&message)?);
                if matches!(message.push, Push::Disconnect { .. }) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Notice::Refused(refusal) => return Err(format!("{refusal}. Give its token with --token").into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn authorize(access: &Access, options: &Authorize) -> Result<ExitCode, Box<dyn std::error::Error>> {
    ready(access, options.wait.wait).await;
    let token = options.token.or_else(|| access.look(|replica| replica.last_used_token(options.client)));
    let Some(token) = token else {
        return Err("the client's row names no token that was last used: give one with --token".into());
    };
    let request = Request {
        client: options.client,
        token,
        resource: options.resource,
        online: &options.gateway,
        flow: Uuid::new_v4(),
    };
    let answer = access.authorize(&request);
    match options.json {
        true => println!("{}", serde_json::to_string(&answer)?),
        false => println!("{:#}", json!(answer)),
    }
    Ok(if matches!(answer, Answer::Ok { .. }) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn show(access: &Access, options: &Show) -> Result<ExitCode, Box<dyn std::error::Error>> {
    ready(access, options.wait.wait).await;
    let Some(show) = access.show(&options.account) else {
        return Err(format!("no row of account {} is in the topic", options.account).into());
    };
    match options.json {
        true => println!("{}", serde_json::to_string(&show)?),
        false => println!("{:#}", json!(show)),
    }
    if let Some(reason) = access.doubt(&options.account) {
        eprintln!("warning: the account is not answered for: {reason:?}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until everything can be answered for, or for so long: what cannot be then says so itself.
async fn ready(access: &Access, seconds: u64) {
    let begun = tokio::time::Instant::now();
    while !(access.health().partitions > 0 && access.health().is_ready())
        && begun.elapsed() < Duration::from_secs(seconds)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
