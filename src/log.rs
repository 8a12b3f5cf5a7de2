//! The log: tracing events to stderr, as text or as JSON, one line each.
//!
//! The configured level is Penstock's own; the libraries it is made of tell warnings and errors, as far as that level
//! lets them, because their details may quote what they carry. `RUST_LOG` replaces all of it. Row values, keys and
//! secrets are never logged, by nobody, at any level of Penstock's own.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

const VARIABLE: &str = "RUST_LOG";

/// Starts the log for the rest of the process. Called once, before anything else that may log.
pub fn init(log: &Log) {
    let wished = std::env::var(VARIABLE).ok();
    let (filter, refused) = filter(log.level, wished.as_deref());
    let colours = std::io::stderr().is_terminal();
    // The first that starts a log keeps it; that there is one is all that counts.
    let _ = subscriber(log.format, filter, colours, std::io::stderr).try_init();
    if let Some(reason) = refused {
        tracing::warn!(reason, "{VARIABLE} is not understood; log.level is used instead");
    }
}

/// What is logged, and why `RUST_LOG` was not followed, if it was not.
fn filter(level: LogLevel, wished: Option<&str>) -> (EnvFilter, Option<String>) {
    match wished.filter(|wished| !wished.trim().is_empty()).map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(directives(level)), Some(error.to_string())),
        None => (EnvFilter::new(directives(level)), None),
    }
}

/// `penstock` covers every crate whose name begins so. The `rdkafka` crate reports ends of partitions as errors;
/// `librdkafka` is the library below it.
fn directives(level: LogLevel) -> String {
    let libraries = match level {
        LogLevel::Error => LogLevel::Error,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug | LogLevel::Trace => LogLevel::Warn,
    };
    format!("{},rdkafka=off,penstock={}", libraries.as_str(), level.as_str())
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, wished: Option<&str>, events: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter(level, wished).0, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn everybody() {
        tracing::error!(target: "penstock::run", "own error");
        tracing::info!(target: "penstock_core::bridge", "own info");
        tracing::debug!(target: "penstock::run", "own debug");
        tracing::error!(target: "librdkafka", "their error");
        tracing::warn!(target: "tokio_postgres::query", "their warning");
        tracing::debug!(target: "tokio_postgres::query", "their debug");
        tracing::error!(target: "rdkafka::client", "end of partition");
    }

    fn heard(level: LogLevel, wished: Option<&str>) -> Vec<String> {
        let lines = logged(LogFormat::Text, level, wished, everybody);
        lines.into_iter().map(|line| line.rsplit_once(": ").unwrap().1.to_owned()).collect()
    }

    #[test]
    fn the_level_is_penstocks_own_and_libraries_only_warn() {
        let info = ["own error", "own info", "their error", "their warning"];
        assert_eq!(heard(LogLevel::Info, None), info);
        assert_eq!(heard(LogLevel::Error, None), ["own error", "their error"]);
        assert_eq!(heard(LogLevel::Debug, None).len(), info.len() + 1);
        assert!(!heard(LogLevel::Trace, None).contains(&"their debug".to_owned()));
    }

    #[test]
    fn rust_log_replaces_the_level() {
        assert_eq!(heard(LogLevel::Info, Some("tokio_postgres=debug")), ["their warning", "their debug"]);
        assert_eq!(heard(LogLevel::Error, Some(" ")), heard(LogLevel::Error, None));
    }

    #[test]
    fn a_rust_log_that_makes_no_sense_is_refused_with_a_reason() {
        let (_, refused) = filter(LogLevel::Info, Some("penstock=loud"));
        assert!(refused.is_some());
        assert_eq!(heard(LogLevel::Error, Some("penstock=loud")), heard(LogLevel::Error, None));
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let event = || tracing::warn!(reason = "two\nlines \"quoted\" \u{1b}[31m", tries = 3, "waiting");
        let text = logged(LogFormat::Text, LogLevel::Info, Some("info"), event);
        assert_eq!(text.len(), 1, "{text:?}");
        assert!(!text[0].contains('\u{1b}'), "{text:?}");
        let json = logged(LogFormat::Json, LogLevel::Info, Some("info"), event);
        assert_eq!(json.len(), 1, "{json:?}");
        let line: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["tries"]), (&"WARN".into(), &"waiting".into(), &3.into()));
        assert_eq!(line["reason"], "two\nlines \"quoted\" \u{1b}[31m");
        assert!(line["timestamp"].is_string() && line["target"].is_string());
    }
}
