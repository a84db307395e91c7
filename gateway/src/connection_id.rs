//! Our connection ids: every packet of a client carries one, so they are short. Part of an id is
//! a signature, by which we know our own also after a restart: only those are answered by a reset.

use aws_lc_rs::{hmac, rand};
use quinn::ConnectionId;
use quinn_proto::{ConnectionIdGenerator, InvalidCid};

/// Random bytes: 16 million ids, of which a connection has some five. One in use is not given again.
const NONCE_BYTES: usize = 3;
/// Bytes of the signature: of 65,536 packets that are nobody's, one is answered by a reset.
const SIGNATURE_BYTES: usize = 2;

/// Makes signed connection ids.
pub(crate) struct SignedIds {
    key: hmac::Key,
}

impl SignedIds {
    /// Bytes of an id.
    pub(crate) const LEN: usize = NONCE_BYTES + SIGNATURE_BYTES;

    /// With this key.
    pub(crate) fn new(key: hmac::Key) -> Self {
        Self { key }
    }

    fn signed(&self, nonce: [u8; NONCE_BYTES]) -> ConnectionId {
        let signature = hmac::sign(&self.key, &nonce);
        let mut id = [0; Self::LEN];
        for (to, from) in id.iter_mut().zip(nonce.iter().chain(signature.as_ref())) {
            *to = *from;
        }
        ConnectionId::new(&id)
    }
}

impl ConnectionIdGenerator for SignedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).expect("the system's random numbers do not fail once it is up");
        self.signed(nonce)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let nonce = id.first_chunk().copied().ok_or(InvalidCid)?;
        if self.signed(nonce) == *id { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        Self::LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn ids(secret: &[u8]) -> SignedIds {
        SignedIds::new(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    #[test]
    fn ids_are_known_again_with_the_same_key_only() {
        let id = ids(b"one").generate_cid();
        assert_eq!(id.len(), ids(b"one").cid_len());
        assert!(ids(b"one").validate(&id).is_ok());
        // Two bytes of signature agree by chance now and then, ten times in a row they do not.
        let mut one = ids(b"one");
        assert!((0..10).any(|_| ids(b"two").validate(&one.generate_cid()).is_err()));
    }

    #[test]
    fn ids_of_another_length_are_not_ours() {
        for strange in [&[][..], &[1; 2], &[1; 3], &[1; 8], &[1; 20]] {
            assert!(ids(b"one").validate(&ConnectionId::new(strange)).is_err());
        }
    }
}
