//! What clients do beyond their rates.

use metrics::{counter, describe_counter};

/// What a client did beyond its rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Excess {
    /// Frames; reading waited.
    Frames,
    /// Frames on the control stream; reading waited.
    Control,
    /// Streams opened; accepting waited.
    Streams,
    /// Datagrams; dropped.
    Datagrams,
    /// Streams that ended without a word; closed.
    SilentStreams,
    /// Pieces of streams behind holes; closed.
    Fragments,
    /// Packets; closed.
    Packets,
    /// Changes of its address; closed.
    PathChanges,
    /// Challenges of addresses; closed.
    PathProbes,
}

impl Excess {
    const ALL: [Self; 9] = [
        Self::Frames,
        Self::Control,
        Self::Streams,
        Self::Datagrams,
        Self::SilentStreams,
        Self::Fragments,
        Self::Packets,
        Self::PathChanges,
        Self::PathProbes,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Control => "control",
            Self::Streams => "streams",
            Self::Datagrams => "datagrams",
            Self::SilentStreams => "silent_streams",
            Self::Fragments => "fragments",
            Self::Packets => "packets",
            Self::PathChanges => "path_changes",
            Self::PathProbes => "path_probes",
        }
    }
}

/// A client went beyond a rate.
pub(crate) fn excess(what: Excess) {
    counter!("petrel_gateway_excess_total", "what" => what.label()).increment(1);
}

/// Shows all of them from the start.
pub(super) fn begin_at_zero() {
    for what in Excess::ALL {
        counter!("petrel_gateway_excess_total", "what" => what.label()).absolute(0);
    }
}

pub(super) fn describe() {
    describe_counter!(
        "petrel_gateway_excess_total",
        "Times that a client was held up or closed because it went beyond a rate, by what it did."
    );
}
