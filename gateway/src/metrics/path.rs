//! Metrics of paths to clients: probes and changes of address.

use std::net::SocketAddr;

use metrics::{Counter, counter, describe_counter};

const PROBES_SENT: &str = "petrel_gateway_probes_sent_total";
const PROBES_RECEIVED: &str = "petrel_gateway_probes_received_total";
const CHANGES: &str = "petrel_gateway_path_changes_total";

/// A client was probed.
pub(crate) fn probe_sent() {
    counter!(PROBES_SENT).increment(1);
}

/// What a Probe that came was.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard {
    /// It was answered.
    Answered,
    /// It came too soon after another.
    Limited,
    /// It is an answer.
    Answer,
}

impl Heard {
    const ALL: [Self; 3] = [Self::Answered, Self::Limited, Self::Answer];

    fn counter(self) -> Counter {
        let result = match self {
            Self::Answered => "answered",
            Self::Limited => "limited",
            Self::Answer => "answer",
        };
        counter!(PROBES_RECEIVED, "result" => result)
    }
}

/// A Probe came.
pub(crate) fn probe_received(heard: Heard) {
    heard.counter().increment(1);
}

/// A client is heard from another address.
pub(crate) fn changed(from: SocketAddr, to: SocketAddr) {
    let what = if from.ip() == to.ip() { "port" } else { "address" };
    counter!(CHANGES, "what" => what).increment(1);
}

/// Shows the counters from the start.
pub(super) fn begin_at_zero() {
    counter!(PROBES_SENT).absolute(0);
    for heard in Heard::ALL {
        heard.counter().absolute(0);
    }
    for what in ["port", "address"] {
        counter!(CHANGES, "what" => what).absolute(0);
    }
}

pub(super) fn describe() {
    describe_counter!(
        PROBES_SENT,
        "Probes sent to clients that did not acknowledge and were silent."
    );
    describe_counter!(PROBES_RECEIVED, "Probes of clients, by what became of them.");
    describe_counter!(
        CHANGES,
        "Times that a client in mid-chat was heard from another port or another address."
    );
}
