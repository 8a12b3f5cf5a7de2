//! The database that the topic is compared with: one transaction that reads, and nothing that writes.
//!
//! Certificates are always checked where TLS is spoken: against the system's roots, or those of the URL's `sslrootcert`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::lsn::{CommitLsn, Lsn};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Row as SqlRow};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use uuid::Uuid;

use crate::rows::{Row, RowId, Table};
use crate::verify::{Key, Texts, Visibility, columns, row};

/// Of the WAL; a position behind a page's header is as well the page's beginning.
const PAGE: u64 = 8192;
const PAGE_HEADERS: [u64; 2] = [24, 40];

/// Why the database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("--database: {0}")]
    Url(String),
    #[error("sslrootcert {path}: {reason}")]
    Roots { path: String, reason: String },
    #[error("connecting to the database: {}", explain(.0))]
    Connect(#[source] tokio_postgres::Error),
    #[error("{step}: {}. The user needs SELECT on the tables, and the database must be the primary", explain(.source))]
    Query {
        step: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("the database answers what is not understood: {0}")]
    Answer(String),
}

/// The library's own text leaves out what the server said.
fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A connection to it.
pub(super) struct Database {
    client: Client,
    schema: String,
}

/// What one snapshot showed.
pub(super) struct Seen {
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) visibility: Visibility,
    /// Whatever the snapshot could see was committed before this.
    pub(super) end: CommitLsn,
}

impl Database {
    pub(super) async fn connect(url: &str, schema: &str) -> Result<Self, DatabaseError> {
        let (url, roots) = split_roots(url);
        let mut config: Config =
            url.parse().map_err(|error: tokio_postgres::Error| DatabaseError::Url(explain(&error)))?;
        config.application_name("penstock-access verify");
        config.options("-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1 -c default_transaction_read_only=on");
        let client = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(DatabaseError::Connect)?;
            tokio::spawn(drive(connection));
            client
        } else {
            let tls = MakeRustlsConnect::new(tls(roots.as_deref())?);
            let (client, connection) = config.connect(tls).await.map_err(DatabaseError::Connect)?;
            tokio::spawn(drive(connection));
            client
        };
        Ok(Self { client, schema: schema.to_owned() })
    }

    /// System identifier and the database's OID: what progress knows a source by.
    pub(super) async fn identity(&self) -> Result<(u64, u32), DatabaseError> {
        let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
                   (SELECT oid::text FROM pg_database WHERE datname = current_database())";
        let row = self.client.query_one(sql, &[]).await.map_err(query("asking which database it is"))?;
        let (system, database): (String, String) = (row.get(0), row.get(1));
        let parsed = system.parse().ok().zip(database.parse().ok());
        parsed.ok_or(DatabaseError::Answer(format!("{system} {database}")))
    }

    /// Reads all rows of some accounts, of all without any; or these rows only.
    pub(super) async fn read(
        &mut self,
        accounts: &[String],
        only: Option<&BTreeSet<Key>>,
    ) -> Result<Seen, DatabaseError> {
        let tables = self.tables().await?;
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.client.batch_execute(begin).await.map_err(query("beginning to read"))?;
        let seen = self.read_within(&tables, accounts, only).await;
        // Whatever was read, nothing was written.
        let ended = self.client.batch_execute("ROLLBACK").await.map_err(query("ending to read"));
        let seen = seen?;
        ended.map(|()| seen)
    }

    async fn read_within(
        &self,
        tables: &[(Table, BTreeMap<String, String>)],
        accounts: &[String],
        only: Option<&BTreeSet<Key>>,
    ) -> Result<Seen, DatabaseError> {
        // Before the snapshot is taken: one from before a truncate or a rewrite would find the table empty.
        for (table, _) in tables {
            let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", self.name(*table));
            self.client.batch_execute(&sql).await.map_err(query(&format!("locking {}", table.name())))?;
        }
        let sql = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text";
        let row = self.client.query_one(sql, &[]).await.map_err(query("taking a snapshot"))?;
        let (snapshot, lsn): (String, String) = (row.get(0), row.get(1));
        let visibility = snapshot.parse().map_err(|_| DatabaseError::Answer(snapshot))?;
        let lsn: Lsn = lsn.parse().map_err(|_| DatabaseError::Answer(lsn))?;
        let mut rows = BTreeMap::new();
        for (table, present) in tables {
            self.read_table(*table, present, accounts, only, &mut rows).await?;
            tracing::info!(table = table.name(), rows = rows.len(), "read from the database");
        }
        Ok(Seen { rows, visibility, end: CommitLsn(before_header(lsn)) })
    }

    /// Those that there are, and their columns with their types.
    async fn tables(&self) -> Result<Vec<(Table, BTreeMap<String, String>)>, DatabaseError> {
        let sql = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let mut tables = Vec::new();
        for table in Table::ALL {
            let name = self.name(table);
            let found = self.client.query(sql, &[&name]).await;
            let found = found.map_err(query(&format!("looking at the columns of {}", table.name())))?;
            if found.is_empty() {
                tracing::warn!(table = name, "the database has no such table: it counts as empty");
                continue;
            }
            tables.push((table, found.iter().map(|row| (row.get(0), row.get(1))).collect()));
        }
        Ok(tables)
    }

    async fn read_table(
        &self,
        table: Table,
        present: &BTreeMap<String, String>,
        accounts: &[String],
        only: Option<&BTreeSet<Key>>,
        rows: &mut BTreeMap<Key, Row>,
    ) -> Result<(), DatabaseError> {
        let (needed, optional) = columns(table);
        let wanted: Vec<&'static str> =
            needed.iter().chain(optional).copied().filter(|column| present.contains_key(*column)).collect();
        let account = if table == Table::Accounts { "id" } else { "account_id" };
        let keys = if table == Table::ResourceConnections { ["resource_id", "gateway_group_id"] } else { ["id", "id"] };
        let mut sql = format!("SELECT {account}::text, {}::text, {}::text", keys[0], keys[1]);
        for column in &wanted {
            sql.push_str(", ");
            sql.push_str(&expression(column, present.get(*column).map_or("", String::as_str)));
        }
        let from = format!(" FROM {} WHERE {account} IS NOT NULL", self.name(table));
        sql.push_str(&from);
        let step = format!("reading {}", table.name());
        let (accounts, firsts): (Vec<String>, Option<Vec<String>>) =
            (accounts.to_vec(), only.map(|only| first_ids(table, only)));
        if firsts.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        // The first column of a key finds few enough rows: the others of a resource are left out below.
        sql.push_str(&format!(
            " AND (cardinality($1::text[]) = 0 OR {account}::text = ANY ($1)) AND ($2::text[] IS NULL OR {}::text = ANY ($2))",
            keys[0]
        ));
        let found = self.client.query(&sql, &[&accounts, &firsts]).await.map_err(query(&step))?;
        for sql_row in &found {
            let key = key(table, sql_row)?;
            if only.is_some_and(|only| !only.contains(&key)) {
                continue;
            }
            let texts = wanted.iter().enumerate().map(|(index, column)| (*column, sql_row.get(3 + index)));
            if let Some(row) = row(table, &Texts(texts.collect())) {
                rows.insert(key, row);
            }
        }
        Ok(())
    }

    fn name(&self, table: Table) -> String {
        format!("\"{}\".\"{}\"", self.schema.replace('"', "\"\""), table.name())
    }
}

