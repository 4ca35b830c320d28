//! The small HTTP server for machines that watch this one: metrics, liveness, readiness.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bruri_domain::limits::{METRICS_CONNECTIONS_MAX, METRICS_SECONDS_MAX};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// There is no event for "a file descriptor is free again".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// What is shown.
#[derive(Clone)]
struct Shown {
    registry: Registry,
    readiness: watch::Receiver<bool>,
}

/// Answers `/metrics`, `/livez` and `/readyz` until the stop.
pub async fn serve_metrics(
    listener: TcpListener,
    registry: Registry,
    readiness: watch::Receiver<bool>,
    stop: CancellationToken,
) -> io::Result<()> {
    let shown = Shown { registry, readiness };
    let room = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection for metrics");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shown = shown.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            // Whoever watches asks again: nothing is lost with a connection cut at the stop.
            let _ = stop.run_until_cancelled(serve_connection(stream, shown)).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// One request a connection, so that nobody holds a place for long.
async fn serve_connection(stream: TcpStream, shown: Shown) {
    let limit = Duration::from_secs(METRICS_SECONDS_MAX);
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &shown);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limit, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for metrics failed"),
        Err(_) => tracing::debug!("a request for metrics took too long"),
    }
}

fn respond(method: &Method, path: &str, shown: &Shown) -> Response<Full<Bytes>> {
    let (status, content_type, text) = match path {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served\n".to_owned())
        }
        "/metrics" => metrics(&shown.registry),
        "/livez" => (StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" if *shown.readiness.borrow() => (StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, TEXT, "see /metrics, /livez and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn metrics(registry: &Registry) -> (StatusCode, HeaderValue, String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, METRICS_TEXT, text),
        Err(error) => {
            tracing::error!(%error, "failed to write the metrics as text");
            (StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see the log\n".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Server {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn server() -> Server {
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("backups_total", "Backups.").unwrap();
        counter.inc_by(7);
        registry.register(Box::new(counter)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, readiness) = watch::channel(false);
        let stop = CancellationToken::new();
        let server = serve_metrics(listener, registry, readiness, stop.clone());
        Server { address, ready, stop, served: TaskTracker::new().spawn(server) }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_liveness_and_readiness_are_served_and_nothing_else() {
        let server = server().await;
        let metrics = ask(server.address, "GET /metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(metrics.contains("\nbackups_total 7\n"), "{metrics}");
        assert!(ask(server.address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(server.address, "GET /readyz").await.starts_with("HTTP/1.1 503 "));
        server.ready.send_replace(true);
        assert!(ask(server.address, "GET /readyz").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(server.address, "GET /").await.starts_with("HTTP/1.1 404 "));
        assert!(ask(server.address, "PUT /metrics").await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn a_stop_ends_the_server_though_a_client_says_nothing() {
        let server = server().await;
        let _silent = TcpStream::connect(server.address).await.unwrap();
        // The silent client was accepted before this one was answered.
        ask(server.address, "GET /livez").await;

        server.stop.cancel();

        timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn more_connections_than_there_are_places_wait() {
        let server = server().await;
        let mut silent = Vec::new();
        for _ in 0..METRICS_CONNECTIONS_MAX {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let waiting = ask(server.address, "GET /livez");
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());

        silent.pop();

        let answer = timeout(Duration::from_secs(5), waiting).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
