//! A bridge over the access schema, for the benchmarks of the consumer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use penstock_testbed::server::Port;

use super::backfill::{DONE, wait_for};
use super::run::folder;
use crate::binary;
use crate::bridge;
use crate::configuration::Configuration;
use crate::database::Database;
use crate::reader::Topic;
use crate::servers::Servers;

/// A database with the access schema, and a bridge that has loaded it.
#[derive(Debug)]
pub struct Scene {
    bridge: Option<Child>,
    pub servers: Servers,
    pub database: Database,
    pub topic: Topic,
    pub topic_name: String,
    pub folder: tempfile::TempDir,
    name: String,
}

impl Scene {
    /// Makes the tables, lets `fill` fill them, and starts the bridge; returns once everything is in the topic.
    pub fn set(
        penstock: &Path,
        servers: Servers,
        fill: impl FnOnce(&Database) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let name = format!("penstock_bench_{}", std::process::id());
        servers.administration.run(&format!("CREATE DATABASE {name};"))?;
        servers.administration.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off;"))?;
        let database = servers.administration.with_name(&name);
        database.run_file("", &binary::workspace().join("tests/sql/access.sql"))?;
        fill(&database)?;
        // What is measured must be committed as in production.
        servers.administration.run(&format!("ALTER DATABASE {name} SET synchronous_commit = on;"))?;
        database.run("VACUUM ANALYZE;")?;
        database.run("CHECKPOINT;")?;
        let folder = folder()?;
        let topic_name = format!("{name}.changes");
        let configuration = Configuration {
            source: &name,
            url: &database.url(),
            bootstrap: &servers.bootstrap,
            topic: &topic_name,
            registry: &servers.registry,
            http_port: Port::reserve()?.number(),
        };
        let topic = Topic { configuration: configuration.write(folder.path())? };
        let log: PathBuf = folder.path().join("bridge.log");
        let mut bridge = run(penstock, &topic, &log)?;
        wait_for(&log, DONE, &mut bridge)?;
        Ok(Self { bridge: Some(bridge), servers, database, topic, topic_name, folder, name })
    }

    /// Waits until everything committed so far is in the topic.
    pub fn wait_delivered(&self) -> anyhow::Result<()> {
        self.database
            .run(&format!(
                "DO $$ DECLARE target pg_lsn := pg_current_wal_lsn(); BEGIN FOR i IN 1..12000 LOOP
                 IF (SELECT confirmed_flush_lsn >= target FROM pg_replication_slots WHERE slot_name = 'penstock_{}') THEN RETURN; END IF;
                 PERFORM pg_sleep(0.01); END LOOP; RAISE 'the bridge did not deliver within two minutes'; END $$;",
                self.name
            ))
            .map(drop)
    }

    /// Asks the bridge to stop, and waits until everything that it read is in the topic.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut bridge = self.bridge.take().context("the bridge was stopped before")?;
        rustix::process::kill_process(rustix::process::Pid::from_child(&bridge), rustix::process::Signal::TERM)
            .context("stopping penstock")?;
        let status = bridge.wait().context("waiting for penstock")?;
        ensure!(status.success(), "penstock ended with {status}");
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut bridge) = self.bridge.take() {
            let _ = bridge.kill();
            let _ = bridge.wait();
        }
    }
}

fn run(penstock: &Path, topic: &Topic, log: &Path) -> anyhow::Result<Child> {
    let output = File::create(log).context("making the log")?;
    let mut command: Command = bridge::penstock(penstock);
    command.args(["run", "--config"]).arg(&topic.configuration);
    command.stdin(Stdio::null()).stdout(output.try_clone().context("the log")?).stderr(output);
    command.spawn().context("starting penstock")
}
