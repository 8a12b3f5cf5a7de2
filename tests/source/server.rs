//! A Postgres of our own: initdb in a fresh folder, TLS with certificates made on the spot, stopped when dropped.
//!
//! Tests that do not hurt the server share one, which stops when the last of them is done.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use penstock::config::Secret;
use penstock::source::{ConnectOptions, Host};
use penstock::tls::{TlsMode, TlsOptions};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The password of every role that has one.
pub const PASSWORD: &str = "correct horse";

const HOST_BASED_AUTHENTICATION: &str = "\
local   all  scram_role               scram-sha-256
local   all  all                      trust
host    all  md5_role    127.0.0.1/32 md5
host    all  clear_role  127.0.0.1/32 password
hostssl all  cert_role   127.0.0.1/32 cert
host    all  all         127.0.0.1/32 scram-sha-256
";

const SETTINGS: &str = "\
wal_level = logical
max_wal_senders = 40
max_replication_slots = 40
max_connections = 80
shared_buffers = 16MB
fsync = off
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_ca_file = 'root.crt'
";

/// A running server, and what to reach it with.
pub struct Server {
    directory: TempDir,
    /// Who the server runs as, where we are root: Postgres refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
    process: Option<Child>,
}

/// The server that tests share.
pub fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start(""));
    *shared = Arc::downgrade(&server);
    server
}

impl Server {
    /// A server of its own, with more settings.
    pub fn start(settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("penstock-pg").tempdir().unwrap();
        let user = unprivileged_user();
        let mut server = Self { directory, user, port: 0, process: None };
        server.hand_over(server.directory.path());
        server.run(&[
            "initdb",
            "--no-sync",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        make_certificates(&server.data());
        for name in ["server.key", "server.crt", "root.crt"] {
            server.hand_over(&server.data().join(name));
        }
        fs::set_permissions(server.data().join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(server.data().join("pg_hba.conf"), HOST_BASED_AUTHENTICATION).unwrap();
        let configuration = server.data().join("postgresql.conf");
        let all = fs::read_to_string(&configuration).unwrap() + SETTINGS + settings;
        fs::write(&configuration, all).unwrap();
        server.launch();
        server
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server process on a free port and waits until it takes connections.
    pub fn launch(&mut self) {
        for _ in 0..3 {
            self.port = free_port();
            let log = fs::File::create(self.directory.path().join("log")).unwrap();
            let mut command = self.command("postgres");
            command
                .args(["-k", self.directory.path().to_str().unwrap()])
                .args(["-p", &self.port.to_string(), "-D"])
                .arg(self.data())
                .stdout(Stdio::null())
                .stderr(log);
            self.process = Some(command.spawn().unwrap());
            if self.wait_until_ready() {
                return;
            }
            self.stop("QUIT");
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("Postgres does not start: {log}");
    }

    fn wait_until_ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let ready = status.lines().nth(7).is_some_and(|line| line.trim() == "ready");
            if ready && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            sleep(Duration::from_millis(20));
        }
        false
    }

    /// Stops the server: `INT` fast, `QUIT` at once.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            self.signal(&process, signal);
            let deadline = Instant::now() + Duration::from_secs(20);
            while process.try_wait().unwrap().is_none() {
                if Instant::now() > deadline {
                    process.kill().unwrap();
                }
                sleep(Duration::from_millis(10));
            }
        }
    }

    /// Asks the server to stop fast, and does not wait for it.
    pub fn ask_to_stop(&self) {
        self.signal(self.process.as_ref().unwrap(), "INT");
    }

    fn signal(&self, process: &Child, signal: &str) {
        let pid = process.id().to_string();
        let _ = Command::new("kill").args(["-s", signal, &pid]).status();
    }

    /// Runs one of Postgres' programs on the data folder.
    pub fn run(&self, words: &[&str]) {
        let (program, arguments) = words.split_first().unwrap();
        let output = self.command(program).args(arguments).arg(self.data()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binaries().join(program));
        command.current_dir(self.directory.path()).env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn hand_over(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    /// A path to one of the certificates: `root.crt`, `other_root.crt`, `client.crt`, `client.key`…
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// Options to connect as the superuser over the Unix socket.
    pub fn over_unix(&self, database: &str) -> ConnectOptions {
        ConnectOptions {
            host: Host::Unix { directory: self.directory.path().to_owned(), port: self.port },
            user: "postgres".into(),
            password: None,
            database: database.into(),
            application_name: "penstock test".into(),
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(20),
        }
    }

    /// Options to connect as `user` with its password over TCP to `host`, which is 127.0.0.1 by either name.
    pub fn over_tcp(&self, database: &str, user: &str, host: &str, mode: TlsMode) -> ConnectOptions {
        ConnectOptions {
            host: Host::Tcp { host: host.into(), port: self.port },
            user: user.into(),
            password: Some(Secret::new(PASSWORD)),
            tls: TlsOptions { mode: Some(mode), ..TlsOptions::default() },
            ..self.over_unix(database)
        }
    }

    /// A fresh database with a table and a publication of its own, and the roles, for one test.
    pub async fn database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = self.sql("postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        admin.batch_execute(&roles()).await.unwrap();
        let client = self.sql(&name).await;
        client
            .batch_execute(
                "CREATE TABLE item (id int PRIMARY KEY, text text);
                 CREATE PUBLICATION items FOR TABLE item",
            )
            .await
            .unwrap();
        Database { name, client }
    }

    /// A plain SQL session as the superuser.
    pub async fn sql(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.directory.path()).port(self.port).user("postgres").dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("QUIT");
    }
}

/// A database of one test.
pub struct Database {
    pub name: String,
    pub client: Client,
}

impl Database {
    /// Creates a slot, named after the database.
    pub async fn slot(&self) -> String {
        self.client.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&self.name]).await.unwrap();
        self.name.clone()
    }

