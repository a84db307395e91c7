//! What is said in groups, and by which id.

use bytes::Bytes;
use petrel_proto::compression::{self, DICTIONARIES};

use crate::body::{self, Bodies};
use crate::ledger::Id;

/// One text as it travels.
#[derive(Clone, Debug)]
pub struct Text {
    /// How it is encoded.
    pub encoding: u32,
    /// The body of the frame.
    pub bytes: Bytes,
    /// [`body::hash`] of the plain text.
    pub hash: u64,
}

/// The texts of a run: encoded once, and recognised by their bytes.
#[derive(Debug)]
pub struct Texts(Vec<Text>);

impl Texts {
    /// The texts as a client with all shipped dictionaries sends them.
    pub fn new(bodies: &Bodies) -> Self {
        let known: Vec<u32> = DICTIONARIES.iter().map(|d| d.version.number()).collect();
        let texts = (0..bodies.count()).map(|index| {
            let plain = bodies.get(index);
            let encoded = compression::encode_for(&plain.text, &known);
            Text { encoding: encoded.encoding.number(), bytes: encoded.bytes, hash: plain.hash }
        });
        Self(texts.collect())
    }

    /// The text of the message with this number.
    pub fn of(&self, message: u32) -> &Text {
        &self.0[message as usize % self.0.len()]
    }

    /// Whether a body is that of this message. One that was encoded anew is decoded.
    pub fn is(&self, message: u32, encoding: u64, bytes: &[u8]) -> bool {
        let text = self.of(message);
        if u64::from(text.encoding) == encoding && text.bytes == bytes {
            return true;
        }
        let Ok(encoding) = u32::try_from(encoding) else { return false };
        let plain = compression::decode(encoding, bytes, body::BODY_BYTES_MAX);
        plain.is_ok_and(|plain| body::hash(&plain) == text.hash)
    }
}

/// How messages are numbered in their ids: UUIDv7, the number in the last four bytes, the run's
/// tag before it.
#[derive(Clone, Copy, Debug)]
pub struct Numbering([u8; 6]);

impl Numbering {
    /// That of a new run.
    pub fn random() -> Self {
        let mut tag: [u8; 6] = rand::random();
        tag[0] = 0x70 | (tag[0] & 0x0f);
        tag[2] = 0x80 | (tag[2] & 0x3f);
        Self(tag)
    }

    /// The id of a message that is made at this Unix time in milliseconds.
    pub fn id(&self, message: u32, now_ms: u64) -> Id {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[6..12].copy_from_slice(&self.0);
        id[12..].copy_from_slice(&message.to_be_bytes());
        id
    }

    /// The number of a message of this run.
    pub fn number(&self, id: &[u8]) -> Option<u32> {
        let number = id.get(12..16)?.try_into().ok()?;
        (id[6..12] == self.0).then(|| u32::from_be_bytes(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_id() {
        let (one, other) = (Numbering::random(), Numbering([0x70, 1, 0x80, 2, 3, 4]));
        let id = one.id(70_000, 1_760_000_000_000);
        assert_eq!(one.number(&id), Some(70_000));
        assert_eq!(other.number(&id), None);
        assert_eq!(uuid::Uuid::from_bytes(id).get_version_num(), 7);
        assert_eq!(one.number(&id[..15]), None);
    }

    #[test]
    fn a_text_is_recognised_also_when_it_was_encoded_anew() {
        let bodies = Bodies::generated(3, 20, 300);
        let texts = Texts::new(&bodies);
        let text = texts.of(5);
        assert!(texts.is(5, u64::from(text.encoding), &text.bytes));
        assert!(texts.is(5, 0, &bodies.get(5).text));
        assert!(!texts.is(6, u64::from(text.encoding), &text.bytes));
        assert!(!texts.is(5, 0, b"something else"));
    }
}
