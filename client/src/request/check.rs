//! What answers carry, checked: lengths of texts and lists, ids, numbers that stand for something.

use bytes::Bytes;

use crate::error::ClientError;
use crate::id::{ConversationId, DeviceId, UserId};
use crate::incoming;

/// Bytes of a name, a label or a nickname that are believed.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// Bytes of a text or a reference that are believed.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a page's position that are kept for the next request.
const PAGE_BYTES_MAX: usize = 1_024;
/// Ids in one list, at the most.
const IDS_MAX: usize = 1_024;

fn protocol(what: &str, problem: &str) -> ClientError {
    ClientError::Protocol(format!("{what} {problem}"))
}

/// A text of at most `max` bytes.
pub(crate) fn text(what: &str, text: String, max: usize) -> Result<String, ClientError> {
    if text.len() > max {
        return Err(protocol(what, "that is too long"));
    }
    Ok(text)
}

/// Bytes of at most `max`.
pub(crate) fn bytes(what: &str, bytes: Bytes, max: usize) -> Result<Bytes, ClientError> {
    if bytes.len() > max {
        return Err(protocol(what, "that is too long"));
    }
    Ok(bytes)
}

pub(super) fn page(page: Bytes) -> Result<Bytes, ClientError> {
    bytes("a page's position", page, PAGE_BYTES_MAX)
}

pub(crate) fn user(bytes: &Bytes) -> Result<UserId, ClientError> {
    incoming::user_id(bytes).map_err(super::bad)
}

pub(crate) fn users(ids: &[Bytes]) -> Result<Vec<UserId>, ClientError> {
    if ids.len() > IDS_MAX {
        return Err(protocol("a list of users", "that is too long"));
    }
    ids.iter().map(user).collect()
}

pub(crate) fn device(bytes: &Bytes) -> Result<DeviceId, ClientError> {
    DeviceId::from_slice(bytes).map_err(|_| protocol("a device's id", "of another size"))
}

pub(crate) fn conversation(bytes: &Bytes) -> Result<ConversationId, ClientError> {
    ConversationId::from_slice(bytes)
        .map_err(|_| protocol("a conversation's id", "of another size"))
}

pub(super) fn bytes_32(what: &str, bytes: &Bytes) -> Result<[u8; 32], ClientError> {
    <[u8; 32]>::try_from(bytes.as_ref()).map_err(|_| protocol(what, "of another size"))
}

/// An argument of the application's that is too long.
pub(super) fn argument(what: &str, len: usize, max: usize) -> Result<(), ClientError> {
    if len > max {
        return Err(ClientError::Invalid(format!("{what}: {len} bytes; at most {max}")));
    }
    Ok(())
}

/// The same for a list.
pub(super) fn argument_count(what: &str, len: usize, max: usize) -> Result<(), ClientError> {
    if len > max {
        return Err(ClientError::Invalid(format!("{what}: {len}; at most {max} at once")));
    }
    Ok(())
}

/// Makes an enum of wire numbers that keeps those of newer versions.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value of a newer version.
            Other(u32),
        }

        impl $name {
            /// The value with this number of the wire's.
            pub fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            /// Its number on the wire.
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }
        }
    };
}

pub(super) use numbered;
