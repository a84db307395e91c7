//! The end-to-end suite: gateways as real processes, clients over QUIC, each story on
//! SQLite and on PostgreSQL, runs judged by the checker.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test says what it needs by failing"
)]

mod absence;
mod account;
mod admin;
mod background;
mod bad_input;
mod bad_sign_in;
mod beside;
mod block;
mod capacity;
mod certificate;
mod change;
mod contact;
mod dedupe;
mod deploy;
mod dictionary;
mod first_chat;
mod group;
mod issuer;
mod large_group;
mod list;
mod metrics;
mod operator;
mod presence;
mod preview;
mod receipt;
mod rights;
mod slow_consumer;
mod somebody;
mod stop;
mod stream;
mod tcp;
mod terminal;
mod token;
mod typing;
mod witness;
