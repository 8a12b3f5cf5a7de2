//! The Avro schemas as files: what the bridge registers if it begins now, for review and for readers' code generators.
//!
//! They come from the catalog, not from the stream or a registry: a table that was captured before has the key and type
//! names that progress pinned then, which may be others than today's.
//!
//! One file a schema, called by the record's full name; the same database and configuration give the same bytes.

mod difference;
mod pretty;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use penstock_core::fault::{Fault, TableFault};
use penstock_core::pgoutput::{Relation, RelationColumn, ReplicaIdentity};
use penstock_core::relation::{CatalogFacts, compile};
use penstock_wire::control::{CONTROL_KEY_SCHEMA, CONTROL_SCHEMA};
use penstock_wire::dead_letter::DEAD_LETTER_SCHEMA;
use penstock_wire::name::avro_table_name;
use penstock_wire::plan::Plan;
use penstock_wire::progress::PROGRESS_SCHEMA;
use penstock_wire::table::SourceInfo;

use crate::catalog::{Catalog, CatalogError, Identity, Table};
use crate::config::{Config, TableName};
use crate::run::rules;

const EXTENSION: &str = "avsc";

/// Why there are no schemas, or no files.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFilesError {
    /// The catalog cannot be asked.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A table cannot be captured.
    #[error("{0}")]
    Table(Box<Fault>),
    /// Nothing is captured.
    #[error("the configuration captures no table; `penstock check` tells why")]
    Nothing,
    /// A schema is no JSON: a defect of the bridge.
    #[error("the schema of {name} cannot be laid out")]
    Layout {
        /// The record.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The folder or a file in it.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Schemas by the full name of their record, laid out for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schemas(BTreeMap<String, String>);

/// How a file is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// No record has this schema.
    Stray,
    /// It says something else: the lines.
    Other(String),
}

impl Schemas {
    /// Of the bridge's own records and of every table that is captured.
    pub async fn of(config: &Config, catalog: &mut Catalog) -> Result<Self, SchemaFilesError> {
        let mut schemas = Self(BTreeMap::new());
        for (name, text) in [
            ("Control", CONTROL_SCHEMA),
            ("ControlKey", CONTROL_KEY_SCHEMA),
            ("DeadLetter", DEAD_LETTER_SCHEMA),
            ("Progress", PROGRESS_SCHEMA),
        ] {
            schemas.add(format!("penstock.wire.{name}"), text)?;
        }
        let tables = captured(config, catalog).await?;
        if tables.is_empty() {
            return Err(SchemaFilesError::Nothing);
        }
        let mut named: BTreeMap<String, &TableName> = BTreeMap::new();
        for table in tables.values() {
            let avro = avro_table_name(&table.name.schema, &table.name.table);
            if let Some(other) = named.insert(avro.clone(), &table.name) {
                return Err(refused(&table.name, TableFault::RecordName { other: other.to_string(), avro }));
            }
            let plan = plan(table, config, catalog).await?;
            schemas.add(format!("{}.Key", plan.record_namespace()), plan.key_schema())?;
            schemas.add(format!("{}.Envelope", plan.record_namespace()), plan.envelope_schema())?;
        }
        Ok(schemas)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, name: String, text: &str) -> Result<(), SchemaFilesError> {
        match pretty::pretty(text) {
            Ok(text) => {
                self.0.insert(name, text);
                Ok(())
            }
            Err(source) => Err(SchemaFilesError::Layout { name, source }),
        }
    }

    /// Writes the files, making the folder if need be; gives those that are there and belong to no schema.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, SchemaFilesError> {
        std::fs::create_dir_all(folder).map_err(file(folder))?;
        for (name, text) in &self.0 {
            let path = path_of(folder, name);
            std::fs::write(&path, text).map_err(file(&path))?;
        }
        let differences = self.compare(folder)?;
        Ok(differences.into_iter().filter(|(_, found)| *found == Difference::Stray).map(|(path, _)| path).collect())
    }

    /// Every file that is not as [`Schemas::write`] would leave it.
    pub fn compare(&self, folder: &Path) -> Result<BTreeMap<PathBuf, Difference>, SchemaFilesError> {
        let mut differences = BTreeMap::new();
        let mut expected: BTreeMap<PathBuf, &String> =
            self.0.iter().map(|(name, text)| (path_of(folder, name), text)).collect();
        for path in existing(folder)? {
            let difference = match expected.remove(&path) {
                None => Some(Difference::Stray),
                Some(text) => {
                    let found = std::fs::read(&path).map_err(file(&path))?;
                    let differs = found != text.as_bytes();
                    differs.then(|| Difference::Other(difference::lines(&String::from_utf8_lossy(&found), text)))
                }
            };
            if let Some(difference) = difference {
                differences.insert(path, difference);
            }
        }
        differences.extend(expected.into_keys().map(|path| (path, Difference::Missing)));
        Ok(differences)
    }
}

