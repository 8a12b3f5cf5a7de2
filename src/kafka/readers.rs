//! The clients that a start asks its questions with: made once, used by every question.
//!
//! A client of librdkafka costs threads and connections to make, and to be rid of one takes up to 100 ms. One that was made
//! just now answers later, too: it asks a bootstrap server, gives that up for the broker it learns of, and repeats after a
//! pause what was on its way. So they are made while something else is waited for, and asked about the brokers first.
//!
//! One thread at a time may read with them; questions may be asked at any time. After an error they are thrown away.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{Brokers, IsolationLevel};

/// How long the brokers may take to answer a client that has just been made.
const INTRODUCTION_PATIENCE: Duration = Duration::from_secs(1);

/// One client for each isolation level. Clones are the same clients.
#[derive(Clone)]
pub struct Readers(Arc<Pair>);

struct Pair {
    everything: Aside<BaseConsumer>,
    committed: Aside<BaseConsumer>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Connects lazily; fails only on a configuration librdkafka refuses.
    pub fn of(brokers: &Brokers) -> Result<Self, KafkaError> {
        let everything = Aside::new(brokers.questions(IsolationLevel::ReadUncommitted).create()?);
        let committed = Aside::new(brokers.reader(IsolationLevel::ReadCommitted).create()?);
        Ok(Self(Arc::new(Pair { everything, committed })))
    }

    /// Lets the clients learn of the brokers, so that the first question finds them connected. Brokers that are away are
    /// the questions' business. Blocks for 2 s at most.
    pub fn introduce(&self, topic: &str) {
        for client in [self.everything(), self.committed()] {
            if let Err(error) = client.fetch_metadata(Some(topic), INTRODUCTION_PATIENCE) {
                tracing::debug!(%error, "a client that was just made cannot ask about the brokers");
            }
        }
    }

    /// Sees everything written. Only for questions: it has no group, and cannot read.
    pub fn everything(&self) -> &BaseConsumer {
        &self.0.everything
    }

    /// Sees only what is committed, and reads.
    pub fn committed(&self) -> &BaseConsumer {
        &self.0.committed
    }
}

/// A client that is dropped on a thread of its own: whoever is done with it need not wait for its end.
pub(super) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(super) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only dropping takes the client")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Without a thread to be had, it is dropped here.
        let _ = std::thread::Builder::new().name("kafka client end".into()).spawn(move || drop(client));
    }
}
