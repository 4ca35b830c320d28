//! Bodies as texts, for people to read; nothing here changes what is stored.

/// What a body's bytes seem to be.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Text {
    /// UTF-16 little-endian after its byte order mark, as phones write it (1600 Administrator Guide
    /// 16-601443 issue 5, p. 109). What is cut off or no character is U+FFFD.
    Utf16(String),
    /// UTF-8, with or without a mark.
    Utf8(String),
    /// Neither.
    None,
}

impl Text {
    /// Reads a body.
    pub(crate) fn of(body: &[u8]) -> Self {
        if let Some(units) = body.strip_prefix(b"\xff\xfe") {
            return Self::Utf16(utf16(units));
        }
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match std::str::from_utf8(body) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::None,
        }
    }

    /// Whether a phone would find something in it: UTF-16 with its mark and a line `name=value`
    /// (the same page).
    pub(crate) fn is_valid_for_a_phone(&self) -> bool {
        let Self::Utf16(text) = self else { return false };
        lines(text).any(|line| line.find('=').is_some_and(|at| at > 0))
    }

    /// What it was read as, in a word.
    pub(crate) fn encoding(&self) -> &'static str {
        match self {
            Self::Utf16(_) => "utf-16le",
            Self::Utf8(_) => "utf-8",
            Self::None => "binary",
        }
    }

    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Utf16(text) | Self::Utf8(text) => Some(text),
            Self::None => None,
        }
    }
}

fn utf16(bytes: &[u8]) -> String {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let mut text: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    if !rest.is_empty() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}

/// Lines that end as phones read them: CR LF, LF or CR; the last one may lack its end.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(end) = rest.find(['\r', '\n']) else { return Some(std::mem::take(&mut rest)) };
        let (line, after) = rest.split_at(end);
        let end = if after.starts_with("\r\n") { "\r\n" } else { after.get(..1)? };
        rest = after.strip_prefix(end)?;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_body(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect()
    }

    #[test]
    fn what_phones_write_is_read_and_what_is_cut_off_is_seen() {
        let body = utf16_body("ABKNAME001=Soňa 日本\r\n");
        assert_eq!(Text::of(&body), Text::Utf16("ABKNAME001=Soňa 日本\r\n".to_owned()));
        let cut = Text::of(b"\xff\xfeO\0d\0d");
        assert_eq!(cut.text(), Some("Od\u{fffd}"));
        assert_eq!(Text::of(b"\xff\xfe\x00\xd8A\0").text(), Some("\u{fffd}A"));
    }

    #[test]
    fn other_bodies_are_utf_8_or_no_text() {
        assert_eq!(Text::of("a=é".as_bytes()), Text::Utf8("a=é".to_owned()));
        assert_eq!(Text::of(b"\xef\xbb\xbfa=1"), Text::Utf8("a=1".to_owned()));
        assert_eq!(Text::of(b""), Text::Utf8(String::new()));
        assert_eq!(Text::of(b"\xfe\xff\0A"), Text::None);
    }

    #[test]
    fn a_phone_finds_something_only_in_utf_16_with_a_named_value() {
        for (body, valid) in [
            (utf16_body("Redial=1"), true),
            (utf16_body("\r\nno value\nA=\n"), true),
            (utf16_body("=1\r\n"), false),
            (utf16_body(""), false),
            (b"Redial=1".to_vec(), false),
            (vec![], false),
        ] {
            assert_eq!(Text::of(&body).is_valid_for_a_phone(), valid, "{body:?}");
        }
    }

    #[test]
    fn lines_end_in_each_of_the_three_ways() {
        let read: Vec<&str> = lines("a\r\nb\nc\r\r\n\nd").collect();
        assert_eq!(read, ["a", "b", "c", "", "", "d"]);
        assert_eq!(lines("a\r\n").collect::<Vec<_>>(), ["a"]);
        assert_eq!(lines("").count(), 0);
    }
}
