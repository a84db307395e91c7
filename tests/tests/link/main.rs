//! Chat over emulated bad networks: real gateways and clients, a relay between them that loses,
//! reorders and blacks out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test says what it needs by failing"
)]

mod address;
mod background;
mod blackout;
mod echo;
mod fallback;
mod over;
mod recorder;
mod replay;
mod return_visit;
