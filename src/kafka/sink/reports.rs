//! Delivery reports: librdkafka's callbacks collect them, the worker takes them after each poll.
//!
//! A callback decides nothing and must not panic. What it cannot make sense of is a failure, and the end of the sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use penstock_core::ledger::{Delivered, Ticket};
use penstock_wire::partition::Partitioner;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Message};

/// Marks the progress record's delivery report; tickets count groups and never get there.
pub(super) const PROGRESS_OPAQUE: usize = usize::MAX;
/// Marks the reports of records that are going to be aborted.
pub(super) const RESIDUE_OPAQUE: usize = usize::MAX - 1;

/// Collects delivery reports between polls.
pub(super) struct Reports {
    partitioner: Partitioner,
    collected: Mutex<Collected>,
}

#[derive(Default)]
pub(super) struct Collected {
    pub(super) delivered: Vec<Delivered>,
    /// The offset behind the open transaction's last record: by partition of the change topic, and of progress.
    pub(super) ends: BTreeMap<i32, i64>,
    pub(super) progress_end: i64,
    pub(super) failed: Option<KafkaError>,
    pub(super) progress_delivered: bool,
}

/// librdkafka's callbacks.
pub(super) struct Context(pub(super) Arc<Reports>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Lost connections are librdkafka's to mend; what it cannot mend comes back from a call or a report.
        tracing::info!(%error, reason, "kafka client");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.lock().failed.get_or_insert(error);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    /// Must not panic: librdkafka's callback would swallow it and delivery would go silent.
    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let mut collected = self.0.lock();
        let message = match result {
            Ok(message) => message,
            Err((error, _)) => {
                collected.failed.get_or_insert(error.clone());
                return;
            }
        };
        if message.offset() < 0 {
            // A repetition that the broker recognised without telling where the first one stands.
            collected.failed.get_or_insert(KafkaError::MessageProduction(RDKafkaErrorCode::NoOffset));
            return;
        }
        match opaque {
            PROGRESS_OPAQUE => {
                collected.progress_delivered = true;
                collected.progress_end = message.offset() + 1;
                return;
            }
            RESIDUE_OPAQUE => return,
            _ => {}
        }
        let end = collected.ends.entry(message.partition()).or_default();
        *end = (*end).max(message.offset() + 1);
        let partition = u32::try_from(message.partition()).ok();
        match partition.and_then(|number| self.0.partitioner.get(number)) {
            Some(partition) => collected.delivered.push(Delivered {
                ticket: Ticket::from_raw(opaque as u64),
                partition,
                offset: message.offset(),
                bytes: message.key_len() + message.payload_len(),
            }),
            None => {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition);
                collected.failed.get_or_insert(error);
            }
        }
    }
}

impl Reports {
    pub(super) fn of(partitioner: Partitioner) -> Self {
        Self { partitioner, collected: Mutex::default() }
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
