//! The client against a server that says exactly what each test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests fail by panicking and end with their runtime; the module serves this binary alone"
)]

mod server;

mod attention;
mod changes;
mod dictionary;
mod early;
mod network;
mod own_log;
mod passing;
mod people;
mod sending;
mod session;
mod showing;
