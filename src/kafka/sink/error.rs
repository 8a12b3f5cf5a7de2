//! Why a sink ended. Every error is the end of it; what follows is the session's to decide.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why the sink ended.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Another bridge of this source has taken over; or the brokers have aborted the transaction by its timeout, which
    /// they tell in the same words.
    #[error("fenced: another bridge with the same source name has taken over, or the transaction took too long")]
    Fenced,
    /// Records were on their way and nothing came back.
    #[error("no broker answered for {0} s")]
    Silent(u64),
    /// No thread to be had.
    #[error("start the witness's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A commit has returned, and its records do not become readable.
    #[error("what was committed in partition {partition} of {topic} does not become readable")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Kafka refused or did not answer.
    #[error("{step}: {source}")]
    Kafka {
        /// What was being done.
        step: &'static str,
        /// librdkafka's error.
        #[source]
        source: KafkaError,
    },
}

impl SinkError {
    /// Whether the brokers have ended the transaction, for whatever reason.
    pub fn transaction_is_gone(&self) -> bool {
        match self {
            Self::Fenced => true,
            Self::Silent(_) | Self::Unreadable { .. } | Self::Thread(_) => false,
            Self::Kafka { source, .. } => {
                source.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionalState)
            }
        }
    }

    /// Whether the brokers allow no transactions as long as are asked for, which waiting does not mend.
    pub fn refuses_the_timeout(&self) -> bool {
        match self {
            Self::Kafka { source, .. } => {
                source.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionTimeout)
            }
            Self::Fenced | Self::Silent(_) | Self::Unreadable { .. } | Self::Thread(_) => false,
        }
    }

    /// A short name for metrics.
    pub fn code(&self) -> String {
        match self {
            Self::Fenced => "Fenced".into(),
            Self::Silent(_) => "Silent".into(),
            Self::Unreadable { .. } => "Unreadable".into(),
            Self::Thread(_) => "Thread".into(),
            Self::Kafka { source, .. } => match source.rdkafka_error_code() {
                Some(code) => format!("{code:?}"),
                None => "Other".into(),
            },
        }
    }
}

/// What a call's or a report's error means.
pub(super) fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> SinkError {
    move |source| match source.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) => {
            SinkError::Fenced
        }
        _ => SinkError::Kafka { step, source },
    }
}
