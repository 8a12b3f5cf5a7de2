//! Who may reach what in an account.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::service::Access;
use serde_json::json;

use super::Wait;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The account's id.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Print one line of JSON instead of an indented one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(access: &Access, options: &Show) -> Result<ExitCode, Box<dyn Error>> {
    options.wait.ready(access).await;
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
