//! What the log says, and what it never says.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::PgPool;
use tracing::subscriber::DefaultGuard;

use crate::kit::{PATIENCE, Site};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what this thread logs, on which a test's tasks all run.
    fn keep() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The edge's lines since the last time.
    fn take(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| line.contains("bruri_edge")).map(str::to_owned).collect()
    }

    /// The next lines: what is said of a connection is said when it has ended.
    async fn wait(&self) -> Vec<String> {
        let lines = async {
            loop {
                let lines = self.take();
                if !lines.is_empty() {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, lines).await.unwrap()
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn each_request_leaves_one_line_without_secrets(pool: PgPool) {
    let (log, _guard) = Log::keep();
    let site = Site::start(pool).await;
    let agent = "User-Agent: AVAYA/J179-4.0 (MAC:64C3549e5334)\r\nAuthorization: Basic c2VjcmV0";
    let request = "PUT /299_16XXdata.txt HTTP/1.1\r\nContent-Length: 8\r\n";
    assert_eq!(site.ask(format!("{request}{agent}\r\n\r\nname=Eve")).await.status, 201);
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "INFO bruri_edge: phone request",
        "method=\"PUT\"",
        "file.name=\"299_16xxdata.txt\"",
        "status=201",
        "bytes.in=8",
        "bytes.out=0",
        "duration_ms=",
        "phone.address=127.0.0.1",
        "phone.mac=\"64c3549e5334\"",
        "phone.agent=\"AVAYA/J179-4.0 (MAC:64C3549e5334)\"",
        "dot=london/",
    ] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    for secret in ["c2VjcmV0", "Eve", "Authorization"] {
        assert!(!lines[0].contains(secret), "{secret} in {}", lines[0]);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_refused_path_is_shown_escaped_and_short(pool: PgPool) {
    let (log, _guard) = Log::keep();
    let site = Site::start(pool).await;
    site.get("/x\"y.php").await;
    site.get(&format!("/{}_16xxdata.txt", "1".repeat(300))).await;
    let mut lines = log.take();
    assert_eq!(lines.len(), 2, "{lines:?}");
    site.put("/\u{1b}[31m", b"").await;
    lines.extend(log.wait().await);
    assert!(
        lines[0].contains("status=400") && lines[0].contains("path=/x\\\"y.php"),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("not a phone's file name"), "{}", lines[0]);
    assert!(lines[1].contains("111…") && lines[1].len() < 700, "{}", lines[1]);
    assert!(lines[2].contains("no HTTP request") && !lines[2].contains('\u{1b}'), "{}", lines[2]);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_speaks_tls_is_noticed(pool: PgPool) {
    let (log, _guard) = Log::keep();
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n").await;
    client.reply().await;
    drop(client);
    let lines = log.wait().await;
    assert!(lines[0].contains("set its BRURI to http://"), "{lines:?}");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_failure_of_the_database_is_logged_with_its_cause(pool: PgPool) {
    let (log, _guard) = Log::keep();
    let site = Site::start(pool).await;
    site.pool.close().await;
    site.get("/1_16xxdata.txt").await;
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("status=503"), "{}", lines[0]);
    assert!(lines[0].contains("the database did not answer as it should"), "{}", lines[0]);
}
