//! `run` and `setup`: the bridge itself, with its HTTP server and its signals.

use std::process::ExitCode;

use tokio::sync::watch;

use super::{failed, runtime, watch_signals};
use crate::catalog::{Catalog, setup_sql};
use crate::config::Config;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::run::{RunError, Shell, Start, describe, run as run_bridge};
use crate::schema::captured;
use crate::{http, log};

/// Runs the bridge to its end.
pub(super) fn run(config: Config, start: Start) -> ExitCode {
    log::init(&config.log);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("penstock: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(serve(config, start));
    // Blocking calls of librdkafka that are still out must not hold up the exit.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints what `setup` would run on the server.
pub(super) fn print_sql(config: &Config) -> ExitCode {
    let asked = runtime().map(|runtime| {
        runtime.block_on(async {
            let mut catalog = Catalog::new(config.source.server.connect_options("penstock setup"));
            captured(config, &mut catalog).await
        })
    });
    match asked {
        Ok(Ok(tables)) => {
            print!("{}", setup_sql(&config.source.publication, &tables));
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => failed(&describe(&error), Some(error.advice())),
        Err(error) => failed(&format!("cannot start: {error}"), None),
    }
}

async fn serve(config: Config, start: Start) -> Result<(), RunError> {
    let (stop, stopped) = watch::channel(false);
    let signals = watch_signals().map_err(|source| RunError::Io { what: "listen for signals".into(), source })?;
    let health = Health::default();
    let metrics = Metrics::new();
    let http = if start.setup_only {
        None
    } else {
        let server = http::Server::bind(config.http.listen, metrics.clone(), health.clone()).await;
        Some(server.map_err(|source| RunError::Io { what: "serve HTTP".into(), source })?)
    };
    let bridge = async {
        let mut asked = stopped.clone();
        let shell = tokio::select! {
            shell = Shell::new(config, health.clone(), metrics) => shell?,
            _ = asked.wait_for(|stop| *stop) => return Ok(()),
        };
        run_bridge(&shell, start, stopped.clone()).await
    };
    tokio::pin!(bridge);
    let server = async {
        match http {
            Some(server) => server.serve(stopped.clone()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(server, signals);
    loop {
        tokio::select! {
            ended = &mut bridge => {
                if let Err(error) = &ended {
                    health.stopped(error.to_string());
                }
                return ended;
            }
            () = &mut signals, if !*stop.borrow() => {
                tracing::info!("stopping");
                stop.send_replace(true);
            }
            () = &mut server => return Ok(()),
        }
    }
}

fn report(error: &RunError) {
    let text = crate::run::describe(error);
    tracing::error!(error = text, "stopped");
    eprintln!("penstock: {text}");
    if let Some(remedy) = error.remedy() {
        eprintln!("penstock: {remedy}");
    }
}
