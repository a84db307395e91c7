//! The end-to-end suite: gateways as real processes, clients over QUIC, each story on
//! SQLite and on PostgreSQL, each run judged by the checker.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test says what it needs by failing"
)]

mod first_chat;
