//! A Postgres that the tests of this file share, and a database of its own for each.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use penstock::catalog::Catalog;
use penstock::config::{Config, Secret};
use penstock::source::{ConnectOptions, Host};
use penstock::tls::{TlsMode, TlsOptions};
use penstock_testbed::postgres::{Address, Postgres};

/// The server lives as long as a test that uses it: a static of its own would never be dropped.
static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

/// A database on the shared server. Dropped with it: it holds the server.
#[derive(Debug)]
pub struct Database {
    pub server: Arc<Postgres>,
    pub address: Address,
}

/// A fresh database on the shared server, which has TLS.
pub fn database() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::builder().tls().start().unwrap());
            *shared = Arc::downgrade(&server);
            server
        })
    };
    let name = format!("catalog_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let address = server.create_database(&name).unwrap();
    Database { server, address }
}

impl Database {
    /// Runs SQL as the superuser.
    pub fn sql(&self, sql: &str) -> String {
        self.address.psql(sql).unwrap()
    }

    /// Asks as the superuser, over the Unix socket.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.options())
    }

    /// How the superuser connects over the Unix socket.
    pub fn options(&self) -> ConnectOptions {
        let directory = self.address.socket_directory.clone();
        ConnectOptions {
            host: Host::Unix { directory, port: self.address.port },
            user: self.address.user.clone(),
            password: None,
            database: self.address.database.clone(),
            application_name: format!("test of {}", self.address.database),
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(20),
        }
    }

    /// How the superuser connects over TCP, by password.
    pub fn over_tcp(&self, mode: TlsMode, root_certificates: Option<PathBuf>) -> ConnectOptions {
        let tls = TlsOptions { mode: Some(mode), root_certificates, client: None };
        ConnectOptions {
            host: Host::Tcp { host: self.address.host.clone(), port: self.address.port },
            password: Some(Secret::new(&self.address.password)),
            tls,
            ..self.options()
        }
    }

    /// A configuration for this database: what is given and the least else.
    pub fn config(&self, settings: &[(&str, &str)]) -> Config {
        let mut environment = vec![
            ("PENSTOCK_SOURCE__NAME".to_owned(), self.address.database.clone()),
            ("PENSTOCK_SOURCE__URL".to_owned(), self.address.url()),
            ("PENSTOCK_KAFKA__BROKERS".to_owned(), "localhost:9092".to_owned()),
            ("PENSTOCK_REGISTRY__URL".to_owned(), "http://localhost:8081".to_owned()),
        ];
        environment.extend(settings.iter().map(|(name, value)| (format!("PENSTOCK_{name}"), (*value).to_owned())));
        Config::load(None, environment).unwrap()
    }
}
