//! A trial without servers: librdkafka's mock broker and a registry in memory, for machines on which neither can be had.
//!
//! It proves nothing. The mock broker keeps records in memory, shows those of aborted transactions to every reader,
//! compacts nothing and checks little: the demo says so wherever it uses it. Nothing of the bridge knows of it.
//!
//! Invariant: it lives as long as its standard input: with the process that started it.

mod registry;

use std::io::Write as _;
use std::process::ExitCode;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::kafka::topics::Names;
use registry::Registry;

/// Why a trial cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The mock broker.
    #[error("the mock broker: {0}")]
    Kafka(#[from] KafkaError),
    /// A socket, a pipe or a thread.
    #[error("the trial: {0}")]
    Io(#[from] std::io::Error),
}

/// What to make.
#[derive(Clone, Debug, clap::Args)]
pub struct TrialArgs {
    /// The change topic; it, its progress and its dead letters are made at once, because the mock broker makes none when
    /// asked to by a client.
    #[arg(long, value_name = "TOPIC", default_value = "demo.changes")]
    topic: String,
    /// Partitions of the change topic.
    #[arg(long, value_name = "NUMBER", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
}

/// Runs until standard input ends. Prints one line of JSON: where broker and registry are.
pub fn main(args: &TrialArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("penstock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &TrialArgs) -> Result<(), TrialError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = MockCluster::new(1)?;
    let names = Names { changes: args.topic.clone() };
    broker.create_topic(&names.changes, args.partitions, 1)?;
    broker.create_topic(&names.progress(), 1, 1)?;
    broker.create_topic(&names.dead_letter(), 1, 1)?;
    let ended = runtime.block_on(serve(&broker));
    // If the registry failed first, a thread still waits for the end of the input.
    runtime.shutdown_background();
    ended
}

async fn serve(broker: &MockCluster<'static, DefaultProducerContext>) -> Result<(), TrialError> {
    let registry = Registry::bind().await?;
    let addresses = serde_json::json!({ "kafka": broker.bootstrap_servers(), "registry": registry.url()? });
    let mut output = std::io::stdout();
    writeln!(output, "{addresses}")?;
    output.flush()?;
    let end_of_input = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        served = registry.serve() => served?,
        ended = end_of_input => ended.map_err(std::io::Error::other)?.map(drop)?,
    }
    Ok(())
}
