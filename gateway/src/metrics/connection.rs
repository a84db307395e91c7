//! Connections: how many there are, came, were turned away and ended, by transport.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use petrel_transport::{ConnectionError, Kind};

/// A connection attempt was turned away or did not come about.
pub(crate) fn connection_refused(kind: Kind, reason: &'static str) {
    let transport = kind.label();
    counter!("petrel_gateway_connections_refused_total", "transport" => transport, "reason" => reason)
        .increment(1);
}

/// A connection's handshake is done.
pub(crate) fn connection_accepted(kind: Kind) {
    counter!("petrel_gateway_connections_accepted_total", "transport" => kind.label()).increment(1);
}

/// A connection ended.
pub(crate) fn connection_closed(kind: Kind, reason: Option<&ConnectionError>) {
    let transport = kind.label();
    let reason = match reason {
        None | Some(ConnectionError::LocallyClosed) => "here",
        Some(ConnectionError::ApplicationClosed { .. }) => "client",
        Some(ConnectionError::TimedOut) => "silence",
        Some(ConnectionError::Reset) => "reset",
        Some(_) => "transport",
    };
    counter!("petrel_gateway_connections_closed_total", "transport" => transport, "reason" => reason)
        .increment(1);
}

/// How many live, on TCP alone, and how many may.
pub(crate) fn connections(all: usize, on_tcp: usize, max: usize) {
    gauge!("petrel_gateway_connections").set(all as f64);
    gauge!("petrel_gateway_connections_tcp").set(on_tcp as f64);
    gauge!("petrel_gateway_connections_max").set(max as f64);
}

/// Counters that have not counted yet.
pub(super) fn begin_at_zero() {
    for transport in [Kind::Quic.label(), Kind::Tcp.label()] {
        counter!("petrel_gateway_connections_accepted_total", "transport" => transport).absolute(0);
        for reason in ["rate", "full", "saturated", "source", "handshake", "handshake_timeout"] {
            counter!("petrel_gateway_connections_refused_total", "transport" => transport, "reason" => reason)
                .absolute(0);
        }
        for reason in ["here", "client", "silence", "reset", "transport"] {
            counter!("petrel_gateway_connections_closed_total", "transport" => transport, "reason" => reason)
                .absolute(0);
        }
    }
}

/// Names and meanings for the exporter.
pub(super) fn describe() {
    for (name, help) in [
        (
            "petrel_gateway_connections_refused_total",
            "Connection attempts that did not become connections, by transport and reason.",
        ),
        (
            "petrel_gateway_connections_accepted_total",
            "Connections whose handshake was done, by transport.",
        ),
        (
            "petrel_gateway_connections_closed_total",
            "Connections that ended, by transport and by who ended them.",
        ),
    ] {
        describe_counter!(name, help);
    }
    for (name, help) in [
        ("petrel_gateway_connections", "Connections that live."),
        ("petrel_gateway_connections_tcp", "Connections that live on TCP; counted there too."),
        ("petrel_gateway_connections_max", "Connections at once, at the most."),
    ] {
        describe_gauge!(name, help);
    }
}
