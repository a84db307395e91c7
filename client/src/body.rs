//! Bodies: the one place that encodes and decodes them.

use bytes::Bytes;

/// Bytes of a body, encoded or decoded, at the most (the protocol's limit).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A body that this client cannot decode. The entry itself is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a body of encoding {encoding} that cannot be decoded")]
pub struct Undecodable {
    /// The encoding's number.
    pub encoding: u32,
}

/// The encoding and the bytes that travel.
pub(crate) fn encode(body: Bytes, _compress: bool) -> (u32, Bytes) {
    (0, body)
}

/// What the sender said, within [`BODY_BYTES_MAX`].
pub(crate) fn decode(encoding: u32, body: &Bytes) -> Result<Bytes, Undecodable> {
    if encoding == 0 && body.len() <= BODY_BYTES_MAX {
        return Ok(body.clone());
    }
    Err(Undecodable { encoding })
}
