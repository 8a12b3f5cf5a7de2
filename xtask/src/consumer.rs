//! `penstock-access` as processes of the demo and the benchmarks: its configuration, and channels that are watched.
//!
//! Invariant: a channel's process ends with us, however we end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;

use crate::reader::Follower;
use crate::servers::Servers;
use crate::{bridge, configuration};

/// How one topic's access state is looked at.
#[derive(Debug, Clone)]
pub struct Consumer {
    binary: PathBuf,
    configuration: PathBuf,
}

/// Whose channel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Client,
    Gateway,
}

impl Who {
    /// As the program and the screen call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
        }
    }
}

impl Consumer {
    /// Writes its configuration to a file of this name in a folder.
    pub fn new(
        binary: &Path,
        servers: &Servers,
        topic: &str,
        folder: &Path,
        name: &str,
        read_uncommitted: bool,
    ) -> anyhow::Result<Self> {
        let text = text(&servers.bootstrap, topic, &servers.registry, read_uncommitted);
        let configuration = folder.join(format!("{name}.toml"));
        std::fs::write(&configuration, text)?;
        Ok(Self { binary: binary.to_owned(), configuration })
    }

    /// One of its commands, to be given its own options.
    pub fn command(&self, name: &str) -> Command {
        let mut command = bridge::penstock(&self.binary);
        command.arg("--config").arg(&self.configuration).arg(name).env("RUST_LOG", "warn");
        command
    }

    /// Watches a channel; every line goes through `wrap`.
    pub fn watch<T: Send + 'static>(
        &self,
        who: Who,
        id: &str,
        lines: Sender<T>,
        wrap: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> anyhow::Result<Follower> {
        let mut command = self.command("watch");
        command.arg(format!("--{}", who.as_str())).arg(id);
        let log = self.configuration.with_extension(format!("{}.log", who.as_str()));
        Follower::start(&command, &log, lines, wrap)
    }
}

fn text(bootstrap: &str, topic: &str, registry: &str, read_uncommitted: bool) -> String {
    let brokers: Vec<String> = bootstrap.split(',').map(|broker| configuration::quoted(broker.trim())).collect();
    format!(
        "[kafka]\nbrokers = [{}]\ntopic = {}\nread_uncommitted = {read_uncommitted}\n[registry]\nurl = {}\n",
        brokers.join(", "),
        configuration::quoted(topic),
        configuration::quoted(registry),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn brokers_are_a_list() {
        let text = super::text("one:9092, two:9092", "t", "http://r", true);
        assert_eq!(
            text,
            "[kafka]\nbrokers = [\"one:9092\", \"two:9092\"]\ntopic = \"t\"\nread_uncommitted = true\n[registry]\nurl = \"http://r\"\n"
        );
    }
}
