//! Bodies on their way in: checked within bounds, compressed if they came plain.

use bytes::Bytes;
use petrel_core::error::Rejection;
use petrel_core::limits::{BODY_BYTES_MAX, BODY_DECODED_BYTES_MAX};
use petrel_proto::compression::{self, BodyEncoding};

use crate::dictionaries::Dictionaries;
use crate::metrics;

/// Plain bodies up to this size are not worth compressing.
const PLAIN_BYTES_KEPT: usize = 32;

/// A body as it is stored and pushed.
#[derive(Debug)]
pub(crate) struct Checked {
    /// How it is encoded.
    pub encoding: u32,
    /// Its bytes.
    pub body: Bytes,
}

/// Checks that a body decodes within its bounds; compresses one that came plain.
///
/// # Errors
/// [`Rejection::Invalid`] if it is too large, [`Rejection::BadBody`] if it cannot be decoded.
pub(crate) fn check(
    encoding: u32,
    body: Bytes,
    dictionaries: &Dictionaries,
) -> Result<Checked, Rejection> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Rejection::Invalid {
            field: "body",
            problem: format!("{} bytes; at most {BODY_BYTES_MAX}", body.len()),
        });
    }
    let own = dictionaries.own();
    let decoded = compression::decoded_len_with(encoding, &body, BODY_DECODED_BYTES_MAX, own)
        .map_err(|error| Rejection::BadBody { problem: error.to_string() })?;
    let plain = encoding == BodyEncoding::Identity.number();
    let checked = if plain && body.len() > PLAIN_BYTES_KEPT {
        let (encoding, body) = dictionaries.encode(&body);
        Checked { encoding, body }
    } else {
        Checked { encoding, body }
    };
    let metrics = metrics::get();
    metrics.body_decoded_bytes.increment(decoded as u64);
    metrics.body_encoded_bytes.increment(checked.body.len() as u64);
    Ok(checked)
}
