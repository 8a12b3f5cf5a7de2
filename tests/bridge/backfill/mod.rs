//! Rows that the stream does not bring.

mod first_load;
mod fold;
mod hazards;
mod reloads;
