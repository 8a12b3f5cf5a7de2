//! A bridge with its configuration, its database and its topic, as a real process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use penstock_testbed::cluster::{Addresses, Database, unique_name};
use penstock_testbed::postgres::Address;
use tempfile::TempDir;

/// What a bridge is told to bridge.
pub struct World {
    pub database: Address,
    pub bootstrap: String,
    pub registry_url: String,
    pub topic: String,
    pub source: String,
    /// The binary under test.
    pub program: PathBuf,
    folder: TempDir,
    kafka: String,
    more: String,
    /// Variables of the bridge's environment, which win over the file.
    environment: BTreeMap<String, String>,
    /// Removes the database and its slots when the world ends: a server has room for a limited number of slots.
    _database: Option<Database>,
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
        let database = stack.database("w").expect("create a database");
        database.psql(schema).expect("create the schema");
        let name = database.database.clone();
        Self {
            database: Address::clone(&database),
            bootstrap: stack.bootstrap.clone(),
            registry_url: stack.registry_url.clone(),
            topic: format!("{name}.changes"),
            source: name.chars().take(50).collect(),
            // Another build can be put to the same tests, a release for instance.
            program: std::env::var_os("PENSTOCK_PROGRAM")
                .map_or_else(|| env!("CARGO_BIN_EXE_penstock").into(), PathBuf::from),
            folder: TempDir::new().expect("a folder"),
            kafka: String::new(),
            more: String::new(),
            environment: BTreeMap::new(),
            _database: Some(database),
        }
    }

    /// The same source, its configuration included, to another topic through another slot. To be dropped first.
    pub fn twin(&self) -> Self {
        let name = unique_name("t");
        let mut twin = Self {
            database: self.database.clone(),
            bootstrap: self.bootstrap.clone(),
            registry_url: self.registry_url.clone(),
            topic: format!("{name}.changes"),
            source: self.source.clone(),
            program: self.program.clone(),
            folder: TempDir::new().expect("a folder"),
            kafka: self.kafka.clone(),
            more: self.more.clone(),
            environment: self.environment.clone(),
            _database: None,
        };
        twin.set("SOURCE__SLOT", &name);
        twin
    }

    /// More keys of `[kafka]`.
    pub fn configure_kafka(&mut self, keys: &str) -> &mut Self {
        self.kafka.push_str(keys);
        self.kafka.push('\n');
        self
    }

    /// More configuration: whole sections.
    pub fn configure(&mut self, toml: &str) -> &mut Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    /// A setting, as the environment variable `PENSTOCK_<name>`: it wins over everything else.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.insert(format!("PENSTOCK_{name}"), value.to_owned());
        self
    }

    pub fn slot(&self) -> String {
        match self.environment.get("PENSTOCK_SOURCE__SLOT") {
            Some(name) => name.clone(),
            None => format!("penstock_{}", self.source),
        }
    }

    fn configuration(&self, http_port: u16, postgres: &Address) -> PathBuf {
        let kafka = &self.kafka;
        let text = format!(
            "[source]\nname = {:?}\nurl = {:?}\nstatus_interval_ms = 200\n\
             [kafka]\nbrokers = [{:?}]\ntopic = {:?}\nreplication = 1\n{kafka}\
             [registry]\nurl = {:?}\n\
             [http]\nlisten = \"127.0.0.1:{http_port}\"\n{}\n",
            self.source,
            postgres.url(),
            self.bootstrap,
            self.topic,
            self.registry_url,
            if self.more.contains("[tables]") {
                self.more.clone()
            } else {
                format!("[tables]\ncapture = [\"public.*\"]\n{}", self.more)
            },
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
        let child = Command::new(&self.program)
            .arg(command)
            .args(arguments)
            .arg("--config")
            .arg(self.configuration(http_port, postgres))
            .envs(&self.environment)
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
        .unwrap_or_else(|late| {
            let (ready, metrics) = (bridge.get("/readyz"), bridge.get("/metrics"));
            panic!("{late}: {target}\n{}\n{}\n{}", bridge.log(), ready.unwrap_or_default(), metrics.unwrap_or_default())
        });
    }

    pub fn confirmed(&self) -> String {
        let question =
            format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'", self.slot());
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

    /// Waits for the end: the exit code, and the last words, from the first line on that begins with `penstock: `.
    pub fn last_words(&mut self) -> (Option<i32>, String) {
        let code = self.wait(Duration::from_secs(60)).code();
        let log = self.log();
        let begin = log.lines().position(|line| line.starts_with("penstock: ")).unwrap_or(usize::MAX);
        (code, log.lines().skip(begin).collect::<Vec<_>>().join("\n"))
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
