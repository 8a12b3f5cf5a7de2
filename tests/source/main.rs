//! The replication client against a real Postgres: logging in, TLS, streaming, acknowledging, and everything in between
//! that can go wrong.

mod between;
mod commands;
mod login;
mod own_server;
mod server;
mod session;
mod streaming;
mod tls;
