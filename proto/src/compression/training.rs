//! Makes dictionaries from samples: the shipped ones, and an operator's own.
//!
//! The literal table codes what the dictionary does not know. Computed on the
//! text that the dictionary was made of, as the trainer does, it would know
//! only the leftovers of text known by heart: digits. So it is taken from a
//! second dictionary that is too small to know much. That was worth a tenth on
//! held-out English, and as much on chat of mixed languages.

use super::DICTIONARY_BYTES_MAX;
use super::own::{OWN_VERSION_MAX, OWN_VERSION_MIN};
use thiserror::Error;

/// The smallest dictionary that is made, in bytes.
pub const BYTES_MIN: usize = 1 << 10;

/// Sizes of the second dictionary that are worth a trial, in bytes; 0: the trainer's own table.
pub const LITERAL_BYTES: [usize; 4] = [0, 1 << 10, 2 << 10, 4 << 10];

/// The repeat offsets that every dictionary ends its tables with: 1, 4, 8.
const REPEAT_OFFSETS: [u8; 12] = [1, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0];

/// Magic number and dictionary id, before the tables.
const PREAMBLE_BYTES: usize = 8;

/// Why no dictionary could be made.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The size is not allowed.
    #[error("a dictionary of {bytes} bytes; {BYTES_MIN} to {DICTIONARY_BYTES_MAX} is allowed")]
    Size {
        /// The size as asked for.
        bytes: usize,
    },
    /// The version is not allowed.
    #[error("version {version}; {OWN_VERSION_MIN} to {OWN_VERSION_MAX} is allowed")]
    Version {
        /// The version as asked for.
        version: u32,
    },
    /// zstd's trainer gave up: the samples are too few, too short or too much alike.
    #[error("the samples do not make a dictionary: {0}")]
    Samples(#[source] std::io::Error),
    /// What the trainer made is not laid out as expected.
    #[error("the trainer made a dictionary of another form: {0}")]
    Form(&'static str),
}

/// Trains a dictionary of at most `bytes` bytes; `literal_bytes` is the size of the second one
/// (see [`LITERAL_BYTES`]). The same samples always give the same bytes.
///
/// # Errors
/// [`TrainingError`] says what was wrong.
pub fn train<S: AsRef<[u8]>>(
    samples: &[S],
    bytes: usize,
    literal_bytes: usize,
    version: u32,
) -> Result<Vec<u8>, TrainingError> {
    if !(BYTES_MIN..=DICTIONARY_BYTES_MAX).contains(&bytes) {
        return Err(TrainingError::Size { bytes });
    }
    if !(OWN_VERSION_MIN..=OWN_VERSION_MAX).contains(&version) {
        return Err(TrainingError::Version { version });
    }
    let trained = |bytes| zstd::dict::from_samples(samples, bytes).map_err(TrainingError::Samples);
    let mut dictionary = trained(bytes)?;
    if literal_bytes > 0 {
        dictionary = with_literals_of(&dictionary, &trained(literal_bytes)?, bytes)?;
    }
    let id =
        dictionary.get_mut(4..PREAMBLE_BYTES).ok_or(TrainingError::Form("there is no preamble"))?;
    id.copy_from_slice(&version.to_le_bytes());
    Ok(dictionary)
}

/// `large` with the literal table of `small`, in at most `bytes` bytes.
///
/// # Errors
/// [`TrainingError::Form`] if one of them is not laid out as zstd's trainer does.
pub fn with_literals_of(
    large: &[u8],
    small: &[u8],
    bytes: usize,
) -> Result<Vec<u8>, TrainingError> {
    let preamble =
        large.get(..PREAMBLE_BYTES).ok_or(TrainingError::Form("there is no preamble"))?;
    let mut dictionary = preamble.to_vec();
    dictionary.extend(parts(small)?.literals);
    let parts = parts(large)?;
    dictionary.extend(parts.sequences);
    // Near the end is cheapest to refer to, and the trainer put the best there.
    let room = bytes.saturating_sub(dictionary.len());
    let content = parts.content;
    dictionary.extend(content.get(content.len().saturating_sub(room)..).unwrap_or_default());
    Ok(dictionary)
}

struct Parts<'a> {
    /// The Huffman table: a length byte, then so many bytes of weights.
    literals: &'a [u8],
    /// The tables of offsets, match lengths and literal lengths, and the repeat offsets.
    sequences: &'a [u8],
    content: &'a [u8],
}

fn parts(dictionary: &[u8]) -> Result<Parts<'_>, TrainingError> {
    let cut = || TrainingError::Form("it is cut short");
    let tables = dictionary.get(PREAMBLE_BYTES..).ok_or_else(cut)?;
    let len = usize::from(*tables.first().ok_or_else(cut)?);
    if len >= 128 {
        return Err(TrainingError::Form("the weights are not compressed"));
    }
    let (literals, rest) = tables.split_at_checked(1 + len).ok_or_else(cut)?;
    let offsets = rest
        .windows(REPEAT_OFFSETS.len())
        .position(|window| window == REPEAT_OFFSETS)
        .ok_or(TrainingError::Form("no repeat offsets"))?;
    let (sequences, content) =
        rest.split_at_checked(offsets + REPEAT_OFFSETS.len()).ok_or_else(cut)?;
    Ok(Parts { literals, sequences, content })
}
