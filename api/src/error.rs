//! Every error of the API has one form: `{"code":"NOT_FOUND","message":"..."}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::access::AccessError;
use crate::host::HostError;

/// The body of an error.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// Kind of the error, for programs.
    #[schema(example = "NOT_FOUND")]
    pub code: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Status of the answer.
    pub status: StatusCode,
    /// Kind, for programs.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// Seconds after which a retry may help.
    pub retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// 401: no or wrong credentials.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// 401 of a login.
    pub fn bad_login() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "BAD_USERNAME_OR_PWD",
            "wrong user name or password",
        )
    }

    /// 403: known, and not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 404: it does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 405: that resource does not do this.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "this resource does not know this method; see /api/v1/openapi.json",
        )
    }

    /// 409: it exists already, or is not in the state for it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// 413: the body is too large.
    pub fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            format!(
                "expected a body of at most {} bytes",
                crate::server::MAX_BODY
            ),
        )
    }

    /// 415: the body is not JSON.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            "expected `content-type: application/json`",
        )
    }

    /// 429: too often.
    pub fn too_many(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOO_MANY_REQUESTS",
                format!("too many wrong passwords from this address; wait {retry_after} s"),
            )
        }
    }

    /// 500: it was tried and failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", message)
    }

    /// 503: not now, or not in this configuration.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NotFound(why) => Self::not_found(why),
            HostError::Invalid(why) => Self::bad_request(why),
            HostError::Conflict(why) => Self::conflict(why),
            HostError::Unavailable(why) => Self::unavailable(why),
            HostError::Failed(why) => Self::internal(why),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let text = error.to_string();
        match error {
            AccessError::Exists(_) | AccessError::LastAdmin => Self::conflict(text),
            AccessError::Unknown(_) => Self::not_found(text),
            AccessError::Name | AccessError::Password | AccessError::TooMany(_) => {
                Self::bad_request(text)
            }
            AccessError::Configured => Self::conflict(text),
            AccessError::NoMajority => Self::unavailable(text),
            AccessError::Write { .. } | AccessError::Read { .. } | AccessError::Random => {
                Self::internal(text)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            code: self.code.to_owned(),
            message: self.message,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Not `Basic`: a browser would ask with a window of its own.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The errors that every route may answer, for the OpenAPI description.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "read by the derive alone")]
pub enum CommonErrors {
    /// The request makes no sense: a wrong type, an unknown field or parameter.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// No token, or one that has expired.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// The role does not allow this.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// It does not exist.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// It exists already, or is not in a state for this.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is not JSON.
    #[response(status = 415)]
    UnsupportedMediaType(ErrorBody),
    /// Too many wrong passwords.
    #[response(status = 429)]
    TooManyRequests(ErrorBody),
    /// It was tried and failed.
    #[response(status = 500)]
    Internal(ErrorBody),
    /// Not now, or not in this configuration.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}
