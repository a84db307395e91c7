//! Clients that mean harm, against real gateways; and the same against quinn's default settings, where
//! it does harm: so the attacks are attacks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test says what it needs by failing"
)]

mod address;
mod amplification;
mod handshake;
mod memory;
mod stock;
mod stream;
