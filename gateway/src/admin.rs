//! The admin HTTP port: `/livez`, `/readyz`, `/metrics`, and the admin API below `/admin`, for who
//! has its token. On loopback only; where a monitoring system on another machine has to reach the first
//! three, they are on a port of their own too (`admin.metrics_listen`), which never has the API.

mod api;
mod arguments;
mod cluster;
mod devices;
mod groups;
mod listener;
mod messages;
mod openapi;
mod problem;
mod table;
mod token;
mod users;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::health::Health;

pub(crate) use api::Api;
pub(crate) use listener::FewConnections;
pub use openapi::text as openapi_text;
pub use table::{Argument, COMMANDS, Command, DEFAULT_NAME, Field, GROUPS, Kind, Shape, find};
pub(crate) use token::AdminToken;
pub use token::read_token;

/// A store that answers and has committed nothing for so long (a full disk, a read-only or
/// hanging database) is not ready.
const STALLED_MAX: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
    metrics: PrometheusHandle,
    health: Arc<Health>,
}

/// The routes.
pub(crate) fn routes(
    gateway: Arc<Gateway>,
    metrics: PrometheusHandle,
    health: Arc<Health>,
    token: AdminToken,
) -> Router {
    let api = Arc::new(Api::new(Arc::clone(&gateway), token));
    let guarded = Router::new()
        .route("/admin", any(api::serve))
        .route("/admin/", any(api::serve))
        .route("/admin/{*path}", any(api::serve))
        .with_state(api);
    monitoring_routes(gateway, metrics, health).merge(guarded)
}

/// What may be asked from outside: nothing that changes anything or names anybody.
pub(crate) fn monitoring_routes(
    gateway: Arc<Gateway>,
    metrics: PrometheusHandle,
    health: Arc<Health>,
) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Admin { gateway, metrics, health })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    draining: bool,
    storage: crate::health::StorageHealth,
    /// For how long the oldest commit under way has not succeeded.
    commit_under_way_ms: u64,
    connections: usize,
    /// What works less well than it should, while chat goes on.
    degraded: Vec<&'static str>,
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let draining = admin.gateway.is_going();
    let storage = admin.health.storage();
    let stalled = admin.gateway.writers().stalled();
    let ready = !draining && storage.reachable && stalled < STALLED_MAX;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let connections = admin.gateway.doors.connections();
    let commit_under_way_ms = u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX);
    let degraded = admin.gateway.degraded();
    let answer = Ready { ready, draining, storage, commit_under_way_ms, connections, degraded };
    // These types always serialise.
    let body = serde_json::to_string(&answer).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body + "\n")
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    admin.health.sample_gauges(&admin.gateway);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.render())
}
