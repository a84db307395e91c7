//! What both stores promise, told once and run on each; then seeded sequences
//! of operations that run on both, whose answers must be the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says which seed did"
)]

mod support;

#[path = "conformance/account.rs"]
mod account;
#[path = "conformance/batch.rs"]
mod batch;
#[path = "conformance/change.rs"]
mod change;
#[path = "conformance/generated.rs"]
mod generated;
#[path = "conformance/opening.rs"]
mod opening;
#[path = "conformance/reading.rs"]
mod reading;
#[path = "conformance/target.rs"]
mod target;
