//! `bruri phone`: behave like a phone, to try a server out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bruri_wire::limits::CLI_COMPLAINT_BYTES_MAX;
use bytes::Bytes;
use clap::Subcommand;
use hyper::{Method, StatusCode};
use serde::Serialize;

use crate::{
    failure::Failure,
    phone::{
        address::Address,
        attempt::{Answer, attempt},
    },
    print::{self, Output, plain},
    text::Text,
};

/// What a phone does.
#[derive(Debug, Subcommand)]
pub(crate) enum PhoneCommand {
    /// Back a file up, as a phone does at log-out
    Put {
        /// BRURI, e.g. `http://192.0.2.10:8080/` or `http://USER:PASSWORD@192.0.2.10/PhoneBackup`; the
        /// name of the file is added unless it ends in one
        url: String,
        /// The file to send, e.g. `299_16xxdata.txt`
        file: PathBuf,
    },
    /// Restore a file, as a phone does at log-in
    Get {
        /// BRURI, or the address of a file
        url: String,
        /// Where to put what comes; `-` for standard output [default: it is only looked at]
        file: Option<PathBuf>,
    },
    /// Delete a file
    Delete {
        /// BRURI, or the address of a file
        url: String,
        /// The file whose name is added to BRURI
        file: Option<PathBuf>,
    },
}

/// What came of an attempt.
#[derive(Serialize)]
struct Report {
    method: String,
    url: String,
    status: u16,
    reason: &'static str,
    sent_bytes: Option<u64>,
    received_bytes: u64,
    seconds: f64,
    etag: Option<String>,
    /// What a phone would show.
    screen: Option<&'static str>,
    /// What the server says about a failure.
    complaint: Option<String>,
}

/// Does it.
pub(crate) async fn run(command: &PhoneCommand, output: &mut Output<'_>) -> anyhow::Result<()> {
    let (method, url, file) = match command {
        PhoneCommand::Put { url, file } => (Method::PUT, url, Some(file.as_path())),
        PhoneCommand::Get { url, file } => (Method::GET, url, file.as_deref()),
        PhoneCommand::Delete { url, file } => (Method::DELETE, url, file.as_deref()),
    };
    let address = Address::of(url, file).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    let sent = match (&method, file) {
        (&Method::PUT, Some(file)) => Some(read(file)?),
        _ => None,
    };
    let sent_bytes = sent.as_ref().map(|body| body.len() as u64);
    let answer = attempt(&method, &address, sent).await?;
    let report = Report::of(&method, &address, sent_bytes, &answer);
    match file {
        Some(file) if method == Method::GET && answer.status.is_success() => {
            keep(file, &answer.body, &report, output)?;
        }
        _ => report.print(output)?,
    }
    if answer.status.is_success() {
        return Ok(());
    }
    Err(report.failure(answer.status).into())
}

fn read(file: &Path) -> anyhow::Result<Bytes> {
    Ok(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.into())
}

/// Puts what came where it was asked for, the report beside it.
fn keep(file: &Path, body: &[u8], report: &Report, output: &mut Output<'_>) -> anyhow::Result<()> {
    if file == Path::new("-") {
        output.out.write_all(body)?;
        print::note(report.told().trim_end());
        return Ok(());
    }
    fs::write(file, body).with_context(|| format!("cannot write {}", file.display()))?;
    report.print(output)
}

impl Report {
    fn of(method: &Method, address: &Address, sent_bytes: Option<u64>, answer: &Answer) -> Self {
        let complaint = (!answer.status.is_success()).then(|| complaint(&answer.body));
        Self {
            method: method.to_string(),
            url: address.to_string(),
            status: answer.status.as_u16(),
            reason: answer.status.canonical_reason().unwrap_or_default(),
            sent_bytes,
            received_bytes: answer.body.len() as u64,
            seconds: answer.took.as_secs_f64(),
            etag: answer.etag.clone(),
            screen: screen(method, answer, address.authorization.is_some()),
            complaint: complaint.filter(|text| !text.is_empty()),
        }
    }

    fn print(&self, output: &mut Output<'_>) -> anyhow::Result<()> {
        if output.json { output.json(self) } else { output.text(&self.told()) }
    }

