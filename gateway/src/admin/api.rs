//! The admin API over HTTP: one POST for each command of the table, `Authorization: Bearer`,
//! JSON in and out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};
use tokio::sync::Semaphore;

use super::arguments::Given;
use super::openapi;
use super::problem::Problem;
use super::table::{self, Command};
use super::token::AdminToken;
use crate::gateway::Gateway;
use crate::{clock, metrics};

/// Bytes of a request's body, at the most.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body has to be here after this.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands that are carried out at once; one more is refused.
const AT_ONCE: usize = 8;
/// Failed authentications in the long run, a second; and at once.
const FAILURES: (u32, u32) = (1, 10);

/// What the API needs.
#[derive(Debug)]
pub(crate) struct Api {
    gateway: Arc<Gateway>,
    token: AdminToken,
    failures: Mutex<Bucket>,
    turns: Semaphore,
}

impl Api {
    /// Of this gateway, for who has the token.
    pub(crate) fn new(gateway: Arc<Gateway>, token: AdminToken) -> Self {
        Self { gateway, token, failures: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }

    /// Who does not have the token is told so; soon that he comes too often. Who has it is never kept
    /// out by others' failures: it cannot be guessed, so what is bounded is what they cost.
    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        if token.is_some_and(|token| self.token.is(token)) {
            return Ok(());
        }
        let rate = Rate::new(FAILURES.0, FAILURES.1);
        let taken = self.failures.lock().take(rate, clock::monotonic_ns());
        if let Err(wait_ns) = taken {
            metrics::admin_refused("rate_limited");
            let text = "too many failed authentications";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", text);
            return Err(problem.after(wait_ns.div_ceil(1_000_000)));
        }
        metrics::admin_refused("unauthenticated");
        tracing::warn!(target: "petrel::audit", "a caller of the admin API without its token was refused");
        let text = "Authorization: Bearer TOKEN is missing or wrong; the token is in admin.token in the data directory";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", text))
    }
}

/// Answers everything below `/admin`.
pub(super) async fn serve(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    match answer(&api, request).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(api: &Arc<Api>, request: Request<Body>) -> Result<String, Problem> {
    // Before anything else: without the token nobody learns even what there is.
    api.authenticate(request.headers())?;
    let path = request.uri().path().strip_prefix("/admin/v1/").unwrap_or_default();
    if path == "openapi.json" && request.method() == Method::GET {
        return Ok(openapi::document().to_string());
    }
    let found = path.split_once('/').and_then(|(group, name)| table::find(group, name));
    let Some(command) = found else {
        let text = "there is no such command; GET /admin/v1/openapi.json lists all";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_command", text));
    };
    if request.method() != Method::POST {
        let text = "commands are posted";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", text));
    }
    check_content_type(request.headers())?;
    let body = read(request.into_body()).await?;
    let Ok(_turn) = api.turns.try_acquire() else {
        let text = format!("{AT_ONCE} commands are being carried out");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", text);
        return Err(problem.after(1_000));
    };
    carry_out(api, command, &body).await
}

/// A page in a browser can send forms to this port, but no JSON.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = "content-type: application/json is missing";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text))
}

async fn read(body: Body) -> Result<bytes::Bytes, Problem> {
    let too_large = || {
        let text = format!("a body has {BODY_BYTES_MAX} bytes at the most");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    };
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(read) => read.map_err(|_| too_large()),
        Err(_) => {
            let text = "the body did not come in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text))
        }
    }
}

async fn carry_out(api: &Api, command: &'static Command, body: &[u8]) -> Result<String, Problem> {
    let given = Given::read(command, body).inspect_err(|problem| {
        metrics::admin_call(command, problem.code);
    })?;
    let shown = given.shown(command);
    let answered = (command.run)(Arc::clone(&api.gateway), given).await;
    let result = answered.as_ref().map_or_else(|problem| problem.code, |_| "ok");
    metrics::admin_call(command, result);
    if command.changes {
        // What was tried and refused, too.
        tracing::info!(
            target: "petrel::audit",
            command = ?command,
            arguments = shown,
            result,
            "an operator's command"
        );
    }
    Ok(answered?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_json_is_taken() {
        for (given, taken) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("multipart/form-data; boundary=application/json"), false),
            (Some("text/plain; application/json"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(given));
            }
            assert_eq!(check_content_type(&headers).is_ok(), taken, "{given:?}");
        }
    }
}
