//! What the server says: passed on as our own log lines, the last ones kept for error messages.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStderr;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Lines kept for an error message.
const LINES_KEPT_MAX: usize = 8;
/// Bytes of one line; what is longer is cut.
const LINE_BYTES_MAX: usize = 2048;
/// How long the last lines of a server that has ended are waited for: processes of it that have not
/// noticed yet hold the pipe open.
const DRAIN: Duration = Duration::from_millis(200);

const READY: &str = "database system is ready to accept connections";

type Kept = Arc<Mutex<VecDeque<String>>>;

/// What a server says.
pub(super) struct Output {
    kept: Kept,
    ready: watch::Receiver<bool>,
    listener: JoinHandle<()>,
}

impl Output {
    /// Begins to listen; must be called within a runtime.
    pub(super) fn listen(stderr: Option<ChildStderr>) -> Self {
        let kept = Kept::default();
        let (says_ready, ready) = watch::channel(false);
        let listener = listen(stderr, Arc::clone(&kept), says_ready);
        // Ends with the pipe, so nobody needs to wait for it.
        Self { kept, ready, listener: TaskTracker::new().spawn(listener) }
    }

    /// Waits until the server says that it takes connections; for ever where it ends before.
    pub(super) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let mut ready = self.ready.clone();
        async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits a moment for what an ended server said last.
    pub(super) async fn drain(&mut self) {
        if !self.listener.is_finished() {
            // Late lines are only missing from an error message.
            let _ = timeout(DRAIN, &mut self.listener).await;
        }
    }

    /// The last lines, as one.
    pub(super) fn last_said(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

async fn listen(stderr: Option<ChildStderr>, kept: Kept, ready: watch::Sender<bool>) {
    let Some(stderr) = stderr else { return };
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    // A pipe that cannot be read is at its end as far as we are concerned.
    while let Ok(true) = read_line(&mut reader, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        pass_on(&text);
        if text.contains(READY) {
            ready.send_replace(true);
        }
        keep(&kept, &text);
    }
}

/// Keeps a line that may say why the server ends; what it only reports does not.
fn keep(kept: &Kept, line: &str) {
    if split(line).0 == "LOG" {
        return;
    }
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= LINES_KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(line.trim().to_owned());
}

/// Reads a line into `line`, cut at [`LINE_BYTES_MAX`]; false at the end.
async fn read_line<R>(reader: &mut R, line: &mut Vec<u8>) -> io::Result<bool>
where
    R: tokio::io::AsyncBufRead + Unpin,
{
    line.clear();
    loop {
        let read = reader.fill_buf().await?;
        if read.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = read.iter().position(|&byte| byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(read.len(), |end| end.saturating_add(1));
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Logs a line at the level that the server gave it.
fn pass_on(line: &str) {
    let (severity, text) = split(line);
    match severity {
        // FATAL ends a session, not the server: every client that is cut off at a stop gets one.
        "PANIC" => tracing::error!(target: "postgres", "{text}"),
        "FATAL" | "ERROR" | "WARNING" => tracing::warn!(target: "postgres", "{text}"),
        severity if severity.starts_with("DEBUG") => {
            tracing::debug!(target: "postgres", "{text}");
        }
        _ => tracing::info!(target: "postgres", "{text}"),
    }
}

/// `FATAL:  text` is a severity and a text; a line of another form is all text.
fn split(line: &str) -> (&str, &str) {
    match line.split_once(":  ") {
        Some((severity, text)) if severity.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            (severity, text.trim())
        }
        _ => ("", line.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_severity_and_text() {
        assert_eq!(split("FATAL:  no such role"), ("FATAL", "no such role"));
        assert_eq!(split("DEBUG1:  x:  y"), ("DEBUG1", "x:  y"));
        assert_eq!(split("\tcontinued:  here"), ("", "continued:  here"));
        assert_eq!(split("postgres: no such file"), ("", "postgres: no such file"));
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_the_next_one_is_whole() {
        let long = "x".repeat(LINE_BYTES_MAX * 5);
        let text = format!("{long}\nnext\nlast");
        let mut reader = BufReader::new(text.as_bytes());
        let mut line = Vec::new();

        assert!(read_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(read_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line, b"next");
        assert!(read_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line, b"last");
        assert!(!read_line(&mut reader, &mut line).await.unwrap());
    }
}
