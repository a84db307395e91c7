//! Ids as the client sees them: 16 bytes each, shown as UUIDs where they are
//! made as such and as hexadecimal where they are derived.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why text or bytes are no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an id has 16 bytes (32 hexadecimal digits)")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id that these bytes are.
            ///
            /// # Errors
            /// [`IdError`] unless there are exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError)
            }

            /// Its bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            pub(crate) fn to_bytes(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                uuid::Uuid::try_parse(text)
                    .map(|id| Self(id.into_bytes()))
                    .map_err(|_| IdError)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id! {
    /// A user.
    UserId
}
id! {
    /// A device of a user.
    DeviceId
}
id! {
    /// A conversation.
    ConversationId
}
id! {
    /// A message, named by its sender (UUIDv7), or an entry that the server made.
    MessageId
}

impl ConversationId {
    /// The conversation of two users, the same whoever asks.
    pub fn of_pair(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self::derived(b"petrel pair 1", &[low, high])
    }

    /// A user's own log.
    pub fn of_user(user: UserId) -> Self {
        Self::derived(b"petrel user 1", &[user])
    }

    fn derived(domain: &[u8], users: &[UserId]) -> Self {
        let mut hash = Sha256::new();
        hash.update(domain);
        for user in users {
            hash.update(user.0);
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl MessageId {
    /// The last eight bytes: random, so enough to tell messages of one conversation apart.
    pub fn tail(&self) -> [u8; 8] {
        let mut tail = [0; 8];
        tail.copy_from_slice(&self.0[8..]);
        tail
    }
}

/// Makes message ids that rise, however the clock jumps.
#[derive(Debug, Default)]
pub struct MessageClock {
    time_ms: u64,
    /// The 74 bits of a UUIDv7 that are not time, version or variant.
    rest: u128,
}

const REST_BITS: u32 = 74;
const TIME_MS_MAX: u64 = (1 << 48) - 1;

impl MessageClock {
    /// The next id: of this time, or, if the last one was not earlier, just
    /// above it. `random` is fresh for each call.
    pub fn next(&mut self, now_ms: u64, random: u128) -> MessageId {
        let now_ms = now_ms.min(TIME_MS_MAX);
        if now_ms > self.time_ms {
            self.time_ms = now_ms;
            // One bit stays free, so that many ids of one millisecond fit above it.
            self.rest = random >> (128 - REST_BITS + 1);
        } else {
            self.rest += 1 + (random & 0xffff_ffff);
            if self.rest >> REST_BITS != 0 {
                self.time_ms = (self.time_ms + 1).min(TIME_MS_MAX);
                self.rest = random & 0xffff_ffff;
            }
        }
        let high = self.rest >> 62;
        let low = self.rest & ((1 << 62) - 1);
        let value = (u128::from(self.time_ms) << 80) | (7 << 76) | (high << 64) | (2 << 62) | low;
        MessageId(value.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_version_7_and_rise_even_when_the_clock_goes_back() {
        let mut clock = MessageClock::default();
        let mut last = clock.next(5_000, u128::MAX);
        for (now, random) in [(5_000, u128::MAX), (5_000, 0), (4_000, 7), (5_001, 0), (1, 1)] {
            let id = clock.next(now, random);
            assert!(id > last, "{id} after {last}");
            let uuid = uuid::Uuid::from_bytes(id.0);
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            last = id;
        }
        for _ in 0..100_000 {
            let id = clock.next(0, u128::MAX);
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn a_pairs_conversation_is_the_same_from_both_sides() {
        let (a, b) = (UserId([1; 16]), UserId([2; 16]));
        assert_eq!(ConversationId::of_pair(a, b), ConversationId::of_pair(b, a));
        assert_ne!(ConversationId::of_pair(a, b), ConversationId::of_pair(a, a));
    }

    #[test]
    fn ids_are_written_and_read_as_text() {
        let id = UserId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("alice".parse::<UserId>(), Err(IdError));
        assert_eq!(UserId::from_slice(&[1; 15]), Err(IdError));
    }
}
