//! What stands in the way of capturing, or will: the catalog's answers held against what the bridge needs.
//!
//! Pure: facts and configuration in, findings out, each with the SQL or setting that mends it. The order is that of
//! mending: server, tables by name, publication, slot, configuration. Whether slot, progress and topic fit together is not judged here.

mod collision;
mod publication;
mod rights;
mod server;
mod slot;
mod table;
mod triggers;

use std::collections::BTreeMap;
use std::fmt;

use super::{Publication, ServerFacts, Slot, Table, Triggers};
use crate::config::{Config, TableName, TablePattern};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, and may not always.
    Warn,
    /// The bridge does not start.
    Stop,
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The server, publication, slot, table or setting that is meant.
    pub subject: String,
    pub what: String,
    /// SQL, or a setting and where it is made.
    pub remedy: String,
    /// `penstock setup` does away with it.
    pub mended_by_setup: bool,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub server: &'a ServerFacts,
    pub publication: Option<&'a Publication>,
    pub slot: Option<&'a Slot>,
    pub triggers: Triggers,
    /// What `Catalog::tables` gave for the configured patterns and publication.
    pub tables: &'a BTreeMap<TableName, Table>,
}

impl<'a> Facts<'a> {
    /// The tables that are sent, or will be once `setup` has made the publication.
    pub fn captured<'c>(&self, config: &'c Config) -> impl Iterator<Item = &'a Table> + use<'a, 'c> {
        let publication = self.publication;
        self.tables.values().filter(move |table| match publication {
            Some(publication) => publication.tables.contains_key(&table.name),
            None => config.tables.captures(&table.name),
        })
    }

    /// Those, and the ones that are asked for by name and not sent.
    fn examined<'c>(&self, config: &'c Config) -> impl Iterator<Item = &'a Table> + use<'a, 'c> {
        let publication = self.publication;
        self.tables.values().filter(move |table| {
            let by_name = config.tables.capture.contains(&TablePattern::Table(table.name.clone()));
            match publication {
                Some(publication) => by_name || publication.tables.contains_key(&table.name),
                None => config.tables.captures(&table.name),
            }
        })
    }
}

/// Everything that is not as it must be.
pub fn findings(facts: &Facts<'_>, config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    server::check(facts, config, &mut findings);
    for table in facts.examined(config) {
        table::check(table, config, &mut findings);
        rights::check(table, &facts.server.role, config, &mut findings);
    }
    collision::check(facts, config, &mut findings);
    publication::check(facts, config, &mut findings);
    slot::check(facts, config, &mut findings);
    triggers::check(facts, config, &mut findings);
    table::check_names(facts, config, &mut findings);
    findings.0
}

/// Collects findings.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn stop(&mut self, subject: impl fmt::Display, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Stop, subject, what.into(), remedy.into(), false);
    }

    fn warn(&mut self, subject: impl fmt::Display, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warn, subject, what.into(), remedy.into(), false);
    }

    /// Works without, and is what `setup` is for.
    fn better_after_setup(&mut self, subject: impl fmt::Display, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warn, subject, what.into(), remedy.into(), true);
    }

    /// Stops a run, and is what `setup` is for.
    fn left_to_setup(&mut self, subject: impl fmt::Display, what: impl Into<String>) {
        self.add(Severity::Stop, subject, what.into(), "run: penstock setup".to_owned(), true);
    }

    fn add(
        &mut self,
        severity: Severity,
        subject: impl fmt::Display,
        what: String,
        remedy: String,
        mended_by_setup: bool,
    ) {
        self.0.push(Finding { severity, subject: subject.to_string(), what, remedy, mended_by_setup });
    }
}

impl Severity {
    /// As commands print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; {}", self.severity.as_str(), self.subject, self.what, self.remedy)
    }
}

/// The nearest of the names, as a question, where one is near.
fn did_you_mean<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .map(|(_, name)| format!(" (did you mean {name}?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
