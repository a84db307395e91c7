//! Typed values with their units and ranges.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Value;

use super::setting::SettingType;

/// Where TCP listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpListen {
    /// Where UDP does.
    Same,
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl<'de> Deserialize<'de> for TcpListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "same" => Ok(Self::Same),
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| D::Error::custom(format!("{text:?} is not allowed"))),
        }
    }
}

impl SettingType for TcpListen {
    fn allowed() -> String {
        format!("\"same\", \"off\" or {}", SocketAddr::allowed())
    }

    fn shown(&self) -> Option<String> {
        Some(match self {
            Self::Same => "\"same\"".to_owned(),
            Self::Off => "\"off\"".to_owned(),
            Self::At(address) => format!("\"{address}\""),
        })
    }
}

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
            _ => Err(D::Error::custom(format!("{given} is not allowed"))),
        }
    }
}

impl<const MIN: u64, const MAX: u64> SettingType for Bounded<MIN, MAX> {
    fn allowed() -> String {
        format!("a whole number, {MIN} to {MAX}")
    }

    fn shown(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// A span of time in milliseconds within `MIN..=MAX`, written as `"50ms"`, `"2s"`, `"15m"`, `"1h"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span<const MIN: u64, const MAX: u64>(pub u64);

/// From the largest, which is the one to print when it fits.
const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// As a duration.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?.to_string().replace('"', "");
        match with_unit(&text, &SPAN_UNITS) {
            Some(ms) if (MIN..=MAX).contains(&ms) => Ok(Self(ms)),
            _ => Err(D::Error::custom(format!("{text:?} is not allowed"))),
        }
    }
}

impl<const MIN: u64, const MAX: u64> SettingType for Span<MIN, MAX> {
    fn allowed() -> String {
        let (min, max) = (in_unit(MIN, &SPAN_UNITS), in_unit(MAX, &SPAN_UNITS));
        format!("a span of time, {min} to {max}, written like \"50ms\", \"2s\", \"15m\" or \"1h\"")
    }

    fn shown(&self) -> Option<String> {
        Some(format!("\"{}\"", in_unit(self.0, &SPAN_UNITS)))
    }
}

/// A size in bytes within `MIN..=MAX`, written as `"256KiB"`, `"64MiB"`, `"2GiB"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteSize<const MIN: u64, const MAX: u64>(pub u64);

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for ByteSize<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?.to_string().replace('"', "");
        match with_unit(&text, &SIZE_UNITS) {
            Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(D::Error::custom(format!("{text:?} is not allowed"))),
        }
    }
}

impl<const MIN: u64, const MAX: u64> SettingType for ByteSize<MIN, MAX> {
    fn allowed() -> String {
        let (min, max) = (in_unit(MIN, &SIZE_UNITS), in_unit(MAX, &SIZE_UNITS));
        format!("a size, {min} to {max}, written like \"256KiB\", \"64MiB\" or \"2GiB\"")
    }

    fn shown(&self) -> Option<String> {
        Some(format!("\"{}\"", in_unit(self.0, &SIZE_UNITS)))
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// In the largest unit that loses nothing.
fn in_unit(value: u64, units: &[(&str, u64)]) -> String {
    let smallest = units.last().map_or("", |(unit, _)| unit);
    units
        .iter()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .map_or_else(|| format!("{value}{smallest}"), |(unit, f)| format!("{}{unit}", value / f))
}

/// How an outside issuer signs its tokens (RFC 7518, RFC 8037).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum IssuerAlgorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// RSA of 2,048 bits or more, PKCS #1 v1.5, with SHA-256.
    RS256,
}

impl SettingType for IssuerAlgorithm {
    fn allowed() -> String {
        "\"EdDSA\", \"ES256\" or \"RS256\"".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(format!("\"{self:?}\""))
    }
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

impl SettingType for Secret {
    const SECRET: bool = true;

    fn allowed() -> String {
        "a text (secret: printed as ***)".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some("\"***\"".to_owned())
    }
}

impl SettingType for PathBuf {
    fn allowed() -> String {
        "a path".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(Value::String(self.display().to_string()).to_string())
    }
}

impl SettingType for SocketAddr {
    fn allowed() -> String {
        "an address with a port, like \"127.0.0.1:4433\" or \"[::1]:4433\"".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

impl SettingType for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(Value::String(self.clone()).to_string())
    }
}

impl SettingType for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<T: SettingType> SettingType for Option<T> {
    const SECRET: bool = T::SECRET;

    fn allowed() -> String {
        T::allowed()
    }

    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }
}

impl<T: SettingType> SettingType for Vec<T> {
    const SECRET: bool = T::SECRET;

    fn allowed() -> String {
        format!("a list, each {}", T::allowed())
    }

    fn shown(&self) -> Option<String> {
        let each: Vec<String> = self.iter().filter_map(T::shown).collect();
        Some(format!("[{}]", each.join(", ")))
    }
}
