//! Dictionaries that are not shipped: an operator's own, trained on his service's messages.
//!
//! Their versions begin at [`OWN_VERSION_MIN`] and stand in the dictionary itself, as zstd's
//! dictionary id. Contexts of all threads point to a prepared dictionary, so it stays in memory
//! for as long as the process lives: each content once, and [`CONTENTS_MAX`] of them at the most.

use super::context::with_contexts;
use super::{DICTIONARY_BASE, DICTIONARY_BYTES_MAX, LEVEL};
use bytes::Bytes;
use parking_lot::Mutex;
use std::fmt;
use thiserror::Error;
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CDict, DDict};

/// The lowest version of a dictionary that is not shipped.
pub const OWN_VERSION_MIN: u32 = 100;

/// The highest one: its encoding number still fits into 31 bits.
pub const OWN_VERSION_MAX: u32 = i32::MAX.cast_unsigned() - DICTIONARY_BASE;

/// Different dictionaries in one process, at the most.
pub const CONTENTS_MAX: usize = 64;

/// zstd's magic number of dictionaries, before the id (RFC 8878 §6).
const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

static CONTENTS: Mutex<Vec<&'static Content>> = Mutex::new(Vec::new());

struct Content {
    bytes: Vec<u8>,
    encoder: EncoderDictionary<'static>,
    decoder: DecoderDictionary<'static>,
}

/// A dictionary that is not shipped, ready for use. Copies of it are the same one.
#[derive(Clone, Copy)]
pub struct OwnDictionary {
    version: u32,
    content: &'static Content,
}

/// Why bytes are no dictionary of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OwnDictionaryError {
    /// They do not begin as zstd's dictionaries do.
    #[error("it is no zstd dictionary: it does not begin with 37 a4 30 ec")]
    NoDictionary,
    /// The version is one that shipped dictionaries may get, or too high.
    #[error("its version is {version}; {OWN_VERSION_MIN} to {OWN_VERSION_MAX} is allowed")]
    Version {
        /// The version as found.
        version: u32,
    },
    /// It is larger than a client has to keep.
    #[error("it has {len} bytes; at most {DICTIONARY_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// zstd cannot read its tables.
    #[error("zstd cannot read it: it is damaged or cut short")]
    Damaged,
    /// This process knows [`CONTENTS_MAX`] others.
    #[error("more than {CONTENTS_MAX} different dictionaries in one process")]
    TooMany,
}

impl OwnDictionary {
    /// Takes a dictionary in zstd's format, checked whole.
    ///
    /// # Errors
    /// [`OwnDictionaryError`] says what is wrong with it.
    pub fn new(bytes: &[u8]) -> Result<Self, OwnDictionaryError> {
        if bytes.len() > DICTIONARY_BYTES_MAX {
            return Err(OwnDictionaryError::TooLarge { len: bytes.len() });
        }
        let rest = bytes.strip_prefix(&MAGIC).ok_or(OwnDictionaryError::NoDictionary)?;
        let id = rest.first_chunk::<4>().ok_or(OwnDictionaryError::Damaged)?;
        let version = u32::from_le_bytes(*id);
        if !(OWN_VERSION_MIN..=OWN_VERSION_MAX).contains(&version) {
            return Err(OwnDictionaryError::Version { version });
        }
        Ok(Self { version, content: content(bytes)? })
    }

    /// The version on the wire, from [`OWN_VERSION_MIN`] on.
    #[must_use]
    pub fn version(self) -> u32 {
        self.version
    }

    /// The encoding number of bodies that were compressed with it.
    #[must_use]
    pub fn encoding(self) -> u32 {
        DICTIONARY_BASE + self.version
    }

    /// The dictionary itself, as a peer that lacks it fetches it.
    #[must_use]
    pub fn bytes(self) -> &'static [u8] {
        &self.content.bytes
    }

    /// Encodes `plain` with this dictionary, or leaves it as it is (encoding 0) where that does
    /// not make it shorter. The encoding number, and at most as many bytes as `plain` has.
    #[must_use]
    pub fn encode(self, plain: &[u8]) -> (u32, Bytes) {
        with_contexts(|contexts| match contexts.compress(plain, Some(self.encoder())) {
            Some(frame) if frame.len() < plain.len() => {
                (self.encoding(), Bytes::copy_from_slice(frame))
            }
            _ => (0, Bytes::copy_from_slice(plain)),
        })
    }

    pub(super) fn decoder(self) -> &'static DDict<'static> {
        self.content.decoder.as_ddict()
    }

    fn encoder(self) -> &'static CDict<'static> {
        self.content.encoder.as_cdict()
    }
}

/// The prepared content of these bytes; the same one for the same bytes.
fn content(bytes: &[u8]) -> Result<&'static Content, OwnDictionaryError> {
    let mut contents = CONTENTS.lock();
    if let Some(known) = contents.iter().find(|known| known.bytes == bytes) {
        return Ok(known);
    }
    if contents.len() >= CONTENTS_MAX {
        return Err(OwnDictionaryError::TooMany);
    }
    let damaged = |_| OwnDictionaryError::Damaged;
    let content = Box::leak(Box::new(Content {
        bytes: bytes.to_vec(),
        encoder: EncoderDictionary::try_copy(bytes, LEVEL).map_err(damaged)?,
        decoder: DecoderDictionary::try_copy(bytes).map_err(damaged)?,
    }));
    contents.push(content);
    Ok(content)
}

impl PartialEq for OwnDictionary {
    fn eq(&self, other: &Self) -> bool {
        // The version is in the bytes, and the same bytes are the same content.
        std::ptr::eq(self.content, other.content)
    }
}

impl Eq for OwnDictionary {}

impl fmt::Debug for OwnDictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnDictionary({}, {} bytes)", self.version, self.content.bytes.len())
    }
}
