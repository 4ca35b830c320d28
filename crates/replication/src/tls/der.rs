//! As much DER as it takes to read from when to when a certificate is valid.

use rustls_pki_types::CertificateDer;
use time::{Date, PrimitiveDateTime, Time};

use super::identity::Validity;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit: the certificate's version.
const VERSION: u8 = 0xa0;

/// Reads both dates; none where the bytes are no certificate.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (mut fields, _) = expect(SEQUENCE, certificate)?;
    if let Some((_, rest)) = expect(VERSION, fields) {
        fields = rest;
    }
    // Serial number, signature algorithm and issuer come first.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = expect(tag, fields)?;
    }
    let (dates, _) = expect(SEQUENCE, fields)?;
    let (not_before, dates) = date(dates)?;
    let (not_after, _) = date(dates)?;
    Some(Validity { not_before, not_after })
}

/// The content of the element that the input begins with, which must have this tag, and what follows.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = input.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // 0x80 is the indefinite length, which DER has not; four bytes are more than a file may hold.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (bytes.iter().fold(0, |length, &b| (length << 8) | usize::from(b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Seconds since 1970 of the date that the input begins with, and what follows.
fn date(input: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = element(input)?;
    let digits = content.strip_suffix(b"Z")?;
    let (year, digits) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, digits) = digits.split_at_checked(2)?;
            let year = number(year)?;
            // RFC 5280: 50 to 99 are of the last century.
            (year.checked_add(if year < 50 { 2000 } else { 1900 })?, digits)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, digits) = digits.split_at_checked(4)?;
            (number(year)?, digits)
        }
        _ => return None,
    };
    let mut pairs = digits.chunks(2).map(|pair| u8::try_from(number(pair)?).ok());
    let mut next = || pairs.next().flatten();
    let date = Date::from_calendar_date(year, next()?.try_into().ok()?, next()?).ok()?;
    let time = Time::from_hms(next()?, next()?, next()?).ok()?;
    Some((PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp(), rest))
}

fn number(digits: &[u8]) -> Option<i32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::self_signed_between;

    #[test]
    fn both_dates_are_read_before_and_after_2050() {
        let dates = [(1955, 2049), (2020, 2050), (1970, 4096)];
        for (from, to) in dates {
            let (not_before, not_after) =
                (rcgen::date_time_ymd(from, 2, 28), rcgen::date_time_ymd(to, 12, 31));
            let read = validity(&self_signed_between(not_before, not_after)).unwrap();
            assert_eq!(read.not_before, not_before.unix_timestamp());
            assert_eq!(read.not_after, not_after.unix_timestamp());
        }
    }

    #[test]
    fn a_certificate_cut_short_anywhere_before_its_dates_end_has_none() {
        let (from, to) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
        let whole = self_signed_between(from, to);
        for length in 0..whole.len() {
            let cut = CertificateDer::from(&whole[..length]);
            assert_eq!(validity(&cut), None, "{length}");
        }
    }

    #[test]
    fn lengths_beyond_the_input_and_wrong_dates_are_no_certificate() {
        for bytes in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x80, 0, 0], &[0x30, 0x85]]
        {
            assert_eq!(validity(&CertificateDer::from(bytes)), None);
        }
        let dates =
            ["250230000000Z", "2501010000Z", "25+101000000Z", "250101000000+", "251301000000Z"];
        for text in dates {
            let mut input = vec![UTC_TIME, u8::try_from(text.len()).unwrap()];
            input.extend(text.as_bytes());
            assert_eq!(date(&input), None, "{text}");
        }
    }
}
