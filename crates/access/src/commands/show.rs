//! Who may reach what in an account.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::service::{Access, Config};
use penstock_access::text;

use super::Wait;
use super::rebuild::Rebuild;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The account's id.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Print one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Tell what reading the whole topic took as well: time, records, memory. With --json on a line of its own.
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(config: &Config, options: &Show) -> Result<ExitCode, Box<dyn Error>> {
    let rebuild = Rebuild::begin();
    let access = Access::connect(&config.clone().for_a_look()).await?;
    options.wait.ready(&access).await;
    let rebuild = rebuild.end(&access);
    let account = &options.account;
    let Some(show) = access.show(account) else {
        return Err(format!("no row of account {account} is in the topic").into());
    };
    let doubt = access.doubt(account);
    match options.json {
        true => {
            println!("{}", serde_json::to_string(&show)?);
            if let Some(reason) = doubt {
                eprintln!("warning: the account is not answered for: {reason}");
            }
        }
        false => {
            let names = access.look(|replica| replica.account(account).map(|account| account.resource_names()));
            print!("{}", text::show(&show, &names.unwrap_or_default(), doubt));
        }
    }
    match (options.rebuild, options.json) {
        (true, true) => println!("{}", rebuild.json()),
        (true, false) => print!("\n{rebuild}"),
        (false, _) => {}
    }
    access.close().await;
    Ok(ExitCode::SUCCESS)
}
