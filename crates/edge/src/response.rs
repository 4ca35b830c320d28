//! Answers: an explicit length, nothing compressed, chunked or elsewhere, and the headers that phones need.

use bruri_domain::limits::EDGE_RETRY_AFTER_SECONDS;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::{EdgeError, conditional::Validators};

/// The methods that there are.
pub(crate) const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, DELETE, OPTIONS");

/// Tells how fresh the answer to a GET or HEAD is.
pub(crate) const FRESHNESS: HeaderName = HeaderName::from_static("bruri-freshness");

/// What phones are sent.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    set_common(answer.headers_mut());
    answer
}

/// 204, telling the methods.
pub(crate) fn options() -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    answer.headers_mut().insert(header::ALLOW, ALLOW);
    answer
}

/// 200 with the served version; after HEAD, `content` is empty and only its length is told.
pub(crate) fn served(validators: Validators, bytes: usize, content: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(content));
    let headers = answer.headers_mut();
    set_common(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    set_validators(headers, validators);
    answer
}

/// 304.
pub(crate) fn unchanged(validators: Validators) -> Answer {
    let mut answer = empty(StatusCode::NOT_MODIFIED);
    set_validators(answer.headers_mut(), validators);
    answer
}

/// One line of text that says what was wrong and what to do.
pub(crate) fn refused(error: &EdgeError) -> Answer {
    let status = error.status();
    let text = Bytes::from(format!("{error}\n"));
    let length = text.len();
    let mut answer = Response::new(Full::new(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    set_common(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, ALLOW);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(EDGE_RETRY_AFTER_SECONDS));
    }
    answer
}

fn set_common(headers: &mut HeaderMap) {
    // A proxy on the way must not answer in our place, since the next GET may find a newer version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn set_validators(headers: &mut HeaderMap, validators: Validators) {
    headers.insert(header::ETAG, validators.etag);
    if let Some(date) = validators.last_modified {
        headers.insert(header::LAST_MODIFIED, date);
    }
}
