//! Requests that are made once; from one to the next a few bytes change.

use std::net::SocketAddr;
use std::ops::Range;

use bruri_tests::body::{Bodies, encode};
use bruri_tests::http::request;

/// Digits of the extension in a file's name, and in its body.
const EXTENSION_DIGITS: usize = 8;
/// Digits that make a body another one.
const SERIAL_DIGITS: usize = 16;
/// What stands in every body before its serial number; a character has two bytes, the mark too.
const BEFORE: &str = "CLNAME001=";
const SERIAL_AT: usize = 2 + 2 * BEFORE.len();
/// Where the extension stands in a body.
const EXTENSION_AT: usize = SERIAL_AT + 2 * (SERIAL_DIGITS + 1);

/// Backups.
#[derive(Debug)]
pub(crate) struct Put {
    bytes: Vec<u8>,
    name: Range<usize>,
    body: usize,
    serial: u64,
}

/// Restores.
#[derive(Debug)]
pub(crate) struct Get {
    bytes: Vec<u8>,
    name: Range<usize>,
}

impl Put {
    /// Backups of so many bytes, or one less; no two generators begin with the same serial number.
    pub(crate) fn new(address: SocketAddr, bytes: usize) -> Self {
        let serial = rand::random();
        let mut body = encode(format!("{BEFORE}{serial:016x}.{:08}\r\n", 0).chars());
        let rest = Bodies::new(serial).next(bytes.saturating_sub(body.len()).saturating_add(2));
        body.extend_from_slice(rest.get(2..).unwrap_or_default());
        let (bytes, name) = made("PUT", address, Some(&body));
        let body = bytes.len().saturating_sub(body.len());
        Self { bytes, name, body, serial }
    }

    /// The next backup of a file.
    pub(crate) fn request(&mut self, file: u32) -> &[u8] {
        self.serial = self.serial.wrapping_add(1);
        let extension = format!("{file:08}");
        self.bytes[self.name.clone()].copy_from_slice(extension.as_bytes());
        let body = &mut self.bytes[self.body..];
        spread(&format!("{:016x}", self.serial), &mut body[SERIAL_AT..]);
        spread(&extension, &mut body[EXTENSION_AT..]);
        &self.bytes
    }
}

impl Get {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let (bytes, name) = made("GET", address, None);
        Self { bytes, name }
    }

    /// The restore of a file.
    pub(crate) fn request(&mut self, file: u32) -> &[u8] {
        self.bytes[self.name.clone()].copy_from_slice(format!("{file:08}").as_bytes());
        &self.bytes
    }
}

/// Whether a body is one of this file.
pub(crate) fn is_of(body: &[u8], file: u32, bytes: usize) -> bool {
    let digits = body.get(EXTENSION_AT..).unwrap_or_default().iter().step_by(2);
    body.len() == bytes & !1 && digits.take(EXTENSION_DIGITS).eq(format!("{file:08}").as_bytes())
}

/// A request, and where the extension stands in it.
fn made(method: &str, address: SocketAddr, body: Option<&[u8]>) -> (Vec<u8>, Range<usize>) {
    let bytes = request(method, address, &format!("/{:08}_96xxdata.txt", 0), body);
    let begin = method.len().saturating_add(" /".len());
    (bytes, begin..begin.saturating_add(EXTENSION_DIGITS))
}

/// Writes ASCII over UTF-16LE.
fn spread(text: &str, over: &mut [u8]) {
    for (byte, place) in text.bytes().zip(over.iter_mut().step_by(2)) {
        *place = byte;
    }
}
