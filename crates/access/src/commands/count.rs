//! Counting records, and nothing else.

use std::error::Error;
use std::process::ExitCode;

use penstock_access::service::{Config, count};
use serde_json::json;

pub(crate) async fn run(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let config = config.clone().for_a_look();
    let (records, bytes) = tokio::task::spawn_blocking(move || count(&config)).await??;
    println!("{}", json!({ "records": records, "bytes": bytes }));
    Ok(ExitCode::SUCCESS)
}
