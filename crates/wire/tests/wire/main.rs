//! The wire contract against its oracles: apache-avro, a real Postgres, Kafka's Java client, and bytes that must never
//! change.

mod document;
mod model;
mod one_column;
mod oracle;
mod partition;
mod plan;
mod postgres_values;
mod records;
