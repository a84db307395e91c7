//! Dictionaries that this build does not ship and that a peer handed out.

use std::fmt;

use zstd::zstd_safe::DDict;

use super::context::with_contexts;
use super::{DICTIONARY_BASE, DecodeError, frame};

/// Bytes of a dictionary, at the most; those that are shipped have 65,536.
pub const DICTIONARY_BYTES_MAX: usize = 128 * 1024;

/// A dictionary that was fetched, ready for use.
pub struct FetchedDictionary {
    decoder: DDict<'static>,
}

impl fmt::Debug for FetchedDictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedDictionary").finish_non_exhaustive()
    }
}

impl FetchedDictionary {
    /// From a dictionary in zstd's format; `None` if it is none, or too long.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > DICTIONARY_BYTES_MAX {
            return None;
        }
        DDict::try_create(bytes).map(|decoder| Self { decoder })
    }

    /// Decodes a lean frame that was made with this dictionary to at most `max_len` plain bytes.
    ///
    /// # Errors
    /// [`DecodeError`] says what was wrong with the bytes.
    pub fn decode(&self, bytes: &[u8], max_len: usize) -> Result<Vec<u8>, DecodeError> {
        let capacity = frame::check(bytes, max_len)?;
        with_contexts(|contexts| {
            let plain = contexts.decompress_fetched(bytes, &self.decoder, capacity, max_len)?;
            Ok(plain.to_vec())
        })
    }
}

/// The version of the dictionary that an encoding names; `None` if it names none.
#[must_use]
pub fn dictionary_of(encoding: u32) -> Option<u32> {
    encoding.checked_sub(DICTIONARY_BASE).filter(|version| *version > 0)
}
