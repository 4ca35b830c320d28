//! A small HTTP/1.1 client that does what it is told: bytes out, one answer in.
//!
//! Light enough to share two processors with what it measures.

use std::io;
use std::net::SocketAddr;
use std::str;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any file; an answer beyond it is none.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection that is kept open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, in the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The status line and the headers.
    pub head: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Where the parts of an answer are.
struct Parts {
    status: u16,
    head: usize,
    body: usize,
    end: usize,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(32 * 1024) })
    }

    /// Sends a request and waits for the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.received.clear();
        self.stream.write_all(request).await?;
        let parts = loop {
            if let Some(parts) = parts(&self.received)? {
                break parts;
            }
            if self.received.len() > ANSWER_BYTES_MAX {
                return Err(malformed("an answer without end"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        Ok(Answer {
            status: parts.status,
            head: str::from_utf8(&self.received[..parts.head]).map_err(io::Error::other)?,
            body: &self.received[parts.body..parts.end],
        })
    }
}

impl Answer<'_> {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// Whether it is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A request as a phone makes it.
pub fn request(method: &str, host: SocketAddr, path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let length = body.map(|body| format!("Content-Length: {}\r\n", body.len()));
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\
         User-Agent: AVAYA/9611-6.8502 (MAC:00040d5ab3c1)\r\n{}\r\n",
        length.unwrap_or_default()
    )
    .into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    request
}

/// Finds the parts once all are there.
fn parts(received: &[u8]) -> io::Result<Option<Parts>> {
    let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = str::from_utf8(&received[..head]).map_err(io::Error::other)?;
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| malformed("no status"))?;
    let length = match header(text, "content-length") {
        Some(digits) => digits.parse().map_err(|_| malformed("no Content-Length"))?,
        None if status == 204 || status == 304 => 0_usize,
        None => return Err(malformed("an answer without Content-Length")),
    };
    let body = head.strict_add(4);
    let end = body.strict_add(length);
    Ok((received.len() >= end).then_some(Parts { status, head, body, end }))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
