//! A bridge over the access schema, for the benchmarks of the consumer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use penstock_testbed::server::Port;

use super::backfill::DONE;
use super::run::folder;
use crate::binary;
use crate::bridge::Bridge;
use crate::configuration::Configuration;
use crate::database::Database;
use crate::reader::Topic;
use crate::servers::Servers;

/// How long the first load may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A database with the access schema, and a bridge that has loaded it.
#[derive(Debug)]
pub struct Scene {
    // Dropped in this order: the bridge before what it needs.
    bridge: Bridge,
    pub database: Database,
    pub topic: Topic,
    pub topic_name: String,
    pub folder: tempfile::TempDir,
    pub servers: Servers,
    name: String,
}

impl Scene {
    /// Makes the tables, lets `fill` write rows, and starts the bridge; returns once all of them are in the topic.
    pub fn set(
        penstock: &Path,
        servers: Servers,
        fill: impl FnOnce(&Database) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let name = format!("penstock_bench_{}", std::process::id());
        servers.administration.run(&format!("CREATE DATABASE {name};"))?;
        let database = servers.administration.with_name(&name);
        database.run_file("", &binary::workspace().join("tests/sql/access.sql"))?;
        fill(&database)?;
        database.run("VACUUM ANALYZE;")?;
        database.run("CHECKPOINT;")?;
        let folder = folder()?;
        let topic_name = format!("{name}.changes");
        let http = Port::reserve()?;
        let configuration = Configuration {
            source: &name,
            url: &database.url(),
            bootstrap: &servers.bootstrap,
            topic: &topic_name,
            registry: &servers.registry,
            http_port: http.number(),
        };
        let topic = Topic { configuration: configuration.write(folder.path())? };
        let mut bridge = Bridge::new(penstock, &topic.configuration, http);
        bridge.start()?;
        let scene = Self { bridge, database, topic, topic_name, folder, servers, name };
        scene.wait_loaded()?;
        // Done is said when the last rows are on their way.
        scene.wait_delivered()?;
        Ok(scene)
    }

    fn wait_loaded(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.bridge.log()).unwrap_or_default();
            if log.contains(DONE) {
                return Ok(());
            }
            self.bridge.check()?;
            if began.elapsed() > PATIENCE {
                bail!("the first load did not end:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until everything committed so far is in the topic.
    pub fn wait_delivered(&self) -> anyhow::Result<()> {
        self.bridge.check()?;
        let slot = format!("penstock_{}", self.name);
        self.database
            .run(&format!(
                "DO $$ DECLARE target pg_lsn := pg_current_wal_lsn(); BEGIN FOR i IN 1..12000 LOOP
                 IF (SELECT confirmed_flush_lsn >= target FROM pg_replication_slots WHERE slot_name = '{slot}') THEN RETURN; END IF;
                 PERFORM pg_sleep(0.01); END LOOP; RAISE 'the bridge did not deliver within two minutes'; END $$;",
            ))
            .map(drop)
    }

    /// Asks the bridge to stop, and waits until everything that it read is in the topic.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.bridge.stop()
    }
}
