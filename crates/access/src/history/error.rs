//! Why a past cannot be told, and what can.

use std::sync::Arc;

use penstock_wire::position::Position;

use super::Point;
use crate::channel::Refusal;
use crate::knowledge::Reason;

/// Why a past cannot be told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistoryError {
    #[error("the topic does not reach {0} yet. Ask again when it does")]
    NotYet(Point),
    #[error("{from} lies behind {to}")]
    Reversed { from: Point, to: Point },
    #[error("account {0} has no row in the topic at that point")]
    NoAccount(Arc<str>),
    #[error("account {0} has rows of several sources, whose positions cannot be compared")]
    TwoSources(Arc<str>),
    #[error(
        "compaction has removed records that tell the state at {point}; its rows can be told from {until} on, which is \
         {} as a point", place(*.until)
    )]
    Compacted { point: Point, until: Position },
    #[error(
        "compaction has removed records from before {point}: its rows can be told, but not which of {flows} flows had \
         ended by then. Choose a point from which the topic keeps its full history"
    )]
    FlowsCompacted { point: Point, flows: usize },
    #[error("compaction has removed records before {at} that were pushed from. Begin at {} or later", place(*.at))]
    CompactedBetween { at: Position },
    #[error("at {point} a reader did not know the account either ({reason:?}): rows were missing or unreadable")]
    Doubted { point: Point, reason: Reason },
    #[error("at {from} the channel could not be opened: {refusal}. Its token can be given")]
    Refused { from: Point, refusal: Refusal },
    #[error("the topic was made anew under its old name, or progress is another topic's")]
    TopicReplaced,
}

fn place(position: Position) -> String {
    Point::Commit { epoch: position.epoch, lsn: position.commit_lsn }.to_string()
}
