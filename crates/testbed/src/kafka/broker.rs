//! One broker: its directory, its properties, its process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::probe::{self, Node};
use crate::limits;
use crate::server::{self, Error, Lifecycle, Port, Process, Sandbox, java};

/// One broker of a cluster, which is also one of its controllers.
#[derive(Debug)]
pub struct Broker {
    // Dropped in this order: the process before the directory it writes to, and before the ports it listens on.
    lifecycle: Lifecycle,
    node: i32,
    advertised: u16,
    classes: PathBuf,
    heap_mb: u32,
    ports: Ports,
    sandbox: Sandbox,
}

/// The ports of a broker. Brokers talk to each other and to controllers directly: faults that a test puts between the
/// client and a broker are not between the brokers.
#[derive(Debug)]
pub(super) struct Ports {
    pub client: Port,
    pub internal: Port,
    pub controller: Port,
}

impl Ports {
    pub(super) fn reserve() -> Result<Self, Error> {
        Ok(Self { client: Port::reserve()?, internal: Port::reserve()?, controller: Port::reserve()? })
    }
}

/// To the console, which is the log file.
const LOG4J: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c)%n%throwable
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = warn
";

impl Broker {
    /// Lays the broker out on disk; it does not run yet.
    pub(super) fn prepare(
        node: i32,
        ports: Ports,
        advertised: u16,
        classes: &Path,
        heap_mb: u32,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let sandbox = Sandbox::new("kafka")?;
        let text: String = properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        sandbox.write("server.properties", &text)?;
        sandbox.write("log4j2.properties", LOG4J)?;
        Ok(Self {
            lifecycle: Lifecycle::new(format!("kafka broker {node}")),
            node,
            advertised,
            classes: classes.to_owned(),
            heap_mb,
            ports,
            sandbox,
        })
    }

    /// Writes the empty log directory, as `kafka-storage format` does.
    pub(super) fn format(&self, cluster_id: &str) -> Result<(), Error> {
        // Over before better code would pay.
        let mut command = self.java(&["-XX:TieredStopAtLevel=1"])?;
        command.args(["kafka.tools.StorageTool", "format"]);
        command.args(["--cluster-id", cluster_id]);
        command.args(["--config", "server.properties"]);
        server::run(&mut command, None).map(drop)
    }

    /// Starts the process and waits until it is unfenced, that is: until it lists itself among the living.
    ///
    /// # Errors
    /// If it runs already, or does not come up: then with the end of its log.
    pub fn start(&self) -> Result<(), Error> {
        let spawn = || {
            let mut command = self.java(&[])?;
            command.args(["kafka.Kafka", "server.properties"]);
            Process::spawn(&format!("kafka broker {}", self.node), command, &self.log())
        };
        let alive = || {
            let nodes = self.alive()?;
            match nodes.iter().any(|node| node.id == self.node) {
                true => Ok(()),
                false => Err(format!("{nodes:?} are alive")),
            }
        };
        self.lifecycle.start(spawn, |process| server::wait_ready(process, alive))
    }

    /// Asks it to leave (SIGTERM: it hands its partitions over first) and waits for its end.
    ///
    /// # Errors
    /// If it does not run, or does not end in time.
    pub fn stop(&self) -> Result<(), Error> {
        self.lifecycle.stop(Signal::TERM, limits::STOP_TIMEOUT)
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`Broker::stop`] and [`Broker::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.start()
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<(), Error> {
        self.lifecycle.kill()
    }

    /// Stops it where it stands (SIGSTOP): connections stay open, nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        self.lifecycle.pause()
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<(), Error> {
        self.lifecycle.resume()
    }

    /// The brokers that this one knows to be alive, itself included, as it tells clients. Asked past any proxy.
    ///
    /// # Errors
    /// If it does not answer in time; with the reason.
    pub fn alive(&self) -> Result<Vec<Node>, String> {
        probe::alive(self.port())
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lifecycle.pid()
    }

    /// Its node id, from 1.
    #[must_use]
    pub fn node(&self) -> i32 {
        self.node
    }

    /// The port it listens on for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.client.number()
    }

    /// The port that it tells clients: its own or a proxy's.
    #[must_use]
    pub fn advertised_port(&self) -> u16 {
        self.advertised
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.sandbox.path().join("kafka.log")
    }

    fn java(&self, options: &[&str]) -> Result<Command, Error> {
        let mut command = java::command(&self.sandbox, self.heap_mb)?;
        command.args(options);
        command.arg("-Dlog4j2.configurationFile=log4j2.properties");
        command.arg("-cp").arg(self.classes.join("*"));
        Ok(command)
    }
}
