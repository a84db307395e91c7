//! What carries Petrel's frames: connections with many streams. Gateway and client speak to the
//! types here and do not see which transport is below.
//!
//! A stream is bidirectional, opened by either side, and has a sending half ([`SendStream`]) and a
//! receiving one ([`RecvStream`]). What both promise is what QUIC promises (RFC 9000 §2, §3):
//! bytes in order, flow control by stream and by connection, a direction finished, reset or stopped
//! by itself with a number, a connection closed with a number and a reason.

#![warn(missing_docs)]

pub mod priority;

mod congestion;
mod connection;
mod error;
mod mux;
mod stream;
pub mod tcp;

pub use congestion::congestion_control;
pub use connection::{Connection, Kind, Stats};
pub use error::{ClosedStream, ConnectionError, ReadError, SendDatagramError, WriteError};
pub use mux::{Driver, Settings, Side};
pub use stream::{Chunk, RecvStream, SendStream, Written};
