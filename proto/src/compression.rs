//! Compression of message bodies.
//!
//! A body travels with an `encoding` number beside it, the wire table:
//!
//! | number | body |
//! |---|---|
//! | 0 | identity: the bytes as they are |
//! | 1 | one zstd frame without a dictionary |
//! | 16 + N | one zstd frame with dictionary N: shipped ([`DICTIONARIES`]) or, from 100 on, an operator's own ([`OwnDictionary`]) |
//!
//! Frames are lean: no magic number, content size, dictionary id or checksum,
//! which would be a fifth of a short message. Each message is a frame by
//! itself, so that its length tells nothing about other messages.
//!
//! **Invariant:** what [`encode`] returns is never longer than what it was
//! given, and [`decode`] never holds more than `max_len` bytes of output,
//! whatever a peer sent.

mod context;
mod dictionary;
mod fetched;
mod frame;
mod own;
pub mod training;

pub use dictionary::{DICTIONARIES, Dictionary, DictionaryVersion};
pub use fetched::{DICTIONARY_BYTES_MAX, FetchedDictionary, dictionary_of};
pub use own::{CONTENTS_MAX, OWN_VERSION_MAX, OWN_VERSION_MIN, OwnDictionary, OwnDictionaryError};

use bytes::Bytes;
use context::with_contexts;
use thiserror::Error;

/// zstd's level for all bodies; higher ones cost more and gain nothing here.
pub const LEVEL: i32 = 3;

/// Base-two logarithm of the largest window that a frame may ask for: 1 MiB.
pub const WINDOW_LOG_MAX: u32 = 20;

/// Encodings from this number on name a dictionary: 16 + its version.
const DICTIONARY_BASE: u32 = 16;

/// How a body is encoded; the numbers are the wire table of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyEncoding {
    /// The bytes as they are; number 0.
    Identity,
    /// A lean zstd frame without a dictionary; number 1.
    Zstd,
    /// A lean zstd frame with a shipped dictionary; number 16 + version.
    ZstdDictionary(DictionaryVersion),
}

impl BodyEncoding {
    /// The number that stands on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Identity => 0,
            Self::Zstd => 1,
            Self::ZstdDictionary(version) => DICTIONARY_BASE + version.number(),
        }
    }
}

impl From<BodyEncoding> for u32 {
    fn from(encoding: BodyEncoding) -> Self {
        encoding.number()
    }
}

impl TryFrom<u32> for BodyEncoding {
    type Error = DecodeError;

    fn try_from(number: u32) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Identity),
            1 => Ok(Self::Zstd),
            2..=DICTIONARY_BASE => Err(DecodeError::UnknownEncoding { encoding: number }),
            _ => {
                let version = number - DICTIONARY_BASE;
                DictionaryVersion::new(version)
                    .map(Self::ZstdDictionary)
                    .ok_or(DecodeError::UnknownDictionary { version })
            }
        }
    }
}

/// A body ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// How `bytes` are to be read.
    pub encoding: BodyEncoding,
    /// At most as long as the plain body.
    pub bytes: Bytes,
}

/// Why a body could not be decoded. All of these are the sender's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The encoding number is in no table.
    #[error("unknown body encoding {encoding}")]
    UnknownEncoding {
        /// The number as received.
        encoding: u32,
    },
    /// The encoding names a dictionary that is not shipped and was not given.
    #[error("unknown dictionary version {version}")]
    UnknownDictionary {
        /// The version that was asked for.
        version: u32,
    },
    /// The plain body is longer than allowed.
    #[error("body is longer than {max_len} bytes")]
    TooLong {
        /// The limit, in bytes.
        max_len: usize,
    },
    /// The frame asks for more memory than a body may need.
    #[error(
        "frame needs a window of 2^{window_log} bytes or more, at most 2^{WINDOW_LOG_MAX} allowed"
    )]
    WindowTooLarge {
        /// Base-two logarithm of the window, rounded down.
        window_log: u32,
    },
    /// The frame header has fields that lean frames leave out.
    #[error("frame descriptor is {descriptor:#04x}, lean frames have 0x00")]
    NotLean {
        /// The frame's first byte.
        descriptor: u8,
    },
    /// The frame ends before its last block does.
    #[error("frame is cut short")]
    Truncated,
    /// There are bytes after the frame, such as a second frame.
    #[error("{extra} bytes after the end of the frame")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The frame's content is damaged, or made with another dictionary.
    #[error("frame is corrupt: {reason}")]
    Corrupt {
        /// What zstd says.
        reason: &'static str,
    },
}

