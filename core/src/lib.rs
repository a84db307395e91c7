//! Petrel's rules: identities, limits, what may be said by whom, how a
//! conversation's log is ordered and read.
//!
//! **Invariant:** nothing in this crate performs IO, reads a clock, draws a
//! random number or knows of protobuf, SQL, Redis or QUIC. Time, randomness
//! and ids come in as arguments; storage is reached through the ports in
//! [`store`].

pub mod account;
pub mod change;
pub mod conversation;
pub mod entry;
pub mod error;
pub mod event;
pub mod group;
pub mod id;
pub mod limits;
pub mod member_settings;
pub mod rate;
pub mod relation;
pub mod store;
pub mod text;
