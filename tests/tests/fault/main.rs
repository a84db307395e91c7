//! The fault suite: real gateways, real databases, and what befalls them. Each story ends
//! with the history checker, which also refuses a run in which nothing happened.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what it needs by failing, and what it measured on standard error"
)]

mod commit_reply_lost;
mod database_restart;
mod database_stall;
mod full_disk;
mod gateway_kill;
mod gateway_pause;
mod locked_database;
mod redis;
