//! What Postgres does, and what readers get of it: one test for each thing that tools of this kind have got wrong.
//!
//! Every test writes SQL and states the records that follow. That nothing is doubled, missing or out of order within a
//! partition is checked of every topic by the reader.

mod identity;
mod moves;
mod names;
mod quiet;
pub mod replay;
mod secrets;
mod shape;
mod transactions;

/// A table with an account, a key and a value.
const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";
