//! `bruri phone`, run as people run it, against a server that answers one request with fixed bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::{Command, Output},
    thread::JoinHandle,
};

use tempfile::TempDir;

struct Server {
    address: SocketAddr,
    served: JoinHandle<String>,
}

impl Server {
    /// Answers one request when `body_bytes` of its body have come.
    fn answering(answer: &'static str, body_bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request, body_bytes) {
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "the request is cut off");
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        Self { address, served }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn is_whole(request: &[u8], body_bytes: usize) -> bool {
    let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    end.is_some_and(|end| request.len() >= end.strict_add(4).strict_add(body_bytes))
}

fn bruri(dir: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bruri"));
    command.current_dir(dir.path()).arg("phone").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What was printed, but for the time, which is never the same.
fn without_time(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("  time ")).collect()
}

#[test]
fn a_backup_is_sent_as_a_phone_sends_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("299_16xxdata.txt"), "Redial=1\r\n").unwrap();
    let server =
        Server::answering("HTTP/1.1 201 Created\r\nETag: \"a\"\r\nContent-Length: 0\r\n\r\n", 10);
    let (url, address) = (server.url("/"), server.address);

    let output = bruri(&dir, &["put", &url, "299_16xxdata.txt"]);

    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let told = format!(
        "PUT http://{address}/299_16xxdata.txt\n  status    201 Created\n  sent      10 bytes\n  \
         received  0 bytes\n  etag      \"a\"\n"
    );
    assert_eq!(without_time(&stdout(&output)), told);
    let version = env!("CARGO_PKG_VERSION");
    let sent = format!(
        "PUT /299_16xxdata.txt HTTP/1.1\r\nHost: {address}\r\nUser-Agent: AVAYA/bruri-{version}\r\n\
         Content-Length: 10\r\n\r\nRedial=1\r\n"
    );
    assert_eq!(server.served.join().unwrap(), sent);
}

#[test]
fn a_restore_puts_the_bytes_where_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nRedial=1", 0);
    let output = bruri(&dir, &["get", &server.url("/PhoneBackup"), "299_16xxdata.txt"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(dir.path().join("299_16xxdata.txt")).unwrap(), b"Redial=1");
    // Phones want UTF-16.
    assert!(stdout(&output).contains("  screen    Retrieval failed\n"), "{}", stdout(&output));
    let request = server.served.join().unwrap();
    assert!(request.starts_with("GET /PhoneBackup/299_16xxdata.txt HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains("Content-Length"), "{request}");
}

#[test]
fn on_standard_output_there_are_the_bytes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::answering("HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nRedial=1", 0);
    let output = bruri(&dir, &["get", &server.url("/299_16xxdata.txt"), "-"]);
    assert_eq!(stdout(&output), "Redial=1");
    assert!(stderr(&output).contains("  status    200 OK\n"), "{}", stderr(&output));
}

#[test]
fn user_and_password_are_sent_unasked_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let server = Server::answering(answer, 0);
    let url = format!("http://299:secret@{}/299_16xxdata.txt", server.address);
    let output = bruri(&dir, &["delete", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains("secret"), "{}", stdout(&output));
    let request = server.served.join().unwrap();
    assert!(request.contains("\r\nAuthorization: Basic Mjk5OnNlY3JldA==\r\n"), "{request}");
    assert!(request.starts_with("DELETE /299_16xxdata.txt HTTP/1.1\r\n"), "{request}");
}

#[test]
fn a_refusal_ends_with_1_and_the_words_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nno such file\n";
    let server = Server::answering(answer, 0);
    let output =
        bruri(&dir, &["get", &server.url("/299_16xxdata.txt"), "299_16xxdata.txt", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "bruri: 404 Not Found: no such file\n");
    assert!(!dir.path().join("299_16xxdata.txt").exists());
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let expected = serde_json::json!({
        "method": "GET", "url": server.url("/299_16xxdata.txt"), "status": 404,
        "reason": "Not Found", "sent_bytes": null, "received_bytes": 13,
        "seconds": report["seconds"], "etag": null, "screen": "Retrieval failed",
        "complaint": "no such file",
    });
    assert_eq!(report, expected);
}

#[test]
fn a_server_that_cannot_answer_now_ends_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\ntry again\n";
    let server = Server::answering(answer, 0);
    let output = bruri(&dir, &["get", &server.url("/299_16xxdata.txt")]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stderr(&output), "bruri: 503 Service Unavailable: try again\n");
}

#[test]
fn where_nobody_listens_it_ends_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bruri(&dir, &["get", &format!("http://{address}/299_16xxdata.txt")]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stderr(&output), format!("bruri: no answer from {address}: nobody listens there\n"));
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let output = bruri(&dir, &["get", "ftp://h/299_16xxdata.txt"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "bruri: expected an address that begins with http://\n");
}
