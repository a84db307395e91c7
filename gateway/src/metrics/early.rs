//! Metrics of connections that come back: early data, and addresses that are known.

use metrics::{counter, describe_counter};

/// What became of a frame that came before its connection's handshake was done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Early {
    /// It was carried out at once.
    Executed,
    /// It waited for the handshake.
    Waited,
}

impl Early {
    const ALL: [Self; 2] = [Self::Executed, Self::Waited];

    fn label(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Waited => "waited",
        }
    }
}

/// What became of early data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EarlyData {
    /// A stream of it was read before the handshake was done.
    Accepted,
    /// The TLS session that it came with is not known (any more), so that it cannot be read.
    Rejected,
}

impl EarlyData {
    const ALL: [Self; 2] = [Self::Accepted, Self::Rejected];

    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// A frame came before its connection's handshake was done.
pub(crate) fn early(what: Early) {
    counter!("petrel_gateway_early_frames_total", "result" => what.label()).increment(1);
}

/// A connection came with early data, or with a TLS session that would have allowed it.
pub(crate) fn early_data(result: EarlyData) {
    counter!("petrel_gateway_early_data_total", "result" => result.label()).increment(1);
}

/// A connection attempt came from an address that had proven itself before, by a token.
pub(crate) fn address_known() {
    counter!("petrel_gateway_addresses_known_total").increment(1);
}

pub(super) fn begin_at_zero() {
    for what in Early::ALL {
        counter!("petrel_gateway_early_frames_total", "result" => what.label()).absolute(0);
    }
    for result in EarlyData::ALL {
        counter!("petrel_gateway_early_data_total", "result" => result.label()).absolute(0);
    }
    counter!("petrel_gateway_addresses_known_total").absolute(0);
}

pub(super) fn describe() {
    for (name, help) in [
        (
            "petrel_gateway_early_frames_total",
            "Frames that came before their connection's handshake was done: carried out, or put off until then.",
        ),
        (
            "petrel_gateway_early_data_total",
            "Connections with early data that was read, and those whose TLS session was not known (any more).",
        ),
        (
            "petrel_gateway_addresses_known_total",
            "Connection attempts whose address was known by a token of an earlier connection.",
        ),
    ] {
        describe_counter!(name, help);
    }
}
