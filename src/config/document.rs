//! The configuration file and the environment, merged into one list of settings that remember where they came from.
//!
//! A variable `PENSTOCK_<SECTION>__<KEY>` wins over the file. Variables without the two underscores are not ours to
//! judge and are left alone. Values have the kind that `keys` says; whether they make sense is `read`'s business.
//! Does not open the file: the text is an argument, so that tests need none.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::keys::{self, KEYS, Key, Kind, TABLE_KEYS};

const PREFIX: &str = "PENSTOCK_";

/// The file as it was read.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub path: &'a Path,
    pub content: &'a str,
    /// No one but its owner may read it, so that it may hold passwords.
    pub private: bool,
}

/// All settings that were made, by section and key.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub settings: BTreeMap<(&'static str, &'static str), Setting>,
    /// The `account_column` of each `[tables."schema.table"]`, by the table's name as written.
    pub account_columns: BTreeMap<String, (Vec<Item>, Origin)>,
    /// What could not even be put into this list.
    pub problems: Vec<Problem>,
    /// The file is no TOML: nothing in it was read, so complaints about missing settings would mislead.
    pub broken: bool,
    /// Whether the file may hold passwords.
    pub private: bool,
    /// The folder that relative paths in the file start from.
    pub folder: PathBuf,
}

/// A setting's value and where it was made.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub value: Value,
    pub origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    Map(BTreeMap<String, Item>),
}

/// One text of a list or map.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub text: String,
    pub origin: Origin,
}

impl Document {
    /// Reads the file's text, then lets the variables win. What is wrong is kept in `problems`.
    pub(super) fn merge(file: Option<Text<'_>>, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut document = Self::default();
        if let Some(text) = file {
            document.private = text.private;
            document.folder = text.path.parent().map(Path::to_path_buf).unwrap_or_default();
            document.add_file(&text);
        }
        for (name, value) in environment {
            document.add_variable(&name, value);
        }
        document
    }

    fn refuse(&mut self, origin: Origin, key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { origin, key: key.into(), what: what.into(), remedy: remedy.into() });
    }

    fn add_file(&mut self, text: &Text<'_>) {
        let (root, errors) = DeTable::parse_recoverable(text.content);
        if !errors.is_empty() {
            self.broken = true;
            for error in errors {
                let what = format!("not valid TOML: {}", error.message());
                self.refuse(text.origin(error.span().unwrap_or(0..0)), "", what, "see https://toml.io");
            }
            return;
        }
        for (name, value) in root.get_ref() {
            self.add_section(text, name, value);
        }
    }

    fn add_section(&mut self, text: &Text<'_>, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let section = name.get_ref().as_ref();
        let origin = text.origin(name.span());
        if !keys::is_section(section) {
            let sections = KEYS.iter().map(|key| key.section);
            let remedy = match KEYS.iter().find(|key| key.name == section) {
                Some(key) => format!("{section} belongs in section [{}]", key.section),
                None => keys::suggest(section, sections),
            };
            return self.refuse(origin, section, "there is no such section", remedy);
        }
        let Some(table) = value.get_ref().as_table() else {
            return self.refuse(
                origin,
                section,
                "this is a section",
                format!("write [{section}] and its keys below it"),
            );
        };
        for (name, value) in table {
            let (key, origin) = (name.get_ref().as_ref(), text.origin(name.span()));
            match (keys::find(section, key), value.get_ref().as_table()) {
                (Some(key), _) => self.add_setting(text, key, origin, value),
                (None, Some(rules)) if section == "tables" => self.add_table_rules(text, key, rules),
                (None, _) => {
                    let remedy = keys::suggest_key(section, key);
                    self.refuse(origin, format!("{section}.{key}"), "there is no such key", remedy);
                }
            }
        }
    }

    fn add_table_rules(&mut self, text: &Text<'_>, table: &str, rules: &DeTable<'_>) {
        for (name, value) in rules {
            let key = format!("tables.{table:?}.{}", name.get_ref());
            let origin = text.origin(name.span());
            if value.get_ref().is_table() {
                let remedy = format!("write [tables.\"{table}.{}\"], with the quotes", name.get_ref());
                self.refuse(origin, key, "a table's name is one key", remedy);
            } else if !TABLE_KEYS.contains(&name.get_ref().as_ref()) {
                let remedy = keys::suggest(name.get_ref(), TABLE_KEYS.iter().copied());
                self.refuse(origin, key, "there is no such key", remedy);
            } else if let Some(Value::List(columns)) = convert(text, Kind::Names, value) {
                self.account_columns.insert(table.to_owned(), (columns, origin));
            } else {
                self.refuse(origin, key, wrong_kind(value.get_ref()), format!("write {}", Kind::Names.expected()));
            }
        }
    }

    fn add_setting(&mut self, text: &Text<'_>, key: &'static Key, origin: Origin, value: &Spanned<DeValue<'_>>) {
        match convert(text, key.kind, value) {
            Some(value) => {
                self.settings.insert((key.section, key.name), Setting { value, origin });
            }
            None => {
                let remedy = format!("write {}", key.kind.expected());
                self.refuse(origin, format!("{}.{}", key.section, key.name), wrong_kind(value.get_ref()), remedy);
            }
        }
    }

    fn add_variable(&mut self, variable: &str, value: String) {
        let origin = Origin::Variable(variable.to_owned());
        let Some((section, name)) = variable.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) else {
            return;
        };
        let (section, name) = (section.to_ascii_lowercase(), name.to_ascii_lowercase());
        if let Some((map, property)) = name.split_once("__") {
            return self.add_property(origin, &section, map, property, value);
        }
        let Some(key) = keys::find(&section, &name) else {
            let known: Vec<String> = KEYS.iter().filter(|key| key.kind != Kind::Map).map(variable_of).collect();
            let remedy = keys::suggest(variable, known.iter().map(String::as_str));
            return self.refuse(origin, "", "there is no setting of this name", remedy);
        };
        match parse(key.kind, &value, &origin) {
            Some(value) => {
                self.settings.insert((key.section, key.name), Setting { value, origin });
            }
            None => {
                let remedy = match key.kind {
                    Kind::Map => format!("set {variable}__<NAME> for each name, with _ for each dot"),
                    Kind::Integer => "set a whole number".to_owned(),
                    Kind::Text | Kind::Secret | Kind::Boolean | Kind::List | Kind::Names => {
                        format!("set {}", key.kind.expected())
                    }
                };
                self.refuse(origin, format!("{}.{}", key.section, key.name), "the value is of another kind", remedy);
            }
        }
    }

    /// `PENSTOCK_KAFKA__PROPERTIES__SASL_PASSWORD` sets the property `sasl.password`.
    fn add_property(&mut self, origin: Origin, section: &str, map: &str, property: &str, text: String) {
        let Some(key) = keys::find(section, map).filter(|key| key.kind == Kind::Map) else {
            let maps: Vec<String> = KEYS.iter().filter(|key| key.kind == Kind::Map).map(variable_of).collect();
            let remedy = format!("only {} take names of their own", maps.join(" and "));
            return self.refuse(origin, "", "there is no setting of this name", remedy);
        };
        let setting = self
            .settings
            .entry((key.section, key.name))
            .or_insert_with(|| Setting { value: Value::Map(BTreeMap::new()), origin: origin.clone() });
        if let Value::Map(items) = &mut setting.value {
            items.insert(property.replace('_', "."), Item { text, origin });
        }
    }
}

