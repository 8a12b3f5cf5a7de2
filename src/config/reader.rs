//! Asks a document for settings of a kind, with default and range, and collects what is wrong on the way.
//!
//! A question always has an answer, so that reading goes on to the next problem; the answers only count if there was
//! none. Asking for a setting that `keys` does not list is a bug and panics.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::document::{Document, Item, Setting, Value};
use super::error::{Origin, Problem};
use super::secret::Secret;
use super::{keys, properties};

#[derive(Debug)]
pub(super) struct Reader<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
}

/// A setting by section and name.
pub(super) type Name = (&'static str, &'static str);

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, problems: document.problems.clone() }
    }

    /// What was wrong, in the order of the settings.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn refuse(&mut self, origin: &Origin, key: Name, what: impl Into<String>, remedy: impl Into<String>) {
        let key = format!("{}.{}", key.0, key.1);
        self.problems.push(Problem { origin: origin.clone(), key, what: what.into(), remedy: remedy.into() });
    }

    fn setting(&self, key: Name) -> Option<&'a Setting> {
        assert!(keys::find(key.0, key.1).is_some(), "{}.{} is not a listed setting", key.0, key.1);
        self.document.settings.get(&key)
    }

    /// Whether it was set at all.
    pub(super) fn is_set(&self, key: Name) -> bool {
        self.setting(key).is_some()
    }

    /// Where the setting was made.
    pub(super) fn origin(&self, key: Name) -> Origin {
        self.setting(key).map_or(Origin::Nowhere, |setting| setting.origin.clone())
    }

    /// The text, if it was set; an empty one is refused.
    pub(super) fn text(&mut self, key: Name) -> Option<String> {
        let setting = self.setting(key)?;
        let Value::Text(text) = &setting.value else { return None };
        if text.trim().is_empty() {
            self.refuse(&setting.origin, key, "the value is empty", "set it or leave the key out");
            return None;
        }
        Some(text.clone())
    }

    /// The text, or a complaint that it is missing.
    pub(super) fn required(&mut self, key: Name, remedy: &str) -> String {
        if self.setting(key).is_none() {
            self.refuse(&Origin::Nowhere, key, "this key is required", remedy);
        }
        self.text(key).unwrap_or_default()
    }

    /// The number, which must lie in the range.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, key: Name, default: T, range: RangeInclusive<i64>) -> T {
        let Some(Setting { value: Value::Integer(value), origin }) = self.setting(key) else { return default };
        let fitting = Some(*value).filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok());
        fitting.unwrap_or_else(|| {
            let remedy = format!("it must lie between {} and {}", range.start(), range.end());
            self.refuse(origin, key, format!("{value} is out of range"), remedy);
            default
        })
    }

    pub(super) fn milliseconds(&mut self, key: Name, default: u64, range: RangeInclusive<i64>) -> Duration {
        Duration::from_millis(self.number(key, default, range))
    }

    pub(super) fn boolean(&mut self, key: Name, default: bool) -> bool {
        match self.setting(key) {
            Some(Setting { value: Value::Boolean(value), .. }) => *value,
            _ => default,
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: Name, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.refuse(
                &self.origin(key),
                key,
                format!("{text:?} is not known"),
                format!("accepted: {}", words.join(", ")),
            );
        }
        chosen
    }

    /// Every text of the list, read as a `T`; what is no `T` is complained about and left out.
    pub(super) fn list<T: FromStr<Err: std::fmt::Display>>(&mut self, key: Name, remedy: &str) -> Vec<T> {
        let Some(Setting { value: Value::List(items), .. }) = self.setting(key) else { return Vec::new() };
        items.iter().filter_map(|item| self.parse(key, item, remedy)).collect()
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, key: Name, item: &Item, remedy: &str) -> Option<T> {
        item.text.parse().map_err(|error: T::Err| self.refuse(&item.origin, key, error.to_string(), remedy)).ok()
    }

    /// A path; a relative one in the file starts at the file's folder.
    pub(super) fn path(&mut self, key: Name) -> Option<PathBuf> {
        let path = self.text(key)?;
        Some(self.resolve(&path, &self.origin(key)))
    }

    /// Like `path`, for a text from elsewhere.
    pub(super) fn resolve(&self, path: &str, origin: &Origin) -> PathBuf {
        match origin {
            Origin::Line { .. } => self.document.folder.join(path),
            Origin::Variable(_) | Origin::Nowhere => PathBuf::from(path),
        }
    }

    /// A password, from `password` or `password_file`; a variable for one of them wins over the file's other.
    pub(super) fn password(&mut self, section: &'static str) -> Option<Secret> {
        let (literal, file) = ((section, "password"), (section, "password_file"));
        let by_variable = |origin: &Origin| matches!(origin, Origin::Variable(_));
        let (literal_origin, file_origin) = (self.origin(literal), self.origin(file));
        let (has_literal, has_file) = (self.setting(literal).is_some(), self.setting(file).is_some());
        if has_literal && has_file && by_variable(&literal_origin) == by_variable(&file_origin) {
            self.refuse(&literal_origin, literal, "password and password_file are both set", "keep one of them");
            return None;
        }
        if has_literal && (!has_file || by_variable(&literal_origin)) {
            self.check_literal(literal, &literal_origin);
            return self.text(literal).map(Secret::new);
        }
        let path = self.text(file)?;
        self.secret_file(file, &file_origin, &path)
    }

    /// Complains if a secret stands in a file that others can read.
    pub(super) fn check_literal(&mut self, key: Name, origin: &Origin) {
        if let Origin::Line { file, .. } = origin
            && !self.document.private
        {
            let remedy = format!(
                "move it to a file of its own (password_file, or property_files for Kafka) or to the environment, or run: chmod 600 {}",
                file.display()
            );
            self.refuse(origin, key, "a secret stands in a file that others can read", remedy);
        }
    }

    /// The content of a secret's file, without the line's end.
    pub(super) fn secret_file(&mut self, key: Name, origin: &Origin, path: &str) -> Option<Secret> {
        let path = self.resolve(path, origin);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let secret = line.strip_suffix('\r').unwrap_or(line);
                if secret.is_empty() {
                    self.refuse(origin, key, format!("{} is empty", path.display()), "write the secret into it");
                    return None;
                }
                Some(Secret::new(secret))
            }
            Err(error) => {
                let what = format!("cannot read {}: {error}", path.display());
                self.refuse(origin, key, what, "name a file that this user may read");
                None
            }
        }
    }

    /// The texts of a map by name.
    pub(super) fn map(&self, key: Name) -> impl Iterator<Item = (&'a str, &'a Item)> + use<'a> {
        let items = match self.setting(key) {
            Some(Setting { value: Value::Map(items), .. }) => Some(items),
            _ => None,
        };
        items.into_iter().flatten().map(|(name, item)| (name.as_str(), item))
    }

    /// The Kafka client's properties, none of them one that the bridge sets.
    pub(super) fn properties(&mut self) -> properties::Properties {
        const PLAIN: Name = ("kafka", "properties");
        const FILES: Name = ("kafka", "property_files");
        let mut collected = properties::Properties::new();
        for (name, item) in self.map(PLAIN) {
            if self.may_set(PLAIN, name, item) {
                if properties::is_secret(name) {
                    self.check_literal(PLAIN, &item.origin);
                }
                collected.insert(name.to_owned(), Secret::new(&item.text));
            }
        }
        for (name, item) in self.map(FILES) {
            if self.may_set(FILES, name, item)
                && let Some(secret) = self.secret_file(FILES, &item.origin, &item.text)
                && collected.insert(name.to_owned(), secret).is_some()
            {
                self.refuse(&item.origin, FILES, format!("{name} is also set in kafka.properties"), "keep one of them");
            }
        }
        collected
    }

    fn may_set(&mut self, key: Name, name: &str, item: &Item) -> bool {
        let refusal = properties::refusal(name);
        if let Some(reason) = refusal {
            self.refuse(&item.origin, key, format!("{name} is the bridge's own"), format!("remove it: {reason}"));
        }
        refusal.is_none()
    }
}
