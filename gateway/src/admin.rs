//! The admin HTTP port: `/livez`, `/readyz`, `/metrics`. On loopback only.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::health::Health;

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
    connections: usize,
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let draining = admin.gateway.stopping.is_cancelled();
    let storage = admin.health.storage();
    let ready = !draining && storage.reachable;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let connections = admin.gateway.doors.connections();
    let answer = Ready { ready, draining, storage, connections };
    // These types always serialise.
    let body = serde_json::to_string(&answer).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body + "\n")
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    admin.health.sample_gauges(&admin.gateway);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.render())
}
