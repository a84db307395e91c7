//! Typed values with their ranges, and how layers are merged.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use toml::Value;

use super::ConfigError;

/// A whole number within `MIN..=MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounded<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// As a size; the ranges in use fit.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// As a `u32`; larger values are cut to its maximum.
    pub fn to_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = i64::deserialize(deserializer)?;
        match u64::try_from(given) {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(Self(value)),
            _ => Err(D::Error::custom(format!("{given} is not allowed; {MIN} to {MAX}"))),
        }
    }
}

/// A span of time in milliseconds within `MIN..=MAX`, written as `"50ms"`, `"2s"`, `"15m"`, `"1h"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// As a duration.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?.to_string().replace('"', "");
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        match with_unit(&text, &units) {
            Some(ms) if (MIN..=MAX).contains(&ms) => Ok(Self(ms)),
            _ => Err(D::Error::custom(format!(
                "{text:?} is not allowed; {MIN}ms to {MAX}ms, written like \"50ms\", \"2s\", \"15m\" or \"1h\""
            ))),
        }
    }
}

/// A size in bytes within `MIN..=MAX`, written as `"256KiB"`, `"64MiB"`, `"2GiB"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteSize<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for ByteSize<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?.to_string().replace('"', "");
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
        match with_unit(&text, &units) {
            Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(D::Error::custom(format!(
                "{text:?} is not allowed; {MIN} to {MAX} bytes, written like \"256KiB\", \"64MiB\" or \"2GiB\""
            ))),
        }
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Text that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One value from the environment or a flag.
#[derive(Debug)]
pub(super) struct Override {
    place: String,
    key: Option<(String, String)>,
}

impl Override {
    /// `section.key=value`.
    pub(super) fn flag(flag: &str) -> Self {
        Self {
            place: format!("--set {}", flag.split('=').next().unwrap_or_default()),
            key: flag.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())),
        }
    }

    /// Puts the value into the table and checks that the whole is still read.
    pub(super) fn apply<T: DeserializeOwned>(
        self,
        table: &mut toml::Table,
    ) -> Result<(), ConfigError> {
        let refuse =
            |problem: String| Err(ConfigError::Refused { place: self.place.clone(), problem });
        let Some((key, text)) = &self.key else {
            return refuse("write it as section.key=value".to_owned());
        };
        // A bare word is a string; everything else is TOML.
        let value = format!("v = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| Value::String(text.clone()));
        let mut parts: Vec<&str> = key.split('.').collect();
        let Some(last) = parts.pop() else {
            return refuse("the key is missing".to_owned());
        };
        let mut at = &mut *table;
        for part in parts {
            let inner = at.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
            let Value::Table(inner) = inner else {
                return refuse(format!("{part} is not a section"));
            };
            at = inner;
        }
        at.insert(last.to_owned(), value);
        match table.clone().try_into::<T>() {
            Ok(_) => Ok(()),
            Err(error) => refuse(format!("{key}: {}", error.message())),
        }
    }
}

/// `PETREL__SECTION__KEY` variables, in the order of their names.
pub(super) fn from_environment(vars: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<_> = vars
        .filter_map(|(name, value)| {
            let key = name.strip_prefix("PETREL__")?.to_ascii_lowercase().replace("__", ".");
            Some(Override { place: name, key: Some((key, value)) })
        })
        .collect();
    found.sort_by(|a, b| a.place.cmp(&b.place));
    found
}

/// Reads `text` as `T`, for the error alone.
pub(super) fn check<T: DeserializeOwned>(place: &str, text: &str) -> Result<(), ConfigError> {
    toml::from_str::<T>(text).map(drop).map_err(|error| refused_in(place, text, &error))
}

pub(super) fn refused(place: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Refused { place: place.to_owned(), problem: error.message().to_owned() }
}

/// An error of a file: with line, column and the key on that line.
fn refused_in(place: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let Some(span) = error.span() else {
        return refused(place, error);
    };
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let on_line = text.lines().nth(line - 1).unwrap_or_default();
    let key = on_line.split_once('=').map(|(key, _)| key.trim());
    let section = text
        .lines()
        .take(line)
        .filter_map(|l| l.trim().strip_prefix('[')?.strip_suffix(']'))
        .last();
    let name = match (section, key) {
        (Some(section), Some(key)) => format!("{section}.{key}: "),
        (None, Some(key)) => format!("{key}: "),
        _ => String::new(),
    };
    ConfigError::Refused {
        place: format!("{place}:{line}:{column}"),
        problem: format!("{name}{}", error.message()),
    }
}
