//! Starts Postgres 15, one Kafka broker and a registry, prints how to reach them, and ends them when its standard input
//! ends (or it is killed): `cargo run -p penstock-testbed --example stack`.

use std::io::Read as _;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::Stack;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::from_environment();
    let started = std::time::Instant::now();
    for bundle in [penstock_testbed::artifacts::Bundle::Kafka, penstock_testbed::artifacts::Bundle::Registry] {
        cache.ensure(bundle, &|progress| eprintln!("{progress:?}"))?;
    }
    let stack = Stack::start(&cache)?;
    println!("postgres  {}", stack.postgres.url());
    println!("socket    {}", stack.postgres.address().socket_directory.display());
    println!("kafka     {}", stack.kafka.bootstrap());
    println!("registry  {}", stack.registry.url());
    println!("logs      {}", stack.postgres.log().display());
    println!("          {}", stack.kafka.broker().log().display());
    println!("          {}", stack.registry.log().display());
    println!("ready after {:.1?}; ends with its standard input", started.elapsed());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
