//! A progress bar while the topic is read, where a person sees it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use penstock_access::service::{Access, CATCHING_UP};

const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Steps of the bar: hundredths of a percent.
const STEPS: u64 = 10_000;

/// What is logged unless `RUST_LOG` says otherwise: a bar tells what log lines would.
pub(crate) fn filter() -> String {
    if std::io::stderr().is_terminal() { format!("info,{CATCHING_UP}=off") } else { "info".to_owned() }
}

/// Runs something and draws the bar meanwhile, for as long as there is something to be read.
pub(crate) async fn beside<T>(access: &Access, command: impl Future<Output = T>) -> T {
    let draw = async {
        if std::io::stderr().is_terminal() {
            draw(access).await;
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        biased;
        done = command => done,
        () = draw => unreachable!("the bar stays until the command ends"),
    }
}

async fn draw(access: &Access) {
    let template = "{wide_bar} {percent} % {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr()).with_style(style);
    loop {
        let health = access.health();
        match health.catching_up {
            Some(figures) => {
                bar.set_position((figures.percent * 100.0) as u64);
                let left = figures.left.map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
                bar.set_message(format!("{} records, {:.0}/s{left}", figures.records, figures.rate));
            }
            None if health.partitions > 0 && health.rebuilding == 0 => return bar.finish_and_clear(),
            None => bar.tick(),
        }
        tokio::time::sleep(DRAW_EVERY).await;
    }
}
