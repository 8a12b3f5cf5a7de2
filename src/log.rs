//! The log: tracing events to stderr, as text or as JSON, one line each.
//!
//! `RUST_LOG` wins over the configured level. Row values, keys and secrets are never logged, by nobody.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the log for the rest of the process. Called once, before anything else that may log.
pub fn init(log: &Log) {
    // librdkafka reports what its own reconnects mend, and the end of a partition as an error.
    let default = format!("{},librdkafka=warn,rdkafka=off", log.level.as_str());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = done {
        eprintln!("penstock: the log was started before: {error}");
    }
}
