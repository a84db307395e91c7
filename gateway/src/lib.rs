//! The gateway: QUIC connections, sessions, streams; admission through
//! `petrel-core`, storage through its writers, fan-out after the commit.
//!
//! **Invariant:** only `server.rs` names concrete stores, only `translate.rs`
//! speaks both wire and core, and no task of a session waits for another session.

pub mod admin;
pub mod authority;
pub mod config;
pub mod doctor;
pub mod server;
pub mod telemetry;

mod account;
mod attach;
mod attention;
mod auth;
mod body;
mod change;
mod clock;
mod cluster;
mod conduct;
mod connection;
mod connection_id;
mod control;
mod conversation_table;
mod datagram;
mod dictionaries;
mod directory_mirror;
mod dispatch;
mod doors;
mod drain;
mod early;
mod endpoint;
mod fanout;
mod gateway;
mod guard;
mod health;
mod intake;
mod issuer;
mod keys;
mod metrics;
mod pace;
mod password;
mod presence;
mod process;
mod receipts;
mod revoked;
mod seen;
mod send_order;
mod send_queue;
mod session;
mod session_table;
mod session_writer;
mod stream;
mod tcp;
mod tls_sessions;
mod translate;
mod typing;

pub mod seed;

pub use keys::{development_fingerprint, make_data_dir, valid_until};