    fn told(&self) -> String {
        let bytes = |bytes: u64| format!("{} bytes", print::number(bytes));
        let facts = print::facts(&[
            ("  status", format!("{} {}", self.status, self.reason)),
            ("  sent", self.sent_bytes.map(bytes).unwrap_or_default()),
            ("  received", bytes(self.received_bytes)),
            ("  time", format!("{:.1} ms", self.seconds * 1000.0)),
            ("  etag", self.etag.clone().unwrap_or_default()),
            ("  screen", self.screen.unwrap_or_default().to_owned()),
        ]);
        format!("{} {}\n{facts}", self.method, plain(&self.url))
    }

    fn failure(&self, status: StatusCode) -> Failure {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Failure::Unreachable(self.refusal()),
            _ => Failure::Refused(self.refusal()),
        }
    }

    fn refusal(&self) -> String {
        let text = self.complaint.as_deref().map(|text| format!(": {}", plain(text)));
        format!("{} {}{}", self.status, self.reason, text.unwrap_or_default())
    }
}

/// The beginning of what a server says about a failure, on one line.
fn complaint(body: &[u8]) -> String {
    let first = body.get(..CLI_COMPLAINT_BYTES_MAX).unwrap_or(body);
    let text = String::from_utf8_lossy(first);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a phone shows: of a restore the words of 1600 phones (IP Office 4.2, section 2.8), of
/// credentials those of 96x1 phones (Administering 9608 to 9641GS, March 2018, p. 62); of a backup that
/// went well nothing is known.
fn screen(method: &Method, answer: &Answer, has_credentials: bool) -> Option<&'static str> {
    match (method, answer.status) {
        (_, StatusCode::UNAUTHORIZED) if has_credentials => Some("HTTP Authentication Failure"),
        (_, StatusCode::UNAUTHORIZED) => Some("HTTP Authentication"),
        (&Method::GET, status) => {
            let found = status.is_success() && Text::of(&answer.body).is_valid_for_a_phone();
            Some(if found { "Retrieval OK" } else { "Retrieval failed" })
        }
        (&Method::PUT, status) if !status.is_success() => Some("Backup Failed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: StatusCode, body: &'static [u8]) -> Answer {
        let body = Bytes::from_static(body);
        Answer { status, etag: Some("\"ab\"".to_owned()), body, took: Duration::from_micros(3250) }
    }

    fn address() -> Address {
        Address::of("http://u:p@h:8080/299_16xxdata.txt", None).unwrap()
    }

    #[test]
    fn a_report_tells_what_a_phone_would_show() {
        let answer = answer(StatusCode::OK, b"\xff\xfeA\0=\x001\0");
        let report = Report::of(&Method::GET, &address(), None, &answer);
        assert_eq!(
            report.told(),
            "GET http://h:8080/299_16xxdata.txt\n  status    200 OK\n  received  8 bytes\n  \
             time      3.2 ms\n  etag      \"ab\"\n  screen    Retrieval OK\n"
        );
    }

    #[test]
    fn screens_are_those_of_the_manuals() {
        let utf16 = b"\xff\xfeA\0=\x001\0";
        for (method, status, body, told) in [
            (Method::GET, 200, &utf16[..], Some("Retrieval OK")),
            (Method::GET, 200, b"", Some("Retrieval failed")),
            (Method::GET, 404, b"", Some("Retrieval failed")),
            (Method::GET, 401, b"", Some("HTTP Authentication Failure")),
            (Method::PUT, 201, b"", None),
            (Method::PUT, 503, b"", Some("Backup Failed")),
            (Method::DELETE, 204, b"", None),
        ] {
            let answer = answer(StatusCode::from_u16(status).unwrap(), body);
            let report = Report::of(&method, &address(), None, &answer);
            assert_eq!(report.screen, told, "{method} {status}");
        }
    }

    #[test]
    fn a_refusal_has_the_servers_words_on_one_line() {
        let answer = answer(StatusCode::NOT_FOUND, b"not\r\n found\x1b[2J\n");
        let report = Report::of(&Method::GET, &address(), None, &answer);
        assert_eq!(report.refusal(), "404 Not Found: not found\\u{1b}[2J");
    }
}
