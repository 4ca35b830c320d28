//! The accept loop, connections and their end.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bruri_domain::limits::{
    EDGE_BUFFER_BYTES_MAX, EDGE_HEAD_BYTES_MAX, EDGE_HEADERS_MAX, EDGE_LINGER_BYTES_MAX,
    EDGE_RETRY_AFTER_SECONDS,
};
use http::StatusCode;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Edge,
    connections::{Connection, Order, Phase, Place},
    delivery::Delivery,
    exchange, metrics,
    stream::Watched,
};

/// How long to wait for room in the process where no connection ends meanwhile.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Serves phones on `listener` until `stop`; then requests in flight are answered, within their bound,
/// before this returns. Where an edge has several listeners, one token stops them all.
pub async fn serve(listener: TcpListener, edge: Edge, stop: CancellationToken) {
    let connections = edge.inner.connections.clone();
    let limits = edge.inner.limits;
    let tasks = TaskTracker::new();
    let watching = connections.watch(&limits);
    let serving = async {
        tokio::select! {
            () = accept(&listener, &edge, &tasks) => {}
            () = stop.cancelled() => {}
        }
        drop(listener);
        tasks.close();
        connections.end(Order::Drain);
        if timeout(limits.drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "requests in flight did not end in time");
            connections.end(Order::Abandon);
            tasks.wait().await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = serving => {}
    }
}

/// Takes in connections; never ends.
async fn accept(listener: &TcpListener, edge: &Edge, tasks: &TaskTracker) {
    let mut is_short = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                is_short = false;
                take_in(stream, peer, edge, tasks);
            }
            // The phone hung up before it was let in.
            Err(error) if is_of_the_phone(&error) => {}
            Err(error) => {
                let closed = edge.inner.connections.make_room();
                if !is_short {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        connections.closed = closed,
                        "phones cannot be let in; allow the process more open files"
                    );
                }
                is_short = true;
                // Trying again at once would spin until something is closed.
                let _ = timeout(ROOM_WAIT, edge.inner.connections.one_ended()).await;
            }
        }
    }
}

fn is_of_the_phone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn take_in(stream: TcpStream, peer: SocketAddr, edge: &Edge, tasks: &TaskTracker) {
    // Answers are written whole, so nothing is gained by waiting to fill a packet. A phone that has gone
    // already is found out when it is read from.
    let _ = stream.set_nodelay(true);
    match edge.inner.connections.admit(peer) {
        Some(place) => {
            let edge = edge.clone();
            tasks.spawn(async move { converse(&edge, stream, place).await });
        }
        None => refuse(stream, peer, edge, tasks),
    }
}

