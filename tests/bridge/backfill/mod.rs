//! Rows that the stream does not bring.

mod first_load;
pub mod fold;
mod hazards;
mod reloads;