    /// The slot's confirmed LSN.
    pub async fn confirmed(&self) -> u64 {
        let query = "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_one(query, &[&self.name]).await.unwrap();
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }
}

/// Roles are the server's, not the database's: created once, by whichever test comes first.
fn roles() -> String {
    let create = |role: &str, encryption: &str| {
        format!(
            "SET LOCAL password_encryption = '{encryption}';
             CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}';"
        )
    };
    format!(
        "DO $$ BEGIN PERFORM pg_advisory_xact_lock(1);
         IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'scram_role') THEN {} {} {} {}
         END IF; END $$;",
        create("scram_role", "scram-sha-256"),
        create("clear_role", "scram-sha-256"),
        create("cert_role", "scram-sha-256"),
        create("md5_role", "md5"),
    )
}

fn binaries() -> PathBuf {
    if let Some(chosen) = std::env::var_os("PENSTOCK_TEST_POSTGRES") {
        return chosen.into();
    }
    let versions = ["18", "17", "16", "15", "14"];
    let installed = versions.map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    let found = installed.into_iter().find(|path| path.join("postgres").exists());
    found.expect("no Postgres in /usr/lib/postgresql; name its bin folder in PENSTOCK_TEST_POSTGRES")
}

/// Where we are root: the user id and group id of `postgres`, or of `nobody`.
fn unprivileged_user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data));
    if own.is_ok_and(|user| user != 0) {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A root that signs the server's certificate (for `localhost` only) and a client's, and another root that signs a
/// second one for `localhost`.
fn make_certificates(into: &Path) {
    make_root(into, "root");
    make_root(into, "other_root");
    make_signed(into, "server", "localhost", "root");
    make_signed(into, "impostor", "localhost", "root");
    make_signed(into, "client", "cert_role", "root");
}

fn make_root(into: &Path, name: &str) {
    openssl(
        into,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt"
        ),
    );
}

fn make_signed(into: &Path, name: &str, subject: &str, root: &str) {
    openssl(
        into,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"
        ),
    );
    fs::write(into.join("extensions"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
    openssl(
        into,
        &format!(
            "x509 -req -in {name}.csr -CA {root}.crt -CAkey {root}.key -CAcreateserial -days 2 -extfile extensions -out {name}.crt"
        ),
    );
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