impl Text<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.content.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::Line { file: self.path.to_path_buf(), line }
    }
}

fn variable_of(key: &Key) -> String {
    format!("{PREFIX}{}__{}", key.section.to_ascii_uppercase(), key.name.to_ascii_uppercase())
}

fn wrong_kind(value: &DeValue<'_>) -> String {
    format!("the value is of another kind ({})", value.type_str())
}

/// The file's value as the wanted kind; `None` if it is of another.
fn convert(text: &Text<'_>, kind: Kind, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let inner = value.get_ref();
    match kind {
        Kind::Text | Kind::Secret => inner.as_str().map(|value| Value::Text(value.to_owned())),
        Kind::Integer => {
            let integer = inner.as_integer()?;
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(Value::Integer)
        }
        Kind::Boolean => inner.as_bool().map(Value::Boolean),
        Kind::List => {
            let item = |item: &Spanned<DeValue<'_>>| {
                Some(Item { text: item.get_ref().as_str()?.to_owned(), origin: text.origin(item.span()) })
            };
            inner.as_array()?.iter().map(item).collect::<Option<_>>().map(Value::List)
        }
        Kind::Names => match inner.as_str() {
            Some(name) => Some(Value::List(vec![Item { text: name.to_owned(), origin: text.origin(value.span()) }])),
            None => convert(text, Kind::List, value),
        },
        Kind::Map => {
            let mut items = BTreeMap::new();
            flatten(text, "", inner.as_table()?, &mut items)?;
            Some(Value::Map(items))
        }
    }
}

/// Without quotes, TOML reads the dots of `security.protocol = "SSL"` as nested tables: they become dots again.
fn flatten(text: &Text<'_>, prefix: &str, table: &DeTable<'_>, items: &mut BTreeMap<String, Item>) -> Option<()> {
    for (name, value) in table {
        let name_here = format!("{prefix}{}", name.get_ref());
        let plain = match value.get_ref() {
            DeValue::Table(inner) => {
                flatten(text, &format!("{name_here}."), inner, items)?;
                continue;
            }
            DeValue::String(value) => value.to_string(),
            DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix()).ok()?.to_string(),
            DeValue::Float(value) => value.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) | DeValue::Array(_) => return None,
        };
        items.insert(name_here, Item { text: plain, origin: text.origin(name.span()) });
    }
    Some(())
}

/// A variable's value as the wanted kind; `None` if it is of another.
fn parse(kind: Kind, value: &str, origin: &Origin) -> Option<Value> {
    match kind {
        Kind::Text | Kind::Secret => Some(Value::Text(value.to_owned())),
        Kind::Integer => value.trim().replace('_', "").parse().ok().map(Value::Integer),
        Kind::Boolean => value.trim().parse().ok().map(Value::Boolean),
        Kind::List | Kind::Names => {
            let items = value.split(',').map(str::trim).filter(|text| !text.is_empty());
            Some(Value::List(items.map(|text| Item { text: text.to_owned(), origin: origin.clone() }).collect()))
        }
        Kind::Map => None,
    }
}
