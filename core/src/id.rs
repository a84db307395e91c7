//! Identities. Each is a newtype, so that two of them cannot be swapped; each
//! prints in a log-safe form (hexadecimal, never user text).

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads an id from exactly 16 bytes; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The id's bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid.into_bytes())
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                Uuid::from_bytes(id.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", Uuid::from_bytes(self.0).simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id!(
    /// A person or a bot with an account. Random (UUIDv7), never reused.
    UserId
);
id!(
    /// One device of one user, registered once and signed in many times.
    DeviceId
);
id!(
    /// A conversation. Of a pair it is derived ([`ConversationId::of_pair`]);
    /// of a group it is random.
    ConversationId
);
id!(
    /// A message's name, given by its sender: a UUIDv7. It is also the id of
    /// the entry that the message becomes.
    ClientMessageId
);
id!(
    /// One run of a gateway: made at its start (UUIDv7), so that what an earlier run left behind is
    /// never taken for this one's.
    NodeId
);

impl UserId {
    /// The account that the service's own messages come from: the first 16 bytes of SHA-256 over
    /// `petrel system 1`.
    pub fn of_system() -> Self {
        Self(ConversationId::derived(b"petrel system 1", &[]).0)
    }
}

impl ConversationId {
    /// The conversation of two people: the first 16 bytes of SHA-256 over
    /// `petrel pair 1` and both user ids in byte order, so that first messages
    /// sent from both sides at once meet in one conversation.
    pub fn of_pair(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self::derived(b"petrel pair 1", &[low, high])
    }

    /// A user's own log: the first 16 bytes of SHA-256 over `petrel user 1` and the user's id.
    pub fn of_user(user: UserId) -> Self {
        Self::derived(b"petrel user 1", &[user])
    }

    /// The group that a request makes: the first 16 bytes of SHA-256 over `petrel group 1`, the
    /// caller's id and the request's, so that the same request again makes no second group.
    pub fn of_group(owner: UserId, request: ClientMessageId) -> Self {
        Self::derived(b"petrel group 1", &[owner, UserId(request.0)])
    }

    fn derived(domain: &[u8], users: &[UserId]) -> Self {
        let mut hash = Sha256::new();
        hash.update(domain);
        for user in users {
            hash.update(user.0);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl ClientMessageId {
    /// The Unix time in milliseconds that a UUIDv7 carries in its first 48
    /// bits (RFC 9562 §5.7); `None` if this is not a UUIDv7.
    pub fn time_ms(&self) -> Option<u64> {
        let version = self.0[6] >> 4;
        let variant = self.0[8] >> 6;
        if version != 7 || variant != 0b10 {
            return None;
        }
        let mut time = [0; 8];
        time[2..].copy_from_slice(&self.0[..6]);
        Some(u64::from_be_bytes(time))
    }
}

/// An entry's place in its conversation: 1, 2, 3, ... without holes. Zero is
/// "before the first". Kept below 2^63, so that every store can hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place before this one; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the changes of who may do what in a conversation (members, roles,
/// mutes, blocks). Starts at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RightsVersion(pub u64);

/// SHA-256 of a message's kind, encoding and body as sent. Stored with the
/// entry and changed by nothing afterwards: it decides whether a second send
/// of one id is the same message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// The digest of a message without target and mentions, see [`Self::about`].
    pub fn of(kind: crate::entry::EntryKind, encoding: u32, body: &[u8]) -> Self {
        Self::about(kind, encoding, body, About::default())
    }

    /// The digest of a message as its sender encoded it: SHA-256 over kind (2 bytes),
    /// encoding (4 bytes) and body. A message that has a target or mentions has the highest bit
    /// of its kind set here, and target (8 bytes), the number of mentions (2 bytes) and the
    /// mentioned users stand before the body. Numbers are big-endian.
    pub fn about(
        kind: crate::entry::EntryKind,
        encoding: u32,
        body: &[u8],
        about: About<'_>,
    ) -> Self {
        let mut hash = Sha256::new();
        let is_about = about.target.is_some() || !about.mentions.is_empty();
        let kind = kind.number() | if is_about { 0x8000 } else { 0 };
        hash.update(kind.to_be_bytes());
        hash.update(encoding.to_be_bytes());
        if is_about {
            hash.update(about.target.unwrap_or_default().0.to_be_bytes());
            let mentions = u16::try_from(about.mentions.len()).unwrap_or(u16::MAX);
            hash.update(mentions.to_be_bytes());
            for user in about.mentions {
                hash.update(user.0);
            }
        }
        hash.update(body);
        Self(hash.finalize().into())
    }
}

/// What a message refers to beside its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct About<'a> {
    /// The entry that it replies to or changes.
    pub target: Option<Seq>,
    /// Who is mentioned; at most 65,535.
    pub mentions: &'a [UserId],
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "ContentDigest({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_one_conversation_from_both_sides() {
        let (a, b) = (UserId([1; 16]), UserId([2; 16]));
        assert_eq!(ConversationId::of_pair(a, b), ConversationId::of_pair(b, a));
        assert_ne!(ConversationId::of_pair(a, b), ConversationId::of_pair(a, a));
    }

    #[test]
    fn only_a_uuid_v7_carries_a_time() {
        let id = ClientMessageId::from(Uuid::from_u64_pair(
            (1_700_000_000_123 << 16) | 0x7abc,
            0x8000_0000_0000_0001,
        ));
        assert_eq!(id.time_ms(), Some(1_700_000_000_123));
        assert_eq!(ClientMessageId([0; 16]).time_ms(), None);
        assert_eq!(ClientMessageId([0xff; 16]).time_ms(), None);
    }
}
