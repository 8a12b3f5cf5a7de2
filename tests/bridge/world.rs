//! A bridge with its configuration, its database and its topic, as a real process.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use penstock_testbed::cluster::{Addresses, unique_name};
use penstock_testbed::postgres::Address;
use tempfile::TempDir;

/// What a bridge is told to bridge.
pub struct World {
    pub database: Address,
    pub bootstrap: String,
    pub registry_url: String,
    pub topic: String,
    pub source: String,
    folder: TempDir,
    more: String,
}

/// A running `penstock`.
pub struct Bridge {
    child: Child,
    pub log: PathBuf,
    pub http_port: u16,
}

impl World {
    /// A database of its own with `schema` in it, and names that nobody else has.
    pub fn new(stack: &Addresses, schema: &str) -> Self {
        let name = unique_name("w");
        let database = stack.postgres.create_database(&name).expect("create a database");
        database.psql(schema).expect("create the schema");
        Self {
            database,
            bootstrap: stack.bootstrap.clone(),
            registry_url: stack.registry_url.clone(),
            topic: format!("{name}.changes"),
            source: name.chars().take(50).collect(),
            folder: TempDir::new().expect("a folder"),
            more: String::new(),
        }
    }

    /// More configuration: keys of `[source]` cannot be given here, sections can.
    pub fn configure(&mut self, toml: &str) -> &mut Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    pub fn slot(&self) -> String {
        format!("penstock_{}", self.source)
    }

    fn configuration(&self, http_port: u16, postgres: &Address) -> PathBuf {
        let text = format!(
            "[source]\nname = {:?}\nurl = {:?}\nstatus_interval_ms = 200\n\
             [kafka]\nbrokers = [{:?}]\ntopic = {:?}\nreplication = 1\n\
             [registry]\nurl = {:?}\n\
             [http]\nlisten = \"127.0.0.1:{http_port}\"\n{}\n",
            self.source,
            postgres.url(),
            self.bootstrap,
            self.topic,
            self.registry_url,
            if self.more.contains("[tables]") { self.more.clone() } else { format!("[tables]\ncapture = [\"public.*\"]\n{}", self.more) },
        );
        let path = self.folder.path().join(format!("penstock-{http_port}.toml"));
        std::fs::write(&path, text).expect("write the configuration");
        // A password in the file is accepted only if nobody else can read it.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set the mode");
        path
    }

    /// Starts `penstock run`.
    pub fn run(&self) -> Bridge {
        self.spawn("run", &[], &self.database)
    }

    /// Starts `penstock run` against another address of the database, a proxy's for instance.
    pub fn run_through(&self, postgres: &Address) -> Bridge {
        self.spawn("run", &[], postgres)
    }

    /// Starts any command of `penstock` that takes a configuration.
    pub fn spawn(&self, command: &str, arguments: &[&str], postgres: &Address) -> Bridge {
        let http_port = free_port();
        let log = self.folder.path().join(format!("bridge-{http_port}.log"));
        let output = File::create(&log).expect("create the log");
        let child = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .arg(command)
            .arg("--config")
            .arg(self.configuration(http_port, postgres))
            .args(arguments)
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("start penstock");
        Bridge { child, log, http_port }
    }

    /// Waits until `/readyz` answers 200: something was committed to Kafka in this session.
    pub fn wait_ready(&self, bridge: &mut Bridge, patience: Duration) {
        wait("the bridge to be ready", patience, || {
            if let Some(status) = bridge.ended() {
                panic!("the bridge ended ({status}):\n{}", bridge.log());
            }
            bridge.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    }

    /// Waits until everything committed so far is confirmed to the slot. Fails with the bridge's log after `patience`.
    pub fn wait_confirmed(&self, bridge: &mut Bridge, patience: Duration) {
        let target = self.database.psql("SELECT pg_current_wal_lsn()").expect("ask for the position");
        self.wait_confirmed_to(&target, bridge, patience);
    }

    /// The same for a position that was asked for before.
    pub fn wait_confirmed_to(&self, target: &str, bridge: &mut Bridge, patience: Duration) {
        let question = format!(
            "SELECT confirmed_flush_lsn >= '{}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            target.trim(),
            self.slot()
        );
        wait("the slot to be confirmed", patience, || {
            if let Some(status) = bridge.ended() {
                panic!("the bridge ended ({status}):\n{}", bridge.log());
            }
            matches!(self.database.psql(&question).as_deref().map(str::trim), Ok("t"))
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    }

    pub fn confirmed(&self) -> String {
        let question = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'", self.slot());
        self.database.psql(&question).expect("ask the slot").trim().to_owned()
    }
}

impl Bridge {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The answer to a GET, headers included; `None` while nobody listens.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        assert!(status.expect("run kill").success(), "the process is gone");
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for the process")
    }

    /// SIGKILL, and gone.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the bridge");
        self.child.wait().expect("reap the bridge");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(Duration::from_secs(30))
    }

    /// Waits for the end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        wait("penstock to end", patience, || {
            status = self.ended();
            status.is_some()
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", self.log()));
        status.expect("it ended")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of penstock {}:\n{}", self.pid(), self.log());
        }
    }
}

/// Polls until the condition holds.
pub fn wait(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > patience {
            return Err(format!("waited {patience:?} for {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