/// Answers the requests of one connection until either side ends it.
pub(crate) async fn converse<S>(edge: &Edge, stream: S, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = place.connection();
    let delivery = Delivery::new(edge.inner.store.clone());
    let stream = Watched::new(stream, connection.clone(), Arc::clone(&delivery));
    let speaks_tls = stream.speaks_tls();
    let service = service_fn(|request| exchange::answer(edge, (connection, &delivery), request));
    let mut conversation = pin!(http().serve_connection(TokioIo::new(stream), service));
    let ended = loop {
        tokio::select! {
            biased;
            ended = conversation.as_mut() => break ended,
            order = connection.order_given() => {
                if must_go(order, connection) {
                    tracing::debug!(phone.address = %connection.address(), "closed a connection");
                    return;
                }
                conversation.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        log_end(connection, &error, speaks_tls.load(Ordering::Relaxed));
    }
}

/// A request may have come in while the order to close was on its way: it is answered first.
fn must_go(order: Order, connection: &Connection) -> bool {
    match order {
        Order::Drain => false,
        Order::Close => !matches!(connection.phase(), Phase::Receiving | Phase::Busy),
        Order::Abandon => true,
    }
}

/// No timer of hyper's is used: `Connections::watch` bounds every wait for a phone, at less cost per request.
fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // Old clients shut their side once they have asked, and fussy ones look for `Content-Length`.
    http.half_close(true)
        .title_case_headers(true)
        .header_read_timeout(None)
        .max_headers(EDGE_HEADERS_MAX)
        .max_header_size(EDGE_HEAD_BYTES_MAX)
        .max_buf_size(EDGE_BUFFER_BYTES_MAX);
    http
}

fn log_end(connection: &Connection, error: &hyper::Error, speaks_tls: bool) {
    let address = connection.address();
    if !error.is_parse() {
        let error = error as &dyn std::error::Error;
        tracing::debug!(phone.address = %address, error, "a connection ended early");
        return;
    }
    let status = if error.is_parse_too_large() {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    } else {
        StatusCode::BAD_REQUEST
    };
    metrics::refused(status);
    let message = if speaks_tls {
        "a phone speaks TLS where plain HTTP is served; set its BRURI to http://"
    } else {
        "refused what is no HTTP request"
    };
    tracing::info!(
        target: "bruri_edge",
        status = status.as_u16(),
        phone.address = %address,
        error = error as &dyn std::error::Error,
        "{message}"
    );
}

/// Tells a phone that there is no room, without reading what it wants.
fn refuse(stream: TcpStream, peer: SocketAddr, edge: &Edge, tasks: &TaskTracker) {
    metrics::refused(StatusCode::SERVICE_UNAVAILABLE);
    tracing::warn!(
        target: "bruri_edge",
        status = StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        phone.address = %peer.ip().to_canonical(),
        "refused a connection: too many requests are in flight"
    );
    let Ok(place) = edge.inner.refusals.clone().try_acquire_owned() else { return };
    let linger = edge.inner.limits.linger;
    tasks.spawn(async move {
        // A phone that does not wait for it has not missed anything.
        let _ = timeout(linger, tell_no_room(stream)).await;
        drop(place);
    });
}

async fn tell_no_room(mut stream: TcpStream) -> io::Result<()> {
    const TEXT: &str = "too many phones are being served; try again\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nRetry-After: {EDGE_RETRY_AFTER_SECONDS}\r\nConnection: close\r\n\r\n\
         {TEXT}",
        TEXT.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(EDGE_LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Clock, DeploymentKey, SiteName};
    use bruri_store::{Options, Store, committer::Committer, lookup::Reader};
    use sqlx::PgPool;

    use super::*;
    use crate::Limits;

    struct Midnight;

    impl Clock for Midnight {
        fn now_micros(&self) -> u64 {
            0
        }
    }

    /// What a phone at `address` is answered by an edge whose store nobody serves.
    async fn answer_to(pool: PgPool, address: &str, request: &[u8]) -> String {
        let site = SiteName::parse("london").unwrap();
        let key = DeploymentKey::new([1; 32]);
        let options = Options { site, key, clock: std::sync::Arc::new(Midnight) };
        let store = Store::open(pool, options).await.unwrap();
        let ((commits, _), (lookup, _)) =
            (Committer::new(store.clone()), Reader::new(store.clone()));
        let edge = Edge::new(
            store,
            (commits, lookup),
            Arc::new(crate::Alone),
            (Limits::default(), <[u8]>::is_empty),
        );
        let peer = SocketAddr::new(address.parse().unwrap(), 40_000);
        let (mut phone, stream) = tokio::io::duplex(4096);
        phone.write_all(request).await.unwrap();
        phone.shutdown().await.unwrap();
        let place = edge.inner.connections.admit(peer).unwrap();
        converse(&edge, stream, place).await;
        let mut answer = String::new();
        phone.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[sqlx::test(migrator = "bruri_store::MIGRATOR")]
    async fn a_phone_from_elsewhere_is_refused_before_its_body_is_read(pool: PgPool) {
        let request = b"PUT /1_16xxdata.txt HTTP/1.1\r\nExpect: 100-continue\r\n\
                        Content-Length: 3\r\n\r\n";
        for address in ["203.0.113.9", "2001:db8::9", "::ffff:203.0.113.9"] {
            let answer = answer_to(pool.clone(), address, request).await;
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{address}: {answer}");
        }
        let answer = answer_to(pool, "::ffff:192.168.1.9", request).await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n"), "{answer}");
    }
}
