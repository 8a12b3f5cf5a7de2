//! What a channel is told.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::account::ClientOptions;
use penstock_access::channel::push::Push;
use penstock_access::service::{Access, Channel, Config, Notice};
use uuid::Uuid;

use super::bar;

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    subscriber: Subscriber,
    /// The token that the channel is opened with; without it the one that the row was last used with.
    #[arg(long, value_name = "ID")]
    token: Option<Uuid>,
    /// The client takes a resource's move to other sites as an update.
    #[arg(long, conflicts_with = "gateway")]
    can_move_sites: bool,
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

pub(crate) async fn run(config: &Config, options: &Watch) -> Result<ExitCode, Box<dyn Error>> {
    let access = Access::connect(config).await?;
    let Watch { subscriber, token, can_move_sites } = options;
    let mut channel = match (subscriber.client, subscriber.gateway) {
        (Some(client), _) => access.subscribe_client(client, *token, ClientOptions { can_move_sites: *can_move_sites }),
        (None, Some(gateway)) => access.subscribe_gateway(gateway, *token),
        (None, None) => return Err("give --client or --gateway".into()),
    };
    bar::beside(&access, print(&mut channel)).await?;
    access.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Until the channel is over.
async fn print(channel: &mut Channel) -> Result<(), Box<dyn Error>> {
    while let Some(notice) = channel.next().await {
        match notice {
            Notice::Push(message) => {
                println!("{}", serde_json::to_string(&message)?);
                if matches!(message.push, Push::Disconnect { .. }) {
                    break;
                }
            }
            Notice::Refused(refusal) => return Err(format!("{refusal}. Give its token with --token").into()),
        }
    }
    Ok(())
}
