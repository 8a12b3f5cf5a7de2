//! Authorises flows and writes their rows: one flow for each line `CLIENT TOKEN RESOURCE GATEWAY` on standard input.
//!
//! ```text
//! cargo run -p penstock-access --example flow_writer -- penstock-access.toml postgresql://portal@localhost/portal
//! ```
//!
//! At the end of the input what waits is written, and what became of the flows is printed.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example is a program: it has the clock and the streams"
)]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use penstock_access::authorize::{Answer, Request};
use penstock_access::service::{Access, Config, FlowDetails, FlowWriter, FlowWriterOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_postgres::NoTls;
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, database] = arguments.as_slice() else {
        return Err("give a configuration and the database's URL".into());
    };
    let access = Access::connect(&Config::load(Path::new(config))?).await?;
    let writer = FlowWriter::start(&access, database.parse()?, NoTls, FlowWriterOptions::default());
    while !access.health().is_ready() || access.health().partitions == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let ids: Vec<Uuid> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[client, token, resource, gateway] = ids.as_slice() else {
            return Err(format!("four ids a line, not {line:?}").into());
        };
        let request = Request { client, token, resource, online: &[gateway], flow: Uuid::new_v4() };
        let answer = access.authorize(&request);
        println!("{}", serde_json::to_string(&answer)?);
        if let Answer::Ok { flow } = answer {
            // The gateway is told before this returns; the row follows.
            let details =
                FlowDetails { client_user_agent: "example".to_owned(), gateway_remote_ip: [0, 0, 0, 0].into() };
            if let Err(error) = writer.announce(flow, details) {
                eprintln!("error: {error}");
            }
        }
    }
    eprintln!("{:?}", writer.close().await);
    access.close().await;
    Ok(())
}
