//! A bare QUIC relay, the yardstick for the gateway's CPU: A → server → B with
//! an ack to A, and nothing else. No storage, no protobuf, no sequence: frames
//! are opaque, of the sizes that Petrel's have, routed by what their stream
//! joined. QUIC and TLS settings are the gateway's and the client's.

#![allow(
    clippy::disallowed_methods,
    reason = "its tasks are bounded by the connections it was asked for and end with them"
)]

pub mod client;
pub mod frame;
pub mod server;
