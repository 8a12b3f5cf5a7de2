//! `check`: what stands in the way, with what mends it.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, endpoints, failed, runtime};
use crate::catalog::findings::Severity;
use crate::check::{Report, Verdict, check};
use crate::config::Config;
use crate::registry::Registry;

#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// For a bridge that will run with --from-now: it loads no rows from before its first start.
    #[arg(long)]
    from_now: bool,
    /// One JSON object: verdict (ready, setup, stop), looks [{what, seen}], findings [{severity, subject, what, remedy,
    /// mended_by_setup}].
    #[arg(long)]
    json: bool,
}

/// Looks at everything and says what it found.
pub(super) fn run(config: &Config, args: &CheckArgs) -> ExitCode {
    let registry = match Registry::new(&endpoints::registry(&config.registry)) {
        Ok(registry) => registry,
        Err(error) => return failed(&error.to_string(), None),
    };
    let report = match runtime() {
        Ok(runtime) => {
            let report = runtime.block_on(check(config, &endpoints::brokers(&config.kafka), &registry, args.from_now));
            runtime.shutdown_background();
            report
        }
        Err(error) => return failed(&format!("cannot start: {error}"), None),
    };
    match args.json {
        true => match serde_json::to_string(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => return failed(&error.to_string(), None),
        },
        false => print!("{}", text(&report)),
    }
    match report.verdict() {
        Verdict::Ready | Verdict::Setup => ExitCode::SUCCESS,
        Verdict::Stop => ExitCode::FAILURE,
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for look in &report.looks {
        text.push_str(&format!("seen   {}: {}\n", look.what, look.seen));
    }
    for finding in &report.findings {
        let sign = match (finding.severity, finding.mended_by_setup) {
            (Severity::Warn, _) => "warn ",
            (Severity::Stop, true) => "setup",
            (Severity::Stop, false) => "STOP ",
        };
        text.push_str(&format!("{sign}  {}: {}\n       {}\n", finding.subject, finding.what, finding.remedy));
    }
    text.push_str(match report.verdict() {
        Verdict::Ready => "Nothing stops the bridge.\n",
        Verdict::Setup => "Nothing stops a first start: `penstock setup`, or `penstock run`, makes what is missing.\n",
        Verdict::Stop => "The bridge stops until everything marked STOP is mended.\n",
    });
    text
}
