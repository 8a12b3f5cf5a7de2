//! Reading a partition: the rules one by one, and a simulation of a bridge, a broker that compacts, and readers that start
//! anywhere.

mod controls;
mod freshness;
mod holes;
mod resuming;
mod rules;
mod simulation;
mod stream;
