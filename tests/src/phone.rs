//! Phones: they back up, restore, and keep a book of what was acknowledged.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use bruri_domain::Sha256;

use crate::http::{Connection, request};

/// What phones were promised; clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<Vec<Entry>>>);

/// A backup that was answered with a 2xx.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The file.
    pub file: String,
    /// The hash of its body.
    pub hash: Sha256,
}

/// A phone at a site, with a connection that is kept open.
#[derive(Debug)]
pub struct Phone {
    address: SocketAddr,
    connection: Option<Connection>,
}

/// What a phone got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Got {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// How fresh it says it is; empty where it does not say.
    pub freshness: String,
}

impl Book {
    /// Writes down what was acknowledged.
    pub fn note(&self, file: &str, body: &[u8]) {
        let entry = Entry { file: file.to_owned(), hash: Sha256::of(body) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Copies entries of another book.
    pub fn extend(&self, entries: &[Entry]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(entries);
    }

    /// All that was acknowledged so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Phone {
    /// A phone that knows this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request for a file; an error closes the connection.
    pub async fn send(
        &mut self,
        method: &str,
        file: &str,
        body: Option<&[u8]>,
    ) -> anyhow::Result<Got> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address).await.context("connect as a phone")?,
        };
        let request = request(method, self.address, &format!("/{file}"), body);
        let answer = connection.exchange(&request).await.context("send as a phone")?;
        let got = Got {
            status: answer.status,
            body: answer.body.to_owned(),
            freshness: answer.header("bruri-freshness").unwrap_or_default().to_owned(),
        };
        let is_kept = !answer.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        self.connection = is_kept.then_some(connection);
        Ok(got)
    }

    /// Backs up, which must be acknowledged, and notes it.
    pub async fn back_up(&mut self, file: &str, body: &[u8], book: &Book) -> anyhow::Result<()> {
        let got = self.send("PUT", file, Some(body)).await?;
        ensure!((200..300).contains(&got.status), "PUT {file}: {}: {got:?}", got.status);
        book.note(file, body);
        Ok(())
    }

    /// Restores; `None` is a 404.
    pub async fn restore(&mut self, file: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let got = self.send("GET", file, None).await?;
        match got.status {
            200 => Ok(Some(got.body)),
            404 => Ok(None),
            status => anyhow::bail!("GET {file}: {status}"),
        }
    }
}
