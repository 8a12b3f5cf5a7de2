//! One question.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::authorize::Request;
use penstock_access::service::{Access, Config};
use penstock_access::text;
use uuid::Uuid;

use super::Wait;

#[derive(Debug, Args)]
pub(crate) struct Authorize {
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

pub(crate) async fn run(config: &Config, options: &Authorize) -> Result<ExitCode, Box<dyn Error>> {
    let access = Access::connect(&config.clone().for_a_look()).await?;
    options.wait.ready(&access).await;
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
        false => {
            let client = options.client;
            let names =
                access.look(|replica| replica.account_of_client(client).map(|account| account.resource_names()));
            print!("{}", text::answer(&answer, &names.unwrap_or_default()));
        }
    }
    access.close().await;
    Ok(ExitCode::SUCCESS)
}
