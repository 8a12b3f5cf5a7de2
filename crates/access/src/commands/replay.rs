//! What a channel would have been told.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::account::ClientOptions;
use penstock_access::history::{Point, Told};
use penstock_access::replica::Subscriber;
use penstock_access::service::{self, Config};
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    whose: Whose,
    /// Where the channel is opened: its first push, `init`, is the state there.
    ///
    /// A point is an offset in the account's partition (offset:123), a time (2021-01-01T10:00:00Z), epoch and commit LSN
    /// (1/0/16B3748, as `at` of a push has them), or end. What counts is the end of the last transaction that lies wholly
    /// at or before it.
    #[arg(long, value_name = "POINT")]
    from: Point,
    /// Until where it is followed: a point as above.
    #[arg(long, value_name = "POINT", default_value = "end")]
    to: Point,
    /// The token that the channel is opened with; without it the one that the row was last used with at that point.
    #[arg(long, value_name = "ID")]
    token: Option<Uuid>,
    /// The client takes a resource's move to other sites as an update.
    #[arg(long, requires = "client")]
    can_move_sites: bool,
    /// The account of the client or gateway, if that is known: the whole topic is searched for it otherwise.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Print each push as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false)]
struct Whose {
    /// A client's id.
    #[arg(long, value_name = "ID", group = "whose")]
    client: Option<Uuid>,
    /// A gateway's id.
    #[arg(long, value_name = "ID", group = "whose")]
    gateway: Option<Uuid>,
}

pub(crate) async fn run(config: &Config, options: &Replay) -> Result<ExitCode, Box<dyn Error>> {
    let token = options.token;
    let subscriber = match (options.whose.client, options.whose.gateway) {
        (Some(id), _) => {
            let can_move_sites = options.can_move_sites;
            Subscriber::Client { id, token, options: ClientOptions { can_move_sites } }
        }
        (None, Some(id)) => Subscriber::Gateway { id, token },
        (None, None) => return Err("give --client or --gateway".into()),
    };
    let outcome = service::replay(config, options.account.as_deref(), subscriber, options.from, options.to).await?;
    let ending = outcome.past.ending;
    tracing::info!(position = %ending.position, next_offset = ending.next_offset, "the channel is opened at the end of");
    for told in &outcome.told {
        println!("{}", line(told, options.json)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn line(told: &Told, as_json: bool) -> Result<String, Box<dyn Error>> {
    let time = Point::Time(told.time).to_string();
    let mut message = json!(told.message);
    if as_json {
        // The time comes first, and then what `watch` prints.
        let body = serde_json::to_string(&told.message)?;
        return Ok(format!("{{\"time\":{},{}", json!(time), body.trim_start_matches('{')));
    }
    let by = if told.message.deadline.is_some() { " by the clock" } else { "" };
    let (push, payload) = (message["push"].take(), message["payload"].take());
    let push = push.as_str().unwrap_or_default();
    let payload = if payload == Value::Null { String::new() } else { format!(" {payload}") };
    Ok(format!("{time} {}{by} {push}{payload}", told.message.at))
}
