//! The Java runtime that Kafka and the registry run on, and how it is started.

use std::path::PathBuf;
use std::process::Command;

use super::{Error, Sandbox};
use crate::postgres::binaries::in_path;

/// The `java` of JAVA_HOME, else the one in PATH.
pub(crate) fn program() -> Result<PathBuf, Error> {
    std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|program| program.is_file())
        .or_else(|| in_path("java"))
        .ok_or_else(|| Error::Missing {
            what: "Java 17 or newer".to_owned(),
            remedy: "install Debian's default-jdk-headless".to_owned(),
        })
}

/// A small Java process: a heap of its own size, nothing shared in /tmp, one thread for the garbage collector.
pub(crate) fn command(sandbox: &Sandbox, heap_mb: u32) -> Result<Command, Error> {
    let mut command = sandbox.command(program()?);
    command.arg(format!("-Xmx{heap_mb}m"));
    command.args(["-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto"]);
    command.arg(format!("-Djava.io.tmpdir={}", sandbox.path().display()));
    Ok(command)
}
