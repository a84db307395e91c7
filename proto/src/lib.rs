//! Petrel's wire: frames, codes, versions, body compression.
//!
//! The specification is docs/protocol.md. **Invariant:** this crate does no IO
//! and knows nothing of the other crates.

pub mod code;
pub mod compression;
pub mod echo;
pub mod frame;
pub mod probe;
#[cfg(feature = "sample-text")]
pub mod sample_text;
pub mod version;

/// The messages of proto/schema, as generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated code; the schema carries the documentation"
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/petrel.v1.rs"));
}
