//! What a portal does with access state: tell a client what it may reach, and let it reach something.
//! `cargo run -p penstock-access --example service -- penstock-access.toml CLIENT TOKEN RESOURCE GATEWAY…`

use std::{error::Error, path::Path};

use penstock_access::account::ClientOptions;
use penstock_access::authorize::{Answer, Request};
use penstock_access::service::{Access, Config, Notice};
use uuid::Uuid;

pub async fn serve(config: &Config, ids: &[Uuid], tell: &mut dyn FnMut(String)) -> Result<Access, Box<dyn Error>> {
    let &[client, token, resource, ref online @ ..] = ids else { return Err("give four ids at least".into()) };
    let access = Access::connect(config).await?;
    let mut channel = access.subscribe_client(client, Some(token), ClientOptions::default());
    // Until it is known what the client may reach, it is told that it is not: `stale`, then `init`.
    while let Some(Notice::Push(message)) = channel.next().await {
        let line = serde_json::to_string(&message)?;
        tell(line.clone());
        if line.contains("\"push\":\"init\"") {
            break;
        }
    }
    let answer = access.authorize(&Request { client, token, resource, online, flow: Uuid::new_v4() });
    if let Answer::Ok { flow } = &answer {
        access.announce(flow); // Its gateway is told now. Somebody has to write its row: see the example `flow_writer`.
    }
    tell(serde_json::to_string(&answer)?);
    Ok(access)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = Config::load(Path::new(&arguments.next().ok_or("give a configuration and four ids at least")?))?;
    let ids: Vec<Uuid> = arguments.map(|id| id.parse()).collect::<Result<_, _>>()?;
    serve(&config, &ids, &mut |line| println!("{line}")).await?.close().await;
    Ok(())
}
