//! What kind of server this is, and what the role may do on it.

use penstock_wire::lsn::{EndLsn, Lsn};

use super::error::CatalogError;
use super::session::{Catalog, column, count, lsn};

const SERVER: &str = "what kind of server this is";

const SERVER_SQL: &str = "
SELECT current_setting('server_version_num')::int4 AS version,
       current_setting('wal_level') AS wal_level,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS in_recovery,
       current_database()::text AS database,
       (SELECT oid FROM pg_database WHERE datname = current_database()) AS database_oid,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_wal_keep_mebibytes,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout') AS wal_sender_timeout_ms,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'max_replication_slots') AS slots_max,
       (SELECT count(*) FROM pg_replication_slots) AS slots_used,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'max_wal_senders') AS wal_senders_max,
       current_user::text AS role,
       r.rolsuper AS superuser,
       r.rolreplication
         OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(g.oid, 'member')) AS replication,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') AS rds
  FROM pg_roles r WHERE r.rolname = current_user";

const IDENTIFIER: &str = "the server's system identifier";

const IDENTIFIER_SQL: &str = "SELECT system_identifier::text AS identifier FROM pg_control_system()";

const CLOCK: &str = "the server's clock";

/// The inner query is evaluated first (OFFSET keeps it from being merged): the position is taken after the clock.
const CLOCK_SQL: &str = "
SELECT clock_us,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS lsn
  FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS clock_us OFFSET 0) AS sampled";

/// Facts about the server and the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// As `server_version_num`: 150004 is 15.4.
    pub version: i32,
    pub wal_level: String,
    /// Of the database.
    pub encoding: String,
    /// A standby.
    pub in_recovery: bool,
    pub database: String,
    pub database_oid: u32,
    /// `max_slot_wal_keep_size`; `None` is unlimited.
    pub slot_wal_keep_bytes: Option<u64>,
    /// `None` is never.
    pub wal_sender_timeout_ms: Option<u64>,
    pub slots_max: u64,
    pub slots_used: u64,
    pub wal_senders_max: u64,
    /// Who asks.
    pub role: String,
    pub superuser: bool,
    /// Has the REPLICATION attribute, or what stands for it on Amazon RDS.
    pub replication: bool,
    /// Amazon RDS or Aurora: some remedies are other ones there.
    pub rds: bool,
}

/// The server's clock, and a WAL position taken after it.
///
/// Once everything before the position is delivered, whoever reads the topic is as fresh as the clock was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    pub lsn: EndLsn,
    /// Unix microseconds.
    pub clock_us: i64,
}

impl Catalog {
    /// Facts about the server and the role.
    pub async fn server_facts(&mut self) -> Result<ServerFacts, CatalogError> {
        let row = self.ask_one(SERVER, SERVER_SQL, &[]).await?;
        let setting = |name| count(&row, SERVER, name).map(Option::unwrap_or_default);
        // -1 is "unlimited" for one and 0 "never" for the other.
        let keep: Option<i64> = column(&row, SERVER, "slot_wal_keep_mebibytes")?;
        Ok(ServerFacts {
            version: column(&row, SERVER, "version")?,
            wal_level: column(&row, SERVER, "wal_level")?,
            encoding: column(&row, SERVER, "encoding")?,
            in_recovery: column(&row, SERVER, "in_recovery")?,
            database: column(&row, SERVER, "database")?,
            database_oid: column(&row, SERVER, "database_oid")?,
            slot_wal_keep_bytes: keep
                .and_then(|mebibytes| u64::try_from(mebibytes).ok())
                .map(|mebibytes| mebibytes << 20),
            wal_sender_timeout_ms: Some(setting("wal_sender_timeout_ms")?).filter(|timeout| *timeout > 0),
            slots_max: setting("slots_max")?,
            slots_used: setting("slots_used")?,
            wal_senders_max: setting("wal_senders_max")?,
            role: column(&row, SERVER, "role")?,
            superuser: column(&row, SERVER, "superuser")?,
            replication: column(&row, SERVER, "replication")?,
            rds: column(&row, SERVER, "rds")?,
        })
    }

    /// The system identifier; `None` where the role may not ask (a replication connection always may).
    pub async fn system_identifier(&mut self) -> Result<Option<u64>, CatalogError> {
        let row = match self.ask_one(IDENTIFIER, IDENTIFIER_SQL, &[]).await {
            Err(error) if error.sqlstate() == Some("42501") => return Ok(None),
            answer => answer?,
        };
        let text: String = column(&row, IDENTIFIER, "identifier")?;
        // The function's column is signed, the identifier is not.
        let number = text.parse::<i64>().map(i64::cast_unsigned);
        number.map(Some).map_err(|error| CatalogError::Answer { question: IDENTIFIER, what: error.to_string() })
    }

    /// The clock, then the WAL position.
    pub async fn clock_reading(&mut self) -> Result<ClockReading, CatalogError> {
        let row = self.ask_one(CLOCK, CLOCK_SQL, &[]).await?;
        let position = lsn(&row, CLOCK, "lsn")?.unwrap_or(Lsn(0));
        Ok(ClockReading { lsn: EndLsn(position), clock_us: column(&row, CLOCK, "clock_us")? })
    }
}
