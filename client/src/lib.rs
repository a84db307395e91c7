//! Petrel's client: signs in, stays signed in, sends each message until it has
//! an answer, and hands out each conversation's entries once and in order.
//!
//! The specification is docs/protocol.md. **Invariant:** this crate knows
//! `petrel-proto` and nothing else of ours.

mod arrivals;
mod attention;
mod backoff;
mod body;
mod client;
mod control;
mod conversation;
mod cursor;
mod datagram;
mod device;
mod dialer;
mod dictionary;
mod draft;
mod echo;
mod entry;
mod error;
mod event;
mod event_queue;
mod fallback;
mod file_link;
mod frames;
mod id;
mod identity;
mod incoming;
mod keep_alive;
mod line;
mod logged;
mod options;
mod outbox;
mod outbox_file;
mod own_log;
mod presence;
mod race;
mod receipt;
mod request;
mod session;
mod shared;
mod stand_by;
mod state;
mod stats;
mod stream;
mod tend;
#[cfg(feature = "terminal")]
pub mod terminal;
mod timeline;
mod tls;
mod typing;
mod unrest;
mod watch;
mod way_back;

pub use attention::Attention;
pub use body::{BODY_BYTES_MAX, Undecodable};
pub use client::{Client, Events};
pub use cursor::Cursor;
pub use dialer::{Dialer, DialerOptions, Server, Transport, endpoint_config};
pub use draft::{Draft, MENTIONS_MAX, REACTION_BYTES_MAX};
pub use entry::{EVERYBODY, Entry, EntryState, Preview, Reaction, kind};
pub use error::{ClientError, SendError, SendOutcomeError};
pub use event::{
    Acked, ConversationRef, Event, GapReason, Observer, OfflineReason, Receipt, Refused,
};
pub use fallback::Transports;
pub use id::{ConversationId, DeviceId, IdError, MessageClock, MessageId, UserId};
pub use identity::{Identity, Secret, Token};
pub use logged::{GroupEvent, OwnChange, OwnEvent};
pub use options::{ClientOptions, OutboxPlace};
pub use petrel_proto::code::Code;
pub use petrel_transport::Kind as TransportKind;
pub use quinn;
pub use request::{
    Account, AccountCommand, Audience, Contact, ContactCommand, Contacts, Device, Friendship,
    Group, GroupCommand, GroupProfile, JoinBy, JoinRequest, JoinRequests, Joins, Link, LinkSecret,
    ListRequest, Member, MemberSettings, Members, Page, PageRequest, Password, Privacy, Role,
    Setting, Summaries, Summary, UserFound,
};
pub use stats::Stats;
pub use timeline::{Quoted, Redraw, Timeline};
pub use tls::{Trust, client_config as tls_config};
