//! Commands about the gateways of a cluster, and about draining this one.

use serde_json::{Value, json};

use super::arguments::Given;
use super::problem::Problem;
use crate::cluster::NodeView;
use crate::gateway::Gateway;

/// Sessions that are sent away in a second unless it is said.
const RATE_DEFAULT: u64 = 100;

pub(super) fn status(gateway: &Gateway) -> Value {
    let own = gateway.cluster.own();
    let row = |view: &NodeView| {
        let is_own = view.node.id == own.id;
        json!({
            "name": view.node.name, "node": view.node.id.to_string(), "address": view.node.address,
            "clients": view.node.clients, "version": view.node.version,
            "state": if view.has_left { "left" } else if view.node.is_draining { "draining" } else { "serving" },
            "silent_ms": u64::try_from(view.silent.as_millis()).unwrap_or(u64::MAX),
            "up_s": view.age.as_secs(),
            "link": if is_own { "this one" } else if view.is_linked { "up" } else { "down" },
        })
    };
    let nodes: Vec<_> = gateway.cluster.view().iter().map(row).collect();
    json!({ "name": own.name, "clustered": gateway.cluster.is_on(), "nodes": nodes })
}

pub(super) fn start_drain(gateway: &Gateway, given: &Given) -> Value {
    let rate = u32::try_from(given.count("rate", RATE_DEFAULT)).unwrap_or(u32::MAX);
    gateway.begin_to_drain(rate);
    drain_status(gateway)
}

pub(super) fn drain_status(gateway: &Gateway) -> Value {
    let left = gateway.sessions.all().len();
    match gateway.drain.progress() {
        Some(at) => json!({
            "draining": true, "rate": at.rate_per_s, "seconds": at.since.as_secs(), "began_with": at.sessions,
            "told": at.told, "sessions": left,
        }),
        None => json!({
            "draining": false, "rate": 0, "seconds": 0, "began_with": 0, "told": 0, "sessions": left,
        }),
    }
}

pub(super) fn abort_drain(gateway: &Gateway) -> Result<Value, Problem> {
    if gateway.stopping.is_cancelled() {
        return Err(Problem::invalid("drain", "the gateway is stopping"));
    }
    gateway.abort_drain();
    Ok(drain_status(gateway))
}
