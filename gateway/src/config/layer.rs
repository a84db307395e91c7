//! The layers: file, environment, flags. Each value is checked by itself, so that all problems
//! are told at once, each with its place; and each keeps where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::setting::Setting;
use super::{Config, ConfigError};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File with line and column, variable or flag.
    pub place: String,
    /// The key, what is wrong with it, and what is allowed.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// From 1 on.
        line: usize,
        /// From 1 on, of the value.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// `--set`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// The settings in force, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of this key came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Reads all layers and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that was found.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            layers.file(path, &text);
        }
        layers.environment(environment);
        for flag in flags {
            layers.flag(flag);
        }
        layers.finish()
    }
}

struct Layers {
    settings: Vec<Setting>,
    table: toml::Table,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Layers {
    fn new() -> Self {
        Self {
            settings: Config::sections().into_iter().flat_map(|s| s.settings).collect(),
            table: toml::Table::new(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn file(&mut self, path: &Path, text: &str) {
        let place = |at: usize| {
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Origin::File { path: path.to_owned(), line, column }
        };
        let whole = DeTable::parse(text).and_then(|spans| Ok((spans, text.parse()?)));
        let (spans, values): (_, toml::Table) = match whole {
            Ok(whole) => whole,
            Err(error) => {
                let at = place(error.span().map_or(0, |span| span.start));
                return self.problem(&at, error.message().to_owned());
            }
        };
        self.walk("", spans.get_ref(), &values, &place);
    }

    /// Goes through a table of the file; `values` is the same without places.
    fn walk(
        &mut self,
        above: &str,
        spans: &DeTable<'_>,
        values: &toml::Table,
        place: &impl Fn(usize) -> Origin,
    ) {
        // In the order of the file, so that problems are told in it.
        let mut items: Vec<_> = spans.iter().collect();
        items.sort_by_key(|(name, _)| name.span().start);
        for (name, item) in items {
            let key = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            let known = self.settings.iter().any(|setting| setting.key == key);
            let is_section = Config::sections().iter().any(|s| s.name == key);
            match (item.get_ref(), value) {
                (DeValue::Table(inner), Value::Table(values)) if !known => {
                    if values.is_empty() && !is_section {
                        let at = place(name.span().start);
                        self.problem(&at, self.unknown(&key));
                    }
                    self.walk(&key, inner, values, place);
                }
                _ if known => self.put(&key, value.clone(), place(item.span().start)),
                _ => {
                    let at = place(name.span().start);
                    self.problem(&at, self.unknown(&key));
                }
            }
        }
    }

    /// `PETREL__SECTION__KEY` variables, in the order of their names.
    fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut ours: Vec<_> = variables.filter(|(name, _)| name.starts_with("PETREL__")).collect();
        ours.sort();
        for (name, text) in ours {
            let key = name.trim_start_matches("PETREL__").to_ascii_lowercase().replace("__", ".");
            self.text(&key, &text, Origin::Environment(name));
        }
    }

    /// `section.key=value`.
    fn flag(&mut self, flag: &str) {
        match flag.split_once('=') {
            Some((key, text)) => {
                let key = key.trim();
                self.text(key, text.trim(), Origin::Flag(key.to_owned()));
            }
            None => self.problem(
                &Origin::Flag(flag.to_owned()),
                "write it as section.key=value".to_owned(),
            ),
        }
    }

    /// A value outside of a file: TOML if that is allowed for the key, else a bare text.
    fn text(&mut self, key: &str, text: &str, origin: Origin) {
        let Some(setting) = self.settings.iter().find(|setting| setting.key == key) else {
            return self.problem(&origin, self.unknown(key));
        };
        let bare = Value::String(text.to_owned());
        let parsed = format!("v = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| bare.clone());
        let is_bare = setting.check(parsed.clone()).is_err() && setting.check(bare.clone()).is_ok();
        self.put(key, if is_bare { bare } else { parsed }, origin);
    }

    fn put(&mut self, key: &str, value: Value, origin: Origin) {
        let Some(setting) = self.settings.iter().find(|setting| setting.key == key) else {
            return;
        };
        if let Err(problem) = setting.check(value.clone()) {
            return self.problem(&origin, problem);
        }
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let table = match section {
            "" => Some(&mut self.table),
            section => self
                .table
                .entry(section)
                .or_insert_with(|| Value::Table(toml::Table::new()))
                .as_table_mut(),
        };
        if let Some(table) = table {
            table.insert(name.to_owned(), value);
            self.origins.insert(key.to_owned(), origin);
        }
    }

    fn problem(&mut self, origin: &Origin, problem: String) {
        self.problems.push(Problem { place: origin.to_string(), problem });
    }

    fn unknown(&self, key: &str) -> String {
        let what = format!("{key}: there is no such setting");
        match nearest(key, self.settings.iter().map(|setting| setting.key.as_str())) {
            Some(near) => format!("{what}; did you mean {near}?"),
            None => format!("{what}; `petrel config default` lists all"),
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        if self.problems.is_empty() {
            let table = self.table.clone();
            let loaded = table.try_into::<Config>().map_err(|error| Problem {
                place: "configuration".to_owned(),
                problem: error.message().to_owned(),
            });
            match loaded {
                Ok(config) => match config.check() {
                    Ok(()) => return Ok(Loaded { config, origins: self.origins }),
                    Err((key, problem)) => {
                        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
                        self.problem(&origin, format!("{key}: {problem}"));
                    }
                },
                Err(problem) => self.problems.push(problem),
            }
        }
        Err(ConfigError::Refused(self.problems))
    }
}

/// The key that was probably meant: the same name in another section, or one that few letters
/// make of it.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let elsewhere = known.clone().find(|k| k.rsplit('.').next() == Some(name));
    let (distance, near) = known.map(|k| (edits(key, k), k)).min()?;
    if distance <= 2.max(key.len() / 5) { Some(near) } else { elsewhere }
}

/// Letters to insert, remove or replace to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        row[0] = i + 1;
    }
    row[b.len()]
}
