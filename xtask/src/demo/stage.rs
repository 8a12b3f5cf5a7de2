//! The stage of a demo: a database of its own with the access schema and the ledger, a topic of its own, the bridge
//! running, the reader following. No row yet.
//!
//! Invariant: publication and slot exist before the first row, so the load is complete by construction.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use penstock_testbed::server::{Port, Sandbox};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::reading::now;
use crate::binary;
use crate::bridge::Bridge;
use crate::configuration::Configuration;
use crate::consumer::{Consumer, Who};
use crate::database::{Database, Session};
use crate::ledger;
use crate::limits;
use crate::reader::{Follower, Topic};
use crate::say;
use crate::servers::Servers;

/// What happens outside.
#[derive(Debug)]
pub enum News {
    /// The reader printed a line.
    Line(String),
    /// The reader ended.
    ReaderEnded,
    /// A channel was told something, at an instant in seconds of the machine's clock.
    Push { who: Who, line: String, at: f64 },
    /// A channel's process ended.
    ChannelEnded(Who),
    /// Somebody wants us to end.
    Interrupted,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    // Dropped in this order: each needs those below it.
    /// The reader.
    pub reader: Follower,
    channels: Vec<Follower>,
    /// The bridge.
    pub bridge: Bridge,
    /// A session for questions to the ledger.
    pub questions: Session,
    /// The demo's database.
    pub database: Database,
    /// The demo's topic.
    pub topic: Topic,
    /// The penstock binary.
    pub binary: PathBuf,
    /// What happens outside.
    pub news: Receiver<News>,
    sender: Sender<News>,
    /// What has to be removed from servers of others.
    guest: Option<Guest>,
    /// The servers.
    pub servers: Servers,
    names: Names,
    folder: Sandbox,
}

/// What the demo made on servers that are not its own: removed when dropped, however far the demo came.
#[derive(Debug)]
struct Guest {
    administration: Database,
    database: String,
    slot: String,
    topic: String,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Self { administration, database, slot, topic } = self;
        // A bridge that was killed may still hold its slot for a moment.
        let removed = administration.run(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;\n\
             DO $$ BEGIN\n\
             FOR attempt IN 1..200 LOOP\n\
             EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}' AND active);\n\
             PERFORM pg_sleep(0.05);\n\
             END LOOP; END $$;\n\
             SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}';\n\
             DROP DATABASE IF EXISTS {database} WITH (FORCE);"
        ));
        match removed {
            Ok(_) => say::line(format!(
                "removed database {database} and slot {slot}; the topics {topic}, {topic}.progress and \
                 {topic}.dead_letter, if they were made, remain on Kafka, and their schemas in the registry"
            )),
            Err(error) => say::line(format!("could not remove database {database} and slot {slot}: {error:#}")),
        }
    }
}

/// What the demo calls its own things: on servers of others nobody else's names.
#[derive(Debug)]
pub struct Names {
    source: String,
    database: String,
    /// The change topic.
    pub topic: String,
}

impl Names {
    /// Those of a demo on its own servers, or on `shared` ones.
    pub fn new(shared: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match shared {
            false => Self { source: "demo".into(), database: "penstock_demo".into(), topic: "demo.changes".into() },
            true => Self {
                source: format!("demo_{since}"),
                database: format!("penstock_demo_{since}"),
                topic: format!("penstock_demo_{since}.changes"),
            },
        }
    }
}

impl Stage {
    /// Makes everything and waits until changes flow.
    pub fn set(servers: Servers, binary: &Path, names: Names) -> anyhow::Result<Self> {
        let (sender, news) = mpsc::channel();
        watch_signals(sender.clone())?;
        let guest = servers.shared.then(|| Guest {
            administration: servers.administration.clone(),
            database: names.database.clone(),
            slot: format!("penstock_{}", names.source),
            topic: names.topic.clone(),
        });
        servers.administration.run(&format!("CREATE DATABASE {};", names.database)).context("making the database")?;
        let database = servers.administration.with_name(&names.database);
        database.run_file("", &binary::workspace().join("tests/sql/access.sql"))?;
        let mut questions = database.session()?;
        questions.run(ledger::SQL).context("making the ledger")?;

        let folder = Sandbox::new("demo")?;
        let http = Port::reserve()?;
        let configuration = Configuration {
            source: &names.source,
            url: &database.url(),
            bootstrap: &servers.bootstrap,
            topic: &names.topic,
            registry: &servers.registry,
            http_port: http.number(),
        };
        let configuration = configuration.write(folder.path())?;
        let mut bridge = Bridge::new(binary, &configuration, http);
        bridge.set_up()?;
        bridge.start()?;
        bridge.wait_ready()?;

        let topic = Topic { configuration };
        let wrap = |line: Option<String>| line.map_or(News::ReaderEnded, News::Line);
        let reader = topic.follow(binary, &folder.path().join("reader.log"), sender.clone(), wrap)?;
        let binary = binary.to_owned();
        Ok(Self {
            reader,
            channels: Vec::new(),
            bridge,
            questions,
            database,
            topic,
            binary,
            news,
            sender,
            guest,
            servers,
            names,
            folder,
        })
    }

    /// Watches a client's and a gateway's channel from now on.
    pub fn watch(&mut self, penstock_access: &Path, client: &str, gateway: &str) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let consumer = Consumer::new(penstock_access, &self.servers, &self.names.topic, folder, "access", false)?;
        for (who, id) in [(Who::Client, client), (Who::Gateway, gateway)] {
            let wrap = move |line: Option<String>| match line {
                Some(line) => News::Push { who, line, at: now() },
                None => News::ChannelEnded(who),
            };
            self.channels.push(consumer.watch(who, id, self.sender.clone(), wrap)?);
        }
        Ok(())
    }

    /// What the channels' processes said besides.
    pub fn channels_said(&self) -> String {
        self.channels.iter().map(Follower::said).collect::<Vec<_>>().join("\n")
    }

    /// Writes the initial rows.
    pub fn load(&self) -> anyhow::Result<()> {
        let settings = format!("SET access.accounts = '{}'", limits::ACCOUNTS);
        self.database.run_file(&settings, &binary::workspace().join("tests/sql/access_data.sql"))
    }

    /// The change topic's name.
    pub fn topic_name(&self) -> &str {
        &self.names.topic
    }

    /// The bridge's configuration file.
    pub fn configuration(&self) -> &Path {
        &self.topic.configuration
    }

    /// Ends everything in order. What is dropped without it ends as well, but not in order.
    pub fn clear(self) -> anyhow::Result<()> {
        let Self { reader, channels, mut bridge, questions, guest, folder: _folder, .. } = self;
        drop(questions);
        drop(channels);
        drop(reader);
        let stopped = if bridge.runs() { bridge.stop() } else { Ok(()) };
        drop(bridge);
        drop(guest);
        stopped
    }
}

/// The first Ctrl-C (or SIGTERM) is news; the next one ends us at once, and the testbed's watchdog clears up.
fn watch_signals(news: mpsc::Sender<News>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listening for signals")?;
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                // Whoever ends a process group and its leader sends the same signal twice.
                Some(first) if first.elapsed() < limits::SAME_SIGNAL => {}
                Some(_) => {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                None => {
                    say::line("ending what was started (once more ends it at once)");
                    first = Some(Instant::now());
                    // If nobody listens, the end is under way.
                    let _ = news.send(News::Interrupted);
                }
            }
        }
    });
    Ok(())
}
