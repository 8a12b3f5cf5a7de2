//! The bridge as a state machine, fed by hand with messages as Postgres writes them.

mod backfill;
mod ddl;
mod delivery;
mod oversize;
mod parts;
mod shape;
mod world;
