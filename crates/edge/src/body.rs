//! Reading a body: refused before a byte of it is read where it can be, and never kept in part.

use std::{pin::Pin, sync::Arc, time::Duration};

use bruri_domain::limits::{EDGE_SMALL_BODY_BYTES_MAX, FILE_BYTES_MAX};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{EdgeError, Limits};

/// Refuses a PUT for what its headers say, so that a phone that waits for `100 Continue` sends nothing.
pub(crate) fn admit(headers: &HeaderMap, body: &impl Body) -> Result<(), EdgeError> {
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(EdgeError::Part);
    }
    let says = |name, plain: &[u8]| {
        headers.get_all(name).iter().any(|v| !v.as_bytes().eq_ignore_ascii_case(plain))
    };
    let other =
        says(header::CONTENT_ENCODING, b"identity") || says(header::TRANSFER_ENCODING, b"chunked");
    if other {
        return Err(EdgeError::Encoded);
    }
    // An old client that ends a body by closing would leave an empty file behind.
    let has_length = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING);
    if !has_length {
        return Err(EdgeError::NoLength);
    }
    if body.size_hint().lower() > FILE_BYTES_MAX as u64 {
        return Err(EdgeError::TooLarge);
    }
    Ok(())
}

/// A body that arrived whole. It keeps its place among the large ones until it is dropped.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// Reads one body within its bounds.
pub(crate) struct Reader<'a, B> {
    pub(crate) body: &'a mut B,
    pub(crate) limits: &'a Limits,
    pub(crate) large_bodies: &'a Arc<Semaphore>,
    /// Told also where the body is refused.
    pub(crate) progress: &'a mut Progress,
}

/// How far the reading of a body has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) bytes: usize,
    pub(crate) is_whole: bool,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Reader<'_, B> {
    /// The whole body.
    ///
    /// # Errors
    /// [`EdgeError::TooLarge`], [`EdgeError::TooSlow`], [`EdgeError::CutShort`], [`EdgeError::Crowded`].
    pub(crate) async fn whole(mut self) -> Result<Content, EdgeError> {
        let started = Instant::now();
        let mut place = None;
        let mut gathered = Gathered::default();
        while let Some(data) = self.next(started).await? {
            let bytes = self.progress.bytes.saturating_add(data.len());
            self.progress.bytes = bytes;
            if bytes > FILE_BYTES_MAX {
                return Err(EdgeError::TooLarge);
            }
            if bytes > EDGE_SMALL_BODY_BYTES_MAX && place.is_none() {
                place = Some(take_place(self.large_bodies)?);
            }
            gathered.add(data, Pin::new(&*self.body).size_hint().lower());
        }
        self.progress.is_whole = true;
        Ok(Content { bytes: gathered.whole(), _place: place })
    }

    /// The next bytes; none at the end.
    async fn next(&mut self, started: Instant) -> Result<Option<Bytes>, EdgeError> {
        loop {
            let left = self.limits.body.saturating_sub(started.elapsed());
            let wait: Duration = left.min(self.limits.body_stall);
            let frame = timeout(wait, self.body.frame()).await.map_err(|_| EdgeError::TooSlow)?;
            let Some(frame) = frame else { return Ok(None) };
            // What is no data are trailers, of which phones send none.
            if let Ok(data) = frame.map_err(EdgeError::CutShort)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// A place among the large bodies, of which only so many may be in memory.
pub(crate) fn take_place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, EdgeError> {
    places.clone().try_acquire_owned().map_err(|_| EdgeError::Crowded)
}

/// Most bodies arrive in one piece, which is then taken as it is.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn add(&mut self, data: Bytes, bytes_left: u64) {
        if self.all.is_empty() && self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            // No more is set aside than the phone has said, nor than it may send.
            let more = usize::try_from(bytes_left).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
            self.all.reserve(self.first.len().saturating_add(data.len()).saturating_add(more));
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
