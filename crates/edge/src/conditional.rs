//! Whether a phone already has what it asks for: `ETag`, `Last-Modified` and the headers that name them.

use bruri_domain::{Sha256, Stamp};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// What names a served version in HTTP.
pub(crate) struct Validators {
    pub(crate) etag: HeaderValue,
    /// None where the origin's clock was off by thousands of years.
    pub(crate) last_modified: Option<HeaderValue>,
}

impl Validators {
    pub(crate) fn new(body: Sha256, stamp: Stamp) -> Self {
        Self { etag: etag(body), last_modified: http_date(stamp) }
    }

    /// Whether the request's conditions (RFC 9110, section 13.2.2) mean 304. A date must be the very one
    /// that was sent: versions supersede one another whatever the clocks say, so a later date does not
    /// mean that the phone has the served version.
    pub(crate) fn are_known_to(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(header::IF_NONE_MATCH) {
            let tags = headers.get_all(header::IF_NONE_MATCH).iter();
            return tags.flat_map(|v| v.as_bytes().split(|b| *b == b',')).any(|t| self.is(t));
        }
        let since = headers.get(header::IF_MODIFIED_SINCE);
        since.is_some() && since == self.last_modified.as_ref()
    }

    /// Weak comparison: our tags hold no comma, so a list may be split at any.
    fn is(&self, tag: &[u8]) -> bool {
        let tag = tag.trim_ascii();
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        tag == b"*" || tag == self.etag.as_bytes()
    }
}

fn etag(body: Sha256) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 0x0f)];
    let mut text = Vec::with_capacity(66);
    text.push(b'"');
    text.extend(body.as_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
    text.push(b'"');
    // Quotes and digits are always a header's value.
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn http_date(stamp: Stamp) -> Option<HeaderValue> {
    let seconds = i64::try_from(stamp.micros / 1_000_000).ok()?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(HTTP_DATE).ok()?;
    HeaderValue::try_from(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn known(headers: &[(header::HeaderName, &str)]) -> bool {
        let stamp = Stamp { trusted: true, micros: 784_111_777_999_999 };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        Validators::new(Sha256([0xab; 32]), stamp).are_known_to(&map)
    }

    #[test]
    fn validators_are_written_as_http_writes_them() {
        let stamp = Stamp { trusted: true, micros: 784_111_777_999_999 };
        let validators = Validators::new(Sha256([0xab; 32]), stamp);
        assert_eq!(validators.etag, format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(validators.last_modified.unwrap(), DATE);
        let mad = Stamp { trusted: false, micros: u64::MAX };
        assert!(Validators::new(Sha256([0; 32]), mad).last_modified.is_none());
    }

    #[test]
    fn a_tag_in_any_list_is_known_and_outranks_the_date() {
        let tag = format!("\"{}\"", "ab".repeat(32));
        let (weak, list) = (format!("W/{tag}"), format!("\"x\" , {tag}"));
        for tags in [tag.as_str(), &weak, &list, "*"] {
            assert!(known(&[(header::IF_NONE_MATCH, tags)]), "{tags}");
        }
        assert!(!known(&[(header::IF_NONE_MATCH, "\"x\"")]));
        assert!(!known(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, DATE)]));
    }

    #[test]
    fn only_the_very_date_that_was_sent_is_known() {
        assert!(known(&[(header::IF_MODIFIED_SINCE, DATE)]));
        for date in ["Sun, 06 Nov 2094 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT", "x"] {
            assert!(!known(&[(header::IF_MODIFIED_SINCE, date)]), "{date}");
        }
        assert!(!known(&[]));
    }
}