/// Encodes `plain` with `dictionary`, or with plain zstd if there is none;
/// leaves it as it is where that does not make it shorter.
///
/// [`DictionaryVersion::suited_to`] names the dictionary that fits a body best.
#[must_use]
pub fn encode(plain: &[u8], dictionary: Option<DictionaryVersion>) -> Encoded {
    let encoding = dictionary.map_or(BodyEncoding::Zstd, BodyEncoding::ZstdDictionary);
    let prepared = dictionary.map(DictionaryVersion::encoder);
    with_contexts(|contexts| match contexts.compress(plain, prepared) {
        Some(frame) if frame.len() < plain.len() => {
            Encoded { encoding, bytes: Bytes::copy_from_slice(frame) }
        }
        _ => Encoded { encoding: BodyEncoding::Identity, bytes: Bytes::copy_from_slice(plain) },
    })
}

/// Encodes `plain` with the best suited of the dictionaries that the peer
/// announced (`known`, wire versions; ones that this build lacks are skipped).
#[must_use]
pub fn encode_for(plain: &[u8], known: &[u32]) -> Encoded {
    let suited = DictionaryVersion::suited_to(plain);
    let dictionary = [suited, DictionaryVersion::GENERAL]
        .into_iter()
        .find(|version| known.contains(&version.number()));
    encode(plain, dictionary)
}

/// Decodes a body of at most `max_len` plain bytes.
///
/// # Errors
/// [`DecodeError`] says what was wrong with the encoding or the bytes.
pub fn decode(encoding: u32, bytes: &[u8], max_len: usize) -> Result<Vec<u8>, DecodeError> {
    decode_with(encoding, bytes, max_len, &[])
}

/// The same where dictionaries are known that are not shipped. One that is in neither is
/// [`DecodeError::UnknownDictionary`]: fetch it, and decode again.
///
/// # Errors
/// [`DecodeError`] says what was wrong with the encoding or the bytes.
pub fn decode_with(
    encoding: u32,
    bytes: &[u8],
    max_len: usize,
    own: &[OwnDictionary],
) -> Result<Vec<u8>, DecodeError> {
    with_plain(encoding, bytes, max_len, own, <[u8]>::to_vec)
}

/// Checks a body as [`decode`] does and returns its plain length in bytes,
/// without allocating: the gateway counts and forwards what it never reads.
///
/// # Errors
/// [`DecodeError`] says what was wrong with the encoding or the bytes.
pub fn decoded_len(encoding: u32, bytes: &[u8], max_len: usize) -> Result<usize, DecodeError> {
    decoded_len_with(encoding, bytes, max_len, &[])
}

/// The same where dictionaries are known that are not shipped.
///
/// # Errors
/// As [`decode_with`].
pub fn decoded_len_with(
    encoding: u32,
    bytes: &[u8],
    max_len: usize,
    own: &[OwnDictionary],
) -> Result<usize, DecodeError> {
    with_plain(encoding, bytes, max_len, own, <[u8]>::len)
}

fn with_plain<T>(
    encoding: u32,
    bytes: &[u8],
    max_len: usize,
    own: &[OwnDictionary],
    take: impl FnOnce(&[u8]) -> T,
) -> Result<T, DecodeError> {
    let dictionary = match BodyEncoding::try_from(encoding) {
        Ok(BodyEncoding::Identity) if bytes.len() > max_len => {
            return Err(DecodeError::TooLong { max_len });
        }
        Ok(BodyEncoding::Identity) => return Ok(take(bytes)),
        Ok(BodyEncoding::Zstd) => None,
        Ok(BodyEncoding::ZstdDictionary(version)) => Some(version.decoder()),
        Err(unknown) => {
            let known = own.iter().find(|dictionary| dictionary.encoding() == encoding);
            Some(known.ok_or(unknown)?.decoder())
        }
    };
    let capacity = frame::check(bytes, max_len)?;
    with_contexts(|contexts| contexts.decompress(bytes, dictionary, capacity, max_len).map(take))
}

#[cfg(test)]
mod tests;
