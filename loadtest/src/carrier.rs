//! What carries connections.

use serde::Serialize;

/// What carries connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// QUIC alone.
    #[default]
    Quic,
    /// TLS on TCP alone.
    Tcp,
}
