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

/// The major version of the `java` that would be used, if there is one.
pub(crate) fn major_version() -> Option<u32> {
    let output = Command::new(program().ok()?).arg("-version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15`; before 9 it was "1.8.0".
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+', '_']);
    match parts.next()?.parse().ok()? {
        1 => parts.next()?.parse().ok(),
        major => Some(major),
    }
}

/// A small Java process: a heap of its own size, nothing shared in /tmp, one thread for the garbage collector.
pub(crate) fn command(sandbox: &Sandbox, heap_mb: u32) -> Result<Command, Error> {
    let mut command = sandbox.command(program()?);
    command.arg(format!("-Xmx{heap_mb}m"));
    command.args(["-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto"]);
    command.arg(format!("-Djava.io.tmpdir={}", sandbox.path().display()));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_old_and_new_are_read() {
        let of = |version: &str| parse_version(&format!("openjdk version \"{version}\" 2025-04-15\n"));
        assert_eq!(of("17.0.15"), Some(17));
        assert_eq!(of("25"), Some(25));
        assert_eq!(of("26-ea"), Some(26));
        assert_eq!(of("1.8.0_402"), Some(8));
        assert_eq!(parse_version("no such program"), None);
    }
}
