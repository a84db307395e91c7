//! The client against a server that says exactly what each test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking; the module serves this binary alone"
)]

mod server;

mod sending;
mod session;
mod showing;
