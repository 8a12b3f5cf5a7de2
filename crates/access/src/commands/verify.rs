//! The state against the database.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use penstock_access::service::{self, Config, Verified};
use penstock_access::verify::{Difference, Field, Kind, name};
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The database that the bridge captures, as postgres://user@host/database; sslmode and sslrootcert as libpq has them.
    ///
    /// The user needs SELECT on the tables and nothing more. A password may stand in the URL; where TLS is spoken
    /// the certificate is always checked.
    #[arg(long, value_name = "URL", env = "PENSTOCK_ACCESS_DATABASE", hide_env_values = true)]
    database: String,
    /// An account to compare, as often as there are; without any, all.
    #[arg(long, value_name = "ID")]
    account: Vec<String>,
    /// Print each difference, and at the end the counts, as lines of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: &Config, options: &Verify) -> Result<ExitCode, Box<dyn Error>> {
    let verified = service::verify(config, &options.database, &options.account).await?;
    for difference in &verified.differences {
        match options.json {
            true => println!("{}", serde_json::to_string(difference)?),
            false => println!("{}", tell(difference)),
        }
    }
    let Verified { differences, ended_flows, same, again, doubts } = &verified;
    if options.json {
        let ended: Vec<String> = ended_flows.iter().map(|(_, _, id)| name(*id)).collect();
        let counts = json!({
            "differences": differences.len(), "same": same, "compared_again": again, "ended_flows": ended,
            "not_answered_for": doubts,
        });
        println!("{counts}");
    } else {
        for (account, _, id) in ended_flows {
            println!("flow {} of account {account} is held as ended, and its row is still there", name(*id));
        }
        println!("{} differences, {same} rows are the same, {again} were compared again", differences.len());
    }
    for (account, reason) in doubts {
        eprintln!("warning: account {account} is not answered for: {reason:?}");
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(difference: &Difference) -> String {
    let Difference { account, table, key, kind } = difference;
    let all = |fields: &[Field]| {
        let fields: Vec<String> = fields.iter().map(|field| format!("{} {}", field.column, field.value)).collect();
        fields.join(", ")
    };
    let what = match kind {
        Kind::Missing { database } => format!("missing in the state; the database has {}", all(database)),
        Kind::Extra { state } => format!("not in the database; the state has {}", all(state)),
        Kind::Columns { columns } => {
            let each = columns
                .iter()
                .map(|of| format!("{}: the state has {}, the database {}", of.column, of.state, of.database));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    format!("{table} {key} of account {account}: {what}")
}
