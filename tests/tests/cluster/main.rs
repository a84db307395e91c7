//! Several gateways on one PostgreSQL, as real processes, and what befalls them. Each story ends with the
//! history checker.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what it needs by failing, and what it measured on standard error"
)]

mod chat;
mod cut;
mod ephemeral;
mod hot;
mod kill;
mod link;
mod rolling;
mod services;
mod strangers;
mod versions;
