//! One request and its answer: parsed, handled, counted, and one line in the log.

use std::{convert::Infallible, error::Error, fmt, sync::Arc, time::Duration};

use bruri_domain::{Dot, FileName, Phone, limits::EDGE_LOGGED_PATH_BYTES_MAX};
use bruri_store::Mark;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    Edge, EdgeError, PhoneRequest, backup, body,
    connections::{Connection, Phase},
    delivery::{Delivery, Told},
    fresh::Origin,
    metrics,
    response::{self, Answer},
    restore, sources,
};

/// A request that was done.
pub(crate) struct Done {
    pub(crate) answer: Answer,
    /// The version that was stored or served.
    pub(crate) dot: Option<Dot>,
    /// Why the phone did not get what it asked for.
    pub(crate) error: Option<EdgeError>,
}

impl Done {
    /// With an answer, and nothing to tell of it.
    pub(crate) fn with(answer: Answer) -> Self {
        Self { answer, dot: None, error: None }
    }

    /// The phone is told why not.
    pub(crate) fn refused(error: EdgeError) -> Self {
        Self { answer: response::refused(&error), dot: None, error: Some(error) }
    }

    /// Tells the phone how fresh the answer is.
    pub(crate) fn from(mut self, origin: Origin) -> Self {
        self.answer.headers_mut().insert(response::FRESHNESS, origin.header());
        self
    }
}

/// Answers one request.
pub(crate) async fn answer(
    edge: &Edge,
    (connection, delivery): (&Connection, &Arc<Delivery>),
    request: Request<Incoming>,
) -> Result<Response<Told>, Infallible> {
    connection.enter(Phase::Busy);
    delivery.next();
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    let phone = Phone::new(connection.address(), user_agent(&head.headers));
    let parsed =
        sources::admit(phone.address).and_then(|()| PhoneRequest::parse(&head.method, &head.uri));
    let (mut asked, mut progress) = (None, body::Progress::default());
    let result = match parsed {
        Ok(parsed) => {
            let upload = Upload { body: &mut body, progress: &mut progress, connection, delivery };
            handle(edge, asked.insert(parsed), &head.headers, &phone, upload).await
        }
        Err(error) => Err(error),
    };
    let Done { mut answer, dot, error } = result.unwrap_or_else(Done::refused);
    if !progress.is_whole && !body.is_end_stream() {
        // What is left of the body is not worth reading; the stream lingers until the phone has heard.
        connection.leave_unread();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let line =
        Line { head: &head, asked: asked.as_ref(), phone: &phone, bytes_in: progress.bytes, error };
    line.write(&answer, dot.as_ref(), started.elapsed());
    connection.enter(Phase::Idle);
    Ok(answer.map(|content| Told::new(content, delivery)))
}

fn user_agent(headers: &HeaderMap) -> &[u8] {
    headers.get(header::USER_AGENT).map_or(&[], HeaderValue::as_bytes)
}

/// A body that may be read, and the connection that it comes on.
struct Upload<'a> {
    body: &'a mut Incoming,
    progress: &'a mut body::Progress,
    connection: &'a Connection,
    delivery: &'a Delivery,
}

async fn handle(
    edge: &Edge,
    asked: &PhoneRequest,
    headers: &HeaderMap,
    phone: &Phone,
    upload: Upload<'_>,
) -> Result<Done, EdgeError> {
    match asked {
        PhoneRequest::Restore(name) => {
            upload.delivery.ask(mark(edge, name, phone));
            restore::restore(edge, name, headers, upload.delivery).await
        }
        PhoneRequest::Look(name) => restore::look(edge, name, headers).await,
        PhoneRequest::Backup(name) => {
            body::admit(headers, upload.body)?;
            let content = receive(edge, upload).await?;
            backup::store(edge, name, phone.clone(), Some(content.bytes.clone())).await
        }
        PhoneRequest::Remove(name) => backup::store(edge, name, phone.clone(), None).await,
        PhoneRequest::Report => Err(EdgeError::Report),
        PhoneRequest::Options => Ok(Done::with(response::options())),
    }
}

fn mark(edge: &Edge, name: &FileName, phone: &Phone) -> Mark {
    Mark { file: edge.file(name), phone: phone.into() }
}

async fn receive(edge: &Edge, upload: Upload<'_>) -> Result<body::Content, EdgeError> {
    let reader = body::Reader {
        body: upload.body,
        limits: &edge.inner.limits,
        large_bodies: &edge.inner.large_bodies,
        progress: upload.progress,
    };
    upload.connection.enter(Phase::Receiving);
    let content = reader.whole().await;
    upload.connection.enter(Phase::Busy);
    content
}

/// What the log says of a request: never a body, never `Authorization`.
struct Line<'a> {
    head: &'a Parts,
    asked: Option<&'a PhoneRequest>,
    phone: &'a Phone,
    bytes_in: usize,
    error: Option<EdgeError>,
}

impl Line<'_> {
    fn write(&self, answer: &Answer, dot: Option<&Dot>, took: Duration) {
        let file = self.asked.and_then(PhoneRequest::file_name).map(bruri_domain::FileName::as_str);
        let agent = Some(self.phone.user_agent.as_str()).filter(|agent| !agent.is_empty());
        let path = file.is_none().then(|| tracing::field::display(Escaped(self.head.uri.path())));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "bruri_edge",
                    method = method(&self.head.method),
                    file.name = file,
                    path = path,
                    status = answer.status().as_u16(),
                    bytes.in = self.bytes_in,
                    bytes.out = answer.body().size_hint().exact(),
                    duration_ms = millis(took),
                    phone.address = %self.phone.address,
                    phone.mac = self.phone.mac.as_deref(),
                    phone.agent = agent,
                    dot = dot.map(tracing::field::display),
                    error = self.error.as_ref().map(|error| error as &dyn Error),
                    "phone request"
                )
            };
        }
        match answer.status() {
            StatusCode::INTERNAL_SERVER_ERROR => line!(error),
            StatusCode::SERVICE_UNAVAILABLE => line!(warn),
            _ => line!(info),
        }
        let operation = self.asked.map_or("none", PhoneRequest::operation);
        metrics::answered(operation, answer.status(), took);
    }
}

/// The beginning of a path, fit for a line of a log.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_bytes();
        match bytes.get(..EDGE_LOGGED_PATH_BYTES_MAX) {
            Some(beginning) => write!(f, "{}…", beginning.escape_ascii()),
            None => write!(f, "{}", bytes.escape_ascii()),
        }
    }
}

/// A method is made of letters, but may have any number of them.
fn method(method: &Method) -> &str {
    method.as_str().get(..16).unwrap_or(method.as_str())
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}