/// The plan of a table as it would be compiled at its first Relation message.
pub async fn plan(table: &Table, config: &Config, catalog: &mut Catalog) -> Result<Plan, SchemaFilesError> {
    let relation = relation(table);
    let wanted: Vec<_> = relation.columns.iter().map(|column| (column.type_oid, column.type_modifier)).collect();
    let mut facts =
        CatalogFacts { types: Vec::new(), variable_length: Vec::new(), primary_key: table.primary_key.clone() };
    for (resolved, column) in catalog.types(&wanted).await?.into_iter().zip(&relation.columns) {
        let resolved = resolved.ok_or_else(|| CatalogError::Answer {
            question: "what the types of a table's columns are",
            what: format!("type OID {} of column {} no longer exists", column.type_oid, column.name),
        })?;
        facts.types.push(resolved.info);
        facts.variable_length.push(resolved.out_of_line);
    }
    let source = SourceInfo {
        name: config.source.name.clone(),
        number: config.source.number,
        database: config.source.server.database.clone(),
    };
    let (namespace, in_key) = (&config.kafka.namespace, config.source.number_in_key);
    let compiled = compile(&relation, &facts, &rules(config), &source, namespace, None, in_key);
    compiled.map(|table| table.plan).map_err(|source| refused(&table.name, source))
}

/// The tables that are captured, or will be.
pub async fn captured(config: &Config, catalog: &mut Catalog) -> Result<BTreeMap<TableName, Table>, CatalogError> {
    let publication = catalog.publication(&config.source.publication).await?;
    let mut tables = catalog.tables(&config.tables.capture, &config.source.publication).await?;
    tables.retain(|name, _| match &publication {
        Some(publication) => publication.tables.contains_key(name),
        None => config.tables.captures(name),
    });
    Ok(tables)
}

fn refused(name: &TableName, source: TableFault) -> SchemaFilesError {
    SchemaFilesError::Table(Box::new(Fault::Table {
        schema: name.schema.clone(),
        table: name.table.clone(),
        source: Box::new(source),
    }))
}

/// The message that would announce the table.
fn relation(table: &Table) -> Relation {
    let columns = table.columns.iter().filter(|column| !column.generated).map(|column| RelationColumn {
        in_identity: table.identity_holds(&column.name),
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_modifier: column.modifier,
    });
    Relation {
        id: table.oid,
        schema: table.name.schema.clone(),
        table: table.name.table.clone(),
        identity: match table.identity {
            Identity::Default => ReplicaIdentity::Default,
            Identity::Nothing => ReplicaIdentity::Nothing,
            Identity::Full => ReplicaIdentity::Full,
            Identity::Index(_) => ReplicaIdentity::Index,
        },
        columns: columns.collect(),
    }
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{EXTENSION}"))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> SchemaFilesError + use<> {
    let path = path.to_path_buf();
    move |source| SchemaFilesError::File { path, source }
}

/// The schema files of a folder; a folder that is not there holds none.
fn existing(folder: &Path) -> Result<Vec<PathBuf>, SchemaFilesError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file(folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(file(folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(entries: &[(&str, &str)]) -> Schemas {
        Schemas(entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn missing_stray_and_other_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| path_of(folder.path(), name);
        let first = schemas(&[("a", "1\n"), ("b", "2\n")]);
        assert_eq!(first.compare(&folder.path().join("none")).unwrap().len(), 2);
        assert_eq!(first.write(folder.path()).unwrap(), Vec::<PathBuf>::new());
        assert!(first.compare(folder.path()).unwrap().is_empty());
        let second = schemas(&[("a", "1\n"), ("b", "3\n"), ("c", "4\n")].map(|entry| (entry.0, entry.1)));
        let expected = [(path("b"), Difference::Other("- 2\n+ 3\n".into())), (path("c"), Difference::Missing)];
        assert_eq!(second.compare(folder.path()).unwrap(), expected.into());
        std::fs::write(folder.path().join("README.md"), "x").unwrap();
        let third = schemas(&[("a", "1\n")]);
        assert_eq!(third.compare(folder.path()).unwrap(), [(path("b"), Difference::Stray)].into());
        assert_eq!(third.write(folder.path()).unwrap(), [path("b")], "what belongs to nobody is told, not deleted");
    }
}
