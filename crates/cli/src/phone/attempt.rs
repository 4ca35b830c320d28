//! One HTTP/1.1 request, tried once, as phones do (B189 administering guide, p. 74).

use std::{
    error::Error,
    io,
    time::{Duration, Instant},
};

use bruri_wire::limits::{CLI_ANSWER_BYTES_MAX, CLI_ANSWER_SECONDS_MAX};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::address::Address;
use crate::failure::Failure;

/// Servers let nobody else in where they look for this word (observed, unconfirmed).
const USER_AGENT: &str = concat!("AVAYA/bruri-", env!("CARGO_PKG_VERSION"));

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
    /// From dialling to the last byte.
    pub(crate) took: Duration,
}

/// Sends it and reads the whole answer.
pub(crate) async fn attempt(
    method: &Method,
    address: &Address,
    body: Option<Bytes>,
) -> Result<Answer, Failure> {
    let started = Instant::now();
    let limit = Duration::from_secs(CLI_ANSWER_SECONDS_MAX);
    let unreachable = |cause: String| {
        Failure::Unreachable(format!("no answer from {}: {cause}", address.authority))
    };
    let answer = tokio::time::timeout(limit, exchange(method, address, body))
        .await
        .map_err(|_| unreachable(format!("{CLI_ANSWER_SECONDS_MAX} seconds went by")))?
        .map_err(|error| unreachable(innermost(error.as_ref())))?;
    let (head, body) = answer.into_parts();
    let etag = head.headers.get(header::ETAG);
    Ok(Answer {
        status: head.status,
        etag: etag.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body,
        took: started.elapsed(),
    })
}

type BoxError = Box<dyn Error + Send + Sync>;

async fn exchange(
    method: &Method,
    address: &Address,
    body: Option<Bytes>,
) -> Result<hyper::Response<Bytes>, BoxError> {
    let request = request(method, address, body)?;
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await?;
    let asking = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, CLI_ANSWER_BYTES_MAX).collect().await?.to_bytes();
        // With it goes the sender, which ends the connection.
        Ok(hyper::Response::from_parts(head, body))
    };
    // How the connection ends says nothing that the answer does not.
    let (answer, _) = tokio::join!(asking, connection);
    answer
}

fn request(
    method: &Method,
    address: &Address,
    body: Option<Bytes>,
) -> Result<Request<Full<Bytes>>, BoxError> {
    let mut request = Request::builder()
        .method(method)
        .uri(&address.path)
        .header(header::HOST, &address.authority)
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(authorization) = &address.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if let Some(body) = &body {
        // Said for an empty file too.
        request = request.header(header::CONTENT_LENGTH, body.len());
    }
    Ok(request.body(Full::new(body.unwrap_or_default()))?)
}

/// What happened, without the layers around it.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
        _ => cause.to_string(),
    }
}
