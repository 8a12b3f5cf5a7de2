//! The event triggers that tell the stream of DDL which pgoutput leaves out: whether they are there, and their making. Beside
//! them, partitions have triggers of their own, for TRUNCATE.
//!
//! They belong to the database, not to a publication: several bridges share them. Making them needs a superuser, or what
//! stands for one on a managed server; without the right a bridge does without, and notices less (docs/ddl.md).

use super::error::CatalogError;
use super::session::{ANSWER_TIMEOUT, Catalog, column};
use crate::config::TableName;

/// Creates all of it, in one transaction; replaces what an older version made.
pub const TRIGGERS_SQL: &str = include_str!("sql/ddl_triggers.sql");

const TRIGGERS: &str = "whether the event triggers are there";
const CREATE_TRIGGERS: &str = "whether the event triggers could be created";

/// What encloses the function's text.
const QUOTE: &str = "$penstock$";

/// SQLSTATE of a right that is missing.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

const TRIGGERS_QUERY: &str = "
SELECT count(*) = 3 AS all, coalesce(bool_and(p.prosrc = $1), false) AS current
  FROM pg_event_trigger e
  JOIN pg_proc p ON p.oid = e.evtfoid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE e.evtname = 'penstock_' || e.evtevent AND e.evtenabled IN ('O', 'A') AND e.evttags IS NULL
   AND e.evtevent IN ('ddl_command_end', 'sql_drop', 'table_rewrite') AND (n.nspname, p.proname) = ('penstock', 'tell_ddl')";

/// The statement that makes a partition's TRUNCATE told.
pub fn partition_sql(partition: &TableName) -> String {
    format!(
        "CREATE TRIGGER penstock_truncate AFTER TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION penstock.tell_truncate()",
        partition.to_sql()
    )
}

/// What there is of the event triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// All of them, and enabled.
    Whole,
    /// All of them, of another version.
    Other,
    /// One at least is not there, or disabled.
    Missing,
}

impl Catalog {
    /// What there is of the event triggers.
    pub async fn triggers(&mut self) -> Result<Triggers, CatalogError> {
        let row = self.ask_one(TRIGGERS, TRIGGERS_QUERY, &[&function_text()]).await?;
        Ok(match (column(&row, TRIGGERS, "all")?, column(&row, TRIGGERS, "current")?) {
            (true, true) => Triggers::Whole,
            (true, false) => Triggers::Other,
            (false, _) => Triggers::Missing,
        })
    }

    /// Makes the triggers that tell of these partitions' TRUNCATE. Whether all of them are made: not if the role may not.
    pub async fn create_partition_triggers<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = &'a TableName>,
    ) -> Result<bool, CatalogError> {
        for partition in partitions {
            match self.run(CREATE_TRIGGERS, &partition_sql(partition), ANSWER_TIMEOUT).await {
                Ok(()) => {}
                Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Makes the event triggers what they should be. Whether they are: not if the role may not.
    pub async fn create_triggers(&mut self) -> Result<bool, CatalogError> {
        if self.triggers().await? == Triggers::Whole {
            return Ok(true);
        }
        match self.run(CREATE_TRIGGERS, TRIGGERS_SQL, ANSWER_TIMEOUT).await {
            Ok(()) => Ok(true),
            Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// As `pg_proc.prosrc` holds it.
fn function_text() -> &'static str {
    TRIGGERS_SQL.split(QUOTE).nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_found_between_its_quotes() {
        assert_eq!(TRIGGERS_SQL.matches(QUOTE).count(), 2, "the other function has another quote");
        assert!(function_text().trim_start().starts_with("DECLARE") && function_text().trim_end().ends_with("END"));
    }
}
