//! A Postgres as these tests need it: every authentication method has its role, and the TLS certificate names
//! `localhost` and nothing else. Tests that do not hurt the server share one, which ends with the last of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use penstock::config::Secret;
use penstock::source::{ConnectOptions, Host};
use penstock::tls::{TlsMode, TlsOptions};
use penstock_testbed::postgres::{Builder, Certificates, Postgres};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The password of every role that has one.
pub const PASSWORD: &str = "correct horse";

/// A running server, and the certificates around it.
pub struct Server {
    postgres: Postgres,
    directory: TempDir,
}

/// The server that tests share.
pub fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start());
    *shared = Arc::downgrade(&server);
    server
}

impl Server {
    fn start() -> Self {
        let builder = Postgres::builder()
            .tls_for(&["localhost"])
            .hba("host all md5_role 127.0.0.1/32 md5")
            .hba("host all clear_role 127.0.0.1/32 password")
            .hba("hostssl all cert_role 127.0.0.1/32 cert");
        let server = Self::of(builder);
        server.create_roles();
        server.make_certificates();
        server
    }

    /// A server of its own, as the testbed makes it.
    pub fn of(builder: Builder) -> Self {
        Self { postgres: builder.start().unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    /// The server itself.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    fn create_roles(&self) {
        let roles = [("scram_role", "scram-sha-256"), ("clear_role", "scram-sha-256"), ("md5_role", "md5")];
        for (role, encryption) in roles {
            let create = format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}'");
            self.postgres.psql(&format!("SET password_encryption = '{encryption}'; {create}")).unwrap();
        }
        self.postgres.psql("CREATE ROLE cert_role LOGIN REPLICATION").unwrap();
    }

    /// What the testbed does not make: a client's certificate, and a second one for `localhost` that the same authority
    /// has signed for somebody else.
    fn make_certificates(&self) {
        let authority = &self.certificates().authority;
        make_signed(self.directory.path(), "client", "cert_role", authority);
        make_signed(self.directory.path(), "impostor", "localhost", authority);
        let path = authority.to_str().unwrap();
        self.postgres.configure(&[("ssl_ca_file", path)]).unwrap();
        // The reload is the server's own pace; a session that sees the setting was forked after it.
        self.postgres.address().wait_for("SELECT current_setting('ssl_ca_file') <> ''").unwrap();
    }

    /// The authority that signed the server's certificate, and another.
    pub fn certificates(&self) -> &Certificates {
        self.postgres.certificates().unwrap()
    }

    /// Certificate and key of `client` or `impostor`.
    pub fn signed(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |ending: &str| self.directory.path().join(format!("{name}.{ending}"));
        (file("crt"), file("key"))
    }

    pub fn port(&self) -> u16 {
        self.postgres.address().port
    }

    /// Options to connect as the superuser over the Unix socket.
    pub fn over_unix(&self, database: &str) -> ConnectOptions {
        ConnectOptions {
            host: Host::Unix { directory: self.postgres.address().socket_directory.clone(), port: self.port() },
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
            host: Host::Tcp { host: host.into(), port: self.port() },
            user: user.into(),
            password: Some(Secret::new(PASSWORD)),
            tls: TlsOptions { mode: Some(mode), ..TlsOptions::default() },
            ..self.over_unix(database)
        }
    }

    /// A fresh database with a table and a publication of its own, for one test.
    pub async fn database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.postgres.create_database(&name).unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.postgres.address().socket_directory).port(self.port()).user("postgres").dbname(&name);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let schema = "CREATE TABLE item (id int PRIMARY KEY, text text); CREATE PUBLICATION items FOR TABLE item";
        client.batch_execute(schema).await.unwrap();
        Database { name, client }
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
        let create = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
        self.client.execute(create, &[&self.name]).await.unwrap();
        self.name.clone()
    }

    /// The slot's confirmed LSN.
    pub async fn confirmed(&self) -> u64 {
        let query = "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_one(query, &[&self.name]).await.unwrap();
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }
}

fn make_signed(into: &Path, name: &str, subject: &str, authority: &Path) {
    std::fs::write(into.join("extensions"), format!("subjectAltName=DNS:{subject}\n")).unwrap();
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(into, &format!("req {curve} -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
    let (authority, key) = (authority.display(), authority.with_extension("key"));
    let signer = format!("-CA {authority} -CAkey {} -CAcreateserial", key.display());
    openssl(into, &format!("x509 -req -in {name}.csr {signer} -days 2 -extfile extensions -out {name}.crt"));
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
