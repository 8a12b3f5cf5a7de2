//! Everything a bridge needs, looked at before it runs: Postgres, Kafka, the registry, and whether slot, progress and
//! topic are a beginning.
//!
//! Changes nothing, registers nothing, takes no slot and fences nobody, so it may run beside the bridge. What it finds is
//! true of the moment. A finding that `setup` mends stops nobody: a first start is what it is for.

mod kafka;
mod postgres;
mod registry;
mod start;

pub(crate) use self::kafka::stopping as stopping_topics;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::catalog::Catalog;
use crate::catalog::findings::{Finding, Severity};
use crate::config::Config;
use crate::kafka::client::Brokers;
use crate::registry::Registry;

/// What was looked at, and what is not as it must be.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of looking.
    pub looks: Vec<Look>,
    /// In the order of mending.
    pub findings: Vec<Finding>,
}

/// Something that was there to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub what: &'static str,
    pub seen: String,
}

/// What the findings amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `run` goes on from where it stopped.
    Ready,
    /// Nothing is there yet; `setup`, or the first `run`, makes it.
    Setup,
    /// A bridge that starts now stops.
    Stop,
}

/// Looks at everything. `from_now`: the bridge will be told to go on without the rows from before its first start.
pub async fn check(config: &Config, brokers: &Brokers, registry: &Registry, from_now: bool) -> Report {
    let mut catalog = Catalog::new(config.source.server.connect_options("penstock check"));
    let (mut report, kafka) = {
        let postgres = postgres::look(config, &mut catalog);
        let (postgres, kafka) = tokio::join!(postgres, kafka::look(config, brokers));
        let mut report = Report::default();
        report.add(postgres);
        let reachable = kafka.reachable;
        report.add(kafka.report);
        (report, reachable)
    };
    let postgres = !report.findings.iter().any(|finding| finding.subject == postgres::UNREACHABLE);
    let (seen, answers) = registry::look(config, registry, postgres.then_some(&mut catalog)).await;
    report.add(seen);
    if postgres && kafka && answers {
        let started = start::look(config, brokers, registry, &mut catalog, from_now).await;
        report.add_start(started);
    }
    report
}

impl Report {
    /// What the findings amount to.
    pub fn verdict(&self) -> Verdict {
        let stops = || self.findings.iter().filter(|finding| finding.severity == Severity::Stop);
        match (stops().next(), stops().all(|finding| finding.mended_by_setup)) {
            (None, _) => Verdict::Ready,
            (Some(_), true) => Verdict::Setup,
            (Some(_), false) => Verdict::Stop,
        }
    }

    fn add(&mut self, other: Self) {
        self.looks.extend(other.looks);
        self.findings.extend(other.findings);
    }

    /// Where slot, progress and topic are no beginning, `setup` is not the remedy for the one that is missing.
    fn add_start(&mut self, start: start::Start) {
        if start.refused {
            self.findings.retain(|finding| !finding.mended_by_setup);
        }
        self.add(start.report);
    }

    fn look(&mut self, what: &'static str, seen: impl Into<String>) {
        self.looks.push(Look { what, seen: seen.into() });
    }

    fn stop(&mut self, subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.find(Severity::Stop, subject.into(), what.into(), remedy.into(), false);
    }

    fn warn(&mut self, subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.find(Severity::Warn, subject.into(), what.into(), remedy.into(), false);
    }

    fn left_to_setup(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.find(Severity::Stop, subject.into(), what.into(), "run: penstock setup".to_owned(), true);
    }

    fn find(&mut self, severity: Severity, subject: String, what: String, remedy: String, mended_by_setup: bool) {
        self.findings.push(Finding { severity, subject, what, remedy, mended_by_setup });
    }
}

impl Verdict {
    /// As the JSON calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Setup => "setup",
            Self::Stop => "stop",
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let looks: Vec<_> =
            self.looks.iter().map(|look| serde_json::json!({"what": look.what, "seen": look.seen})).collect();
        let findings = self.findings.iter().map(|finding| {
            serde_json::json!({
                "severity": finding.severity.as_str(),
                "subject": finding.subject,
                "what": finding.what,
                "remedy": finding.remedy,
                "mended_by_setup": finding.mended_by_setup,
            })
        });
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("verdict", self.verdict().as_str())?;
        map.serialize_entry("looks", &looks)?;
        map.serialize_entry("findings", &findings.collect::<Vec<_>>())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_setup_does_not_mend_stops() {
        let mut report = Report::default();
        report.warn("a", "b", "c");
        assert_eq!(report.verdict(), Verdict::Ready);
        report.left_to_setup("slot s", "there is no such slot");
        assert_eq!(report.verdict(), Verdict::Setup);
        report.stop("a", "b", "c");
        assert_eq!(report.verdict(), Verdict::Stop);
    }

    #[test]
    fn setup_is_no_remedy_where_something_of_an_earlier_start_is_left() {
        let mut report = Report::default();
        report.left_to_setup("slot s", "there is no such slot");
        let subjects = |report: &Report| report.findings.iter().map(|found| found.subject.clone()).collect::<Vec<_>>();
        let start = |refused| {
            let mut report = Report::default();
            report.stop("start", "what", "remedy");
            start::Start { report, refused }
        };
        report.add_start(start(false));
        assert_eq!(subjects(&report), ["slot s", "start"], "what stops a start otherwise leaves it to setup");
        report.add_start(start(true));
        assert_eq!(subjects(&report), ["start", "start"]);
    }
}
