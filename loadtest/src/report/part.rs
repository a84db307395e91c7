//! Parts of the report that one scenario alone has.

use serde::Serialize;

use crate::latency::Quantiles;

/// What a busy conversation did beside those that were measured.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct BesideFigures {
    /// Bytes of history that were read.
    pub bytes_read: u64,
    /// Messages that were sent.
    pub messages: u64,
}

/// Groups, and what one delivery to one member costs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupFigures {
    /// How many.
    pub groups: usize,
    /// Members of each.
    pub members: usize,
    /// CPU seconds of the gateway per 100,000 deliveries.
    pub cpu_s_per_100k_deliveries: Option<f64>,
    /// UDP payload on both links for each delivery.
    pub wire_bytes_per_delivery: Option<f64>,
}

/// Sessions that lost their connections all at once and came back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Storm {
    /// How many.
    pub sessions: usize,
    /// From the moment when all came back until the last one had what it had missed, in seconds.
    pub storm_s: f64,
    /// Messages that they had missed, and got.
    pub missed: u64,
    /// Connections and sign-ins that had to be tried again.
    pub tries_again: u64,
    /// The chat beside it before the storm, delivery.
    pub calm_delivery_ms: Quantiles,
    /// CPU of the server per session, in microseconds.
    pub server_us_per_session: Option<f64>,
}

/// A network that was dark, or a gateway that was away, and came back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Blackout {
    /// How often.
    pub rounds: usize,
    /// How long each time, in seconds.
    pub dark_s: f64,
    /// From the moment when it was back to the first delivery to each user, all rounds.
    pub back_ms: Quantiles,
    /// The same to the first delivery to anybody, of each round.
    pub first_ms: Vec<f64>,
    /// Users who had no delivery while it was waited for.
    pub unheard: u64,
}

/// What a visit of one person takes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Visit {
    /// Conversations of the account.
    pub conversations: usize,
    /// Those in which something was said since the last visit, and were read.
    pub changed: usize,
    /// Messages that were missed.
    pub missed: usize,
    /// From the end of the handshake to the last missed message, in the link's round trips (the median);
    /// only over a link with a delay.
    pub round_trips: Option<f64>,
    /// UDP payload both ways of a first visit: a full handshake.
    pub wire_bytes_full: f64,
    /// The same with a resumed TLS session.
    pub wire_bytes_resumed: f64,
    /// Of that, until the handshake was done.
    pub wire_bytes_handshake: f64,
    /// Visits.
    pub visits: u64,
    /// Those of them that came with early data (0-RTT): one in three, if the server gives what it takes.
    pub early_visits: u64,
    /// Those of them whose early data the server took.
    pub early_accepted: u64,
    /// Of these: from the first packet's leaving to the first missed message, in milliseconds (the
    /// median).
    pub first_missed_ms: Option<f64>,
    /// The same of visits with a full handshake.
    pub first_missed_full_ms: f64,
    /// Bytes of the bodies that a visit missed, as they came (the median).
    pub missed_bytes: f64,
}
