//! What a person should know of what was read, as a person is told it: with the topic it stands in.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use penstock_wire::position::Position;

use crate::replica::Problem;

/// Reports that are kept for whoever asks later; all are logged and counted.
const KEPT_MAX: usize = 100;

/// One thing that is wrong. Whatever it is, it was taken for a reason to deny. Never holds what stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub topic: Arc<str>,
    pub partition: Option<u32>,
    pub offset: Option<i64>,
    /// Source and position.
    pub position: Option<(u16, Position)>,
    pub what: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}", self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, ", partition {partition}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some((source, position)) = self.position {
            write!(f, ", source {source} position {position}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The newest reports.
#[derive(Debug)]
pub(super) struct Reports {
    topic: Arc<str>,
    kept: VecDeque<Report>,
}

impl Reports {
    pub(super) fn of_topic(topic: &str) -> Self {
        Self { topic: topic.into(), kept: VecDeque::new() }
    }

    /// Logs it and keeps it.
    pub(super) fn take(&mut self, problem: &Problem) {
        let Problem { partition, offset, position, kind } = problem;
        let report = Report {
            topic: Arc::clone(&self.topic),
            partition: *partition,
            offset: *offset,
            position: *position,
            what: kind.to_string(),
        };
        tracing::warn!(
            topic = &*report.topic,
            partition,
            offset,
            position = position.map(|(source, position)| format!("{source}/{position}")),
            "{}",
            report.what
        );
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(report);
    }

    /// Oldest first.
    pub(super) fn kept(&self) -> Vec<Report> {
        self.kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    use super::*;
    use crate::partition;
    use crate::replica::ProblemKind;

    fn problem(offset: Option<i64>) -> Problem {
        let position = Position { epoch: 1, commit_lsn: CommitLsn::new(0x16), seq: Seq(8) };
        let kind = ProblemKind::Reading(partition::ProblemKind::NoHeader { reason: "none".to_owned() });
        Problem { partition: Some(2), offset, position: Some((1, position)), kind }
    }

    #[test]
    fn a_report_says_where_it_stands() {
        let mut reports = Reports::of_topic("t.changes");
        reports.take(&problem(Some(7)));
        assert_eq!(
            reports.kept()[0].to_string(),
            "topic t.changes, partition 2, offset 7, source 1 position 1:0/16:8: \
             a record whose place in the order is not known: none"
        );
    }

    #[test]
    fn the_newest_are_kept() {
        let mut reports = Reports::of_topic("t");
        for offset in 0..=KEPT_MAX {
            reports.take(&problem(i64::try_from(offset).ok()));
        }
        let kept = reports.kept();
        assert_eq!((kept.len(), kept[0].offset, kept[KEPT_MAX - 1].offset), (KEPT_MAX, Some(1), Some(KEPT_MAX as i64)));
    }
}
