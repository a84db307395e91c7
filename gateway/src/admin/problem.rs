//! Why a command was not carried out, as the API tells it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use petrel_core::error::Rejection;
use serde_json::json;

use crate::translate;

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    /// A code's label (docs/protocol.md), or one of the API's own.
    pub(super) code: &'static str,
    field: Option<String>,
    text: String,
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// One of the API's own.
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, field: None, text: text.into(), retry_after_ms: None }
    }

    /// An argument has a value that is not allowed.
    pub(super) fn invalid(field: impl Into<String>, text: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid", text);
        Self { field: Some(field.into()), ..problem }
    }

    /// What an argument names is not there.
    pub(super) fn not_found(field: &str, text: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::NOT_FOUND, "not_found", text);
        Self { field: Some(field.to_owned()), ..problem }
    }

    /// When to come again.
    pub(super) fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let status = match &rejection {
            Rejection::Invalid { .. } | Rejection::BadBody { .. } => StatusCode::BAD_REQUEST,
            Rejection::NotFound => StatusCode::NOT_FOUND,
            Rejection::Forbidden { .. } => StatusCode::FORBIDDEN,
            Rejection::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Rejection::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            other if other.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        let code = translate::code(&rejection).label();
        match rejection {
            Rejection::Invalid { field, problem } => Self::invalid(field, problem),
            Rejection::RateLimited { retry_after_ms } => {
                Self::new(status, code, rejection.to_string()).after(retry_after_ms)
            }
            rejection => Self::new(status, code, rejection.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = json!({
            "code": self.code, "text": self.text, "field": self.field,
            "retry_after_ms": self.retry_after_ms,
        });
        let body = json!({ "error": error }).to_string() + "\n";
        let mut answer =
            (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(ms) = self.retry_after_ms {
            answer.headers_mut().insert(header::RETRY_AFTER, ms.div_ceil(1000).max(1).into());
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}
