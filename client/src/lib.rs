//! Petrel's client: signs in, stays signed in, sends each message until it has
//! an answer, and hands out each conversation's entries once and in order.
//!
//! The specification is docs/protocol.md. **Invariant:** this crate knows
//! `petrel-proto` and nothing else of ours.

mod backoff;
mod body;
mod client;
mod conversation;
mod cursor;
mod dialer;
mod dictionary;
mod error;
mod event;
mod event_queue;
mod file_link;
mod frames;
mod id;
mod identity;
mod incoming;
mod options;
mod outbox;
mod outbox_file;
mod receipt;
mod request;
mod session;
mod shared;
mod state;
mod stream;
mod timeline;
mod tls;
mod watch;

pub use body::{BODY_BYTES_MAX, Undecodable};
pub use client::{Client, Events, Stats};
pub use cursor::Cursor;
pub use dialer::{Dialer, DialerOptions, Server, Transport, endpoint_config};
pub use error::{ClientError, SendError, SendOutcomeError};
pub use event::{
    Acked, ConversationRef, Entry, Event, GapReason, Observer, OfflineReason, Preview, Receipt,
    Refused, kind,
};
pub use id::{ConversationId, DeviceId, IdError, MessageClock, MessageId, UserId};
pub use identity::{Identity, Secret, Token};
pub use options::{ClientOptions, OutboxPlace};
pub use petrel_proto::code::Code;
pub use quinn;
pub use request::{Page, PageRequest, Summaries, Summary, UserFound};
pub use tls::{Trust, client_config as tls_config};