fn key(table: Table, row: &SqlRow) -> Result<Key, DatabaseError> {
    let (account, first, second): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let ids = Uuid::try_parse(&first).ok().zip(Uuid::try_parse(&second).ok());
    let (first, second) = ids.ok_or_else(|| DatabaseError::Answer(format!("a key of {}", table.name())))?;
    let id = match table {
        Table::ResourceConnections => RowId::Connection { resource: first, gateway_group: second },
        _ => RowId::Id(first),
    };
    Ok((Arc::from(account), table, id))
}

/// Of the keys of a table, the first column.
fn first_ids(table: Table, only: &BTreeSet<Key>) -> Vec<String> {
    let of_table = only.iter().filter(|(_, of, _)| *of == table);
    let first = |id: &RowId| match id {
        RowId::Id(id) | RowId::Connection { resource: id, .. } => id.to_string(),
    };
    of_table.map(|(_, _, id)| first(id)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A column as its type prints it, which a cast to text does not do for every type.
fn expression(column: &str, of_type: &str) -> String {
    if column != "conditions" {
        return format!("CASE WHEN \"{column}\" IS NOT NULL THEN format('%s', \"{column}\") END");
    }
    if !of_type.ends_with("[]") {
        return "NULL::text".to_owned();
    }
    // An array of more dimensions, or with bounds of its own, is none that conditions can be read from.
    "CASE WHEN array_ndims(conditions) > 1 OR array_lower(conditions, 1) <> 1 THEN NULL \
     ELSE to_json(conditions::text[])::text END"
        .to_owned()
}

fn before_header(lsn: Lsn) -> Lsn {
    let within = lsn.0 % PAGE;
    if PAGE_HEADERS.contains(&within) { Lsn(lsn.0 - within) } else { lsn }
}

fn query(step: &str) -> impl FnOnce(tokio_postgres::Error) -> DatabaseError {
    move |source| DatabaseError::Query { step: step.to_owned(), source }
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        // Whoever asks next gets an error too.
        tracing::debug!(%error, "the connection to the database ended");
    }
}

/// The client library knows neither libpq's `sslrootcert` nor its `verify-…` modes, which are what TLS means here anyway.
fn split_roots(url: &str) -> (String, Option<String>) {
    let Some((base, parameters)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut roots = None;
    let mut kept = Vec::new();
    for parameter in parameters.split('&') {
        match parameter.split_once('=') {
            Some(("sslrootcert", path)) => roots = Some(path.to_owned()),
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            Some(_) | None => kept.push(parameter),
        }
    }
    (format!("{base}?{}", kept.join("&")), roots)
}

fn tls(roots: Option<&str>) -> Result<ClientConfig, DatabaseError> {
    let mut store = RootCertStore::empty();
    match roots {
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let failed = |reason: String| DatabaseError::Roots { path: path.to_owned(), reason };
            let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                store.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = builder.with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| DatabaseError::Url(error.to_string()))?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_modes_of_libpq_are_understood() {
        for (url, kept, roots) in [
            ("postgres://u@h/d", "postgres://u@h/d", None),
            ("postgres://u@h/d?sslmode=require", "postgres://u@h/d?sslmode=require", None),
            (
                "postgres://u@h/d?sslmode=verify-full&sslrootcert=/a.pem",
                "postgres://u@h/d?sslmode=require",
                Some("/a.pem"),
            ),
        ] {
            assert_eq!(split_roots(url), (kept.to_owned(), roots.map(str::to_owned)), "{url}");
            assert!(split_roots(url).0.parse::<Config>().is_ok(), "{url}");
        }
    }

    #[test]
    fn a_page_begins_before_its_header() {
        for (lsn, expected) in [(8192, 8192), (8216, 8192), (8232, 8192), (8224, 8224), (100, 100)] {
            assert_eq!(before_header(Lsn(lsn)), Lsn(expected), "{lsn}");
        }
    }
}
