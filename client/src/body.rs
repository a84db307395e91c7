//! Bodies: the one place that encodes and decodes them.

use bytes::Bytes;
use petrel_proto::compression;

/// Bytes of a body, encoded or decoded, at the most (the protocol's limit).
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bodies up to this are not worth an attempt.
const PLAIN_BYTES_MAX: usize = 8;

/// A body that this client cannot decode. The entry itself is whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a body of encoding {encoding} that cannot be decoded")]
pub struct Undecodable {
    /// The encoding's number.
    pub encoding: u32,
    /// The body as it came.
    pub raw: Bytes,
}

/// The encoding and the bytes that travel; `known` are the dictionaries that the server has.
pub(crate) fn encode(plain: Bytes, known: &[u32]) -> (u32, Bytes) {
    if plain.len() <= PLAIN_BYTES_MAX {
        return (0, plain);
    }
    let encoded = compression::encode_for(&plain, known);
    (encoded.encoding.number(), encoded.bytes)
}

/// What the sender said, within [`BODY_BYTES_MAX`].
pub(crate) fn decode(encoding: u32, body: &Bytes) -> Result<Bytes, Undecodable> {
    if encoding == 0 && body.len() <= BODY_BYTES_MAX {
        return Ok(body.clone());
    }
    compression::decode(encoding, body, BODY_BYTES_MAX)
        .map(Bytes::from)
        .map_err(|_| Undecodable { encoding, raw: body.clone() })
}

/// The version of the dictionary that is missing to decode this, if that is what is wrong.
pub(crate) fn missing_dictionary(undecodable: &Undecodable) -> Option<u32> {
    compression::dictionary_of(undecodable.encoding)
        .filter(|version| compression::DictionaryVersion::new(*version).is_none())
}

/// The dictionaries that bodies sent to us may be compressed with.
pub(crate) fn dictionaries() -> Vec<u32> {
    compression::DICTIONARIES.iter().map(|dictionary| dictionary.version.number()).collect()
}

/// Those that every server has.
pub(crate) fn first_dictionaries() -> Vec<u32> {
    vec![compression::DictionaryVersion::GENERAL.number()]
}
