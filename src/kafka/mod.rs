//! Everything that talks to Kafka: the topics, the progress they hold, the producer.

pub mod client;
pub mod ends;
pub mod progress;
pub mod readable;
pub mod readers;
pub mod residue;
pub mod sink;
pub mod topic_id;
pub mod topics;
mod witness;
