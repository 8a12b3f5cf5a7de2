//! What a person should know, and where it stands.

use std::sync::Arc;

use penstock_wire::position::Position;

use crate::account::parents::Orphan;
use crate::account::state::PolicyProblem;
use crate::{decode, partition};

/// Something is wrong with what is read. Whatever it is, it was taken for a reason to deny.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub partition: Option<u32>,
    pub offset: Option<i64>,
    /// Source and position.
    pub position: Option<(u16, Position)>,
    pub kind: ProblemKind,
}

/// What is wrong. Never holds what stands in a row.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemKind {
    #[error(transparent)]
    Reading(partition::ProblemKind),
    #[error("a row of {table}: {problem}")]
    Row { table: &'static str, problem: decode::Problem },
    /// Its records cannot be read.
    #[error("schema {id}: {reason}")]
    Schema { id: u32, reason: String },
    /// The rows written with it lack something.
    #[error("rows written with schema {id}: {problem}")]
    Columns { id: u32, problem: decode::Problem },
    #[error("policy {} of account {account}: {}", problem.policy, problem.problem)]
    Policy { account: Arc<str>, problem: PolicyProblem },
    #[error(
        "a row of {} names a row of {} that account {account} does not have: it grants nothing",
        orphan.table.name(),
        orphan.parent.name()
    )]
    Orphan { account: Arc<str>, orphan: Orphan },
    #[error("account {account} has rows in the sources {first} and {second}: nothing is granted in it")]
    TwoSources { account: Arc<str>, first: u16, second: u16 },
}

impl ProblemKind {
    /// Names of all kinds, for counting.
    pub const NAMES: [&str; 12] = [
        "lost",
        "undecodable",
        "dead_letter",
        "no_header",
        "large_transaction",
        "no_entry",
        "row",
        "schema",
        "columns",
        "policy",
        "two_sources",
        "orphan",
    ];

    /// Which of [`ProblemKind::NAMES`] it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reading(partition::ProblemKind::Lost { .. }) => "lost",
            Self::Reading(partition::ProblemKind::Undecodable { .. }) => "undecodable",
            Self::Reading(partition::ProblemKind::DeadLetter { .. }) => "dead_letter",
            Self::Reading(partition::ProblemKind::NoHeader { .. }) => "no_header",
            Self::Reading(partition::ProblemKind::LargeTransaction { .. }) => "large_transaction",
            Self::Reading(partition::ProblemKind::NoEntry { .. }) => "no_entry",
            Self::Row { .. } => "row",
            Self::Schema { .. } => "schema",
            Self::Columns { .. } => "columns",
            Self::Policy { .. } => "policy",
            Self::TwoSources { .. } => "two_sources",
            Self::Orphan { .. } => "orphan",
        }
    }
}

impl From<partition::Problem> for Problem {
    fn from(problem: partition::Problem) -> Self {
        let partition::Problem { partition, offset, position, kind } = problem;
        Self { partition: Some(partition), offset, position, kind: ProblemKind::Reading(kind) }
    }
}
