//! The rules of the format, over the samples and over any bytes at all.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use bruri_phonefile::{
    Encoding, Line, LineEnd, PhoneFile, Undecodable, differ_in_call_log_only, is_call_log,
    is_suspect,
};
use proptest::prelude::*;

fn sample(name: &str) -> Vec<u8> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/samples");
    fs::read(samples.join(name)).unwrap()
}

fn utf_16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xff, 0xfe].into_iter().chain(units).collect()
}

fn joined(file: &PhoneFile) -> String {
    file.lines().flat_map(|line| [line.text, line.end.as_str()]).collect()
}

/// Bytes that are often nearly a phone's file.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let text = "([A-Z =\u{1f}é\u{10000}]{0,4}[=0]?(\r\n|\n|\r|)){0,8}";
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        text.prop_map(|text| utf_16(&text)),
        text.prop_map(String::into_bytes),
        text.prop_map(|text| [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat()),
        (text, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
            let mut body = utf_16(&text);
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
        (text, any::<prop::sample::Index>()).prop_map(|(text, at)| {
            let mut body = utf_16(&text);
            body.truncate(at.index(body.len()));
            body
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_accepted_comes_back_byte_for_byte(body in bodies()) {
        if let Ok(file) = PhoneFile::decode(&body) {
            prop_assert_eq!(file.encode(), body);
        }
    }

    #[test]
    fn lines_joined_are_the_text_and_only_the_last_may_lack_an_end(body in bodies()) {
        let Ok(file) = PhoneFile::decode(&body) else { return Ok(()) };
        let lines: Vec<Line<'_>> = file.lines().collect();
        let ended = lines.iter().rev().skip(1).all(|line| line.end != LineEnd::None);
        prop_assert!(ended && lines.last().is_none_or(|l| l.end != LineEnd::None || !l.text.is_empty()));
        prop_assert!(lines.iter().all(|line| !line.text.contains(['\r', '\n'])));
        let mut again = joined(&file).into_bytes();
        if file.encoding() == Encoding::Utf16 {
            again = utf_16(&joined(&file));
        } else if file.encoding() == Encoding::Utf8Marked {
            again.splice(0..0, [0xef, 0xbb, 0xbf]);
        }
        prop_assert_eq!(again, body);
    }

    #[test]
    fn what_is_refused_is_no_text_of_its_encoding(body in bodies()) {
        let text = match body.as_slice() {
            [0xff, 0xfe, rest @ ..] => {
                let units = rest.chunks(2).map(|unit| u16::from_le_bytes(unit.try_into().unwrap()));
                rest.len().is_multiple_of(2) && String::from_utf16(&units.collect::<Vec<_>>()).is_ok()
            }
            rest => std::str::from_utf8(rest).is_ok(),
        };
        prop_assert_eq!(PhoneFile::decode(&body).is_ok(), text);
    }

    #[test]
    fn a_body_that_is_cut_is_suspect_and_of_the_others_those_without_mark_and_item(body in bodies()) {
        let marked = body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0xef, 0xbb, 0xbf]);
        let expected = match PhoneFile::decode(&body) {
            Err(Undecodable::Cut { .. }) => true,
            Ok(file) => body.is_empty() || (!marked && file.items().next().is_none()),
            // Judged by what can be read of it.
            Err(Undecodable::NoCharacter { .. }) => return Ok(()),
        };
        prop_assert_eq!(is_suspect(&body), expected);
    }

    #[test]
    fn the_place_of_what_is_wrong_is_within_the_body_and_what_is_before_it_is_text(body in bodies()) {
        let Err(Undecodable::Cut { at } | Undecodable::NoCharacter { at }) = PhoneFile::decode(&body)
        else {
            return Ok(());
        };
        prop_assert!(at < body.len());
        prop_assert!(PhoneFile::decode(&body[..at]).is_ok());
    }

    #[test]
    fn calls_alone_make_no_difference_and_anything_else_does(
        calls in prop::collection::vec("CL(NAME|DATE)00[0-9]=[a-z]{0,3}", 0..4), name in "[a-z]{1,4}",
    ) {
        let with = |name: &str, calls: &[String]| {
            let calls: String = calls.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
            utf_16(&format!("ABKNAME001={name}\r\n{calls}Audio Path=1\r\n"))
        };
        prop_assert!(differ_in_call_log_only(&with(&name, &calls), &with(&name, &[])));
        prop_assert!(!differ_in_call_log_only(&with(&name, &calls), &with("Ines", &calls)));
    }
}

#[test]
fn every_sample_is_read_and_comes_back_or_is_refused_for_its_fault() {
    for (name, encoding, items) in [
        ("2395_96xxdata.txt", Encoding::Utf16, 1266),
        ("2771_96xxdata.txt", Encoding::Utf16, 29),
        ("3235_16xxdata.txt", Encoding::Utf16, 130),
        ("5234_16xxdata.txt", Encoding::Utf16, 1),
        ("6389_16xxdata.txt", Encoding::Utf8, 26),
        ("6774_16xxdata.txt", Encoding::Utf8, 0),
        ("8727_96xxdata.txt", Encoding::Utf16, 46),
        ("9610data.txt", Encoding::Utf16, 5),
    ] {
        let body = sample(name);
        let file = PhoneFile::decode(&body).unwrap();
        assert_eq!((file.encoding(), file.items().count(), name), (encoding, items, name));
        assert!(file.encode() == body, "{name}");
    }
    let cut = PhoneFile::decode(&sample("4995_96xxdata.txt")).unwrap_err();
    assert_eq!(cut.to_string(), "the file is cut off within its last character, after 30 bytes");
}

#[test]
fn each_line_end_is_told_apart() {
    let file = PhoneFile::decode(b"a=1\r\n\nb\rc\n\r\r\nlast").unwrap();
    let lines: Vec<(&str, LineEnd)> = file.lines().map(|line| (line.text, line.end)).collect();
    assert_eq!(
        lines,
        [
            ("a=1", LineEnd::CrLf),
            ("", LineEnd::Lf),
            ("b", LineEnd::Cr),
            ("c", LineEnd::Lf),
            ("", LineEnd::Cr),
            ("", LineEnd::CrLf),
            ("last", LineEnd::None),
        ]
    );
    // Neither ends a line for a phone.
    let file = PhoneFile::decode("a\u{2028}b\u{85}c\u{b}d".as_bytes()).unwrap();
    assert_eq!(file.lines().count(), 1);
}

#[test]
fn an_item_is_split_at_its_first_equals_sign_and_nothing_is_trimmed() {
    let items = |text: &str| -> Vec<(String, String)> {
        let file = PhoneFile::decode(text.as_bytes()).unwrap();
        file.items().map(|item| (item.name.to_owned(), item.value.to_owned())).collect()
    };
    let two = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(items(" A = b=c \r\nB="), [two(" A ", " b=c "), two("B", "")]);
    assert_eq!(items("=x\r\nno item\r\n\r\nA\0=1"), []);
}

#[test]
fn a_body_is_suspect_where_it_is_empty_or_cut_or_has_neither_mark_nor_item() {
    for (body, suspect) in [
        (&b""[..], true),
        (b"\xff\xfe", false),
        (b"\xef\xbb\xbf", false),
        (b"\xff\xfe\r\0\n\0", false),
        (b"\xff", true),
        (b"\xef\xbb", true),
        (b"\xff\xfeA", true),
        (b"\xff\xfeA\0\x3d\xd8", true),
        (b"\xff\xfe\x3d\xd8A\0", false),
        (b"A=1", false),
        (b"A=\xc3", true),
        (b"hello", true),
        (b"=1", true),
        (b"A\0=\x001\0", true),
        (b"\xfe\xff\0A\0=\x001", true),
        (b"A=Jos\xe9\r\nB=1", false),
        (b"A=Jos\xe9 \r\nB", true),
    ] {
        assert_eq!(is_suspect(body), suspect, "{body:x?}");
    }
    for (name, suspect) in [
        ("6774_16xxdata.txt", true),
        ("4995_96xxdata.txt", true),
        ("6389_16xxdata.txt", false),
        ("5234_16xxdata.txt", false),
        ("2395_96xxdata.txt", false),
    ] {
        assert_eq!(is_suspect(&sample(name)), suspect, "{name}");
    }
}

#[test]
fn lines_of_the_call_log_are_told_from_all_others() {
    let is = |text| is_call_log(&Line { text, end: LineEnd::CrLf });
    for text in ["CLNAME001=Ines", "CLNUMBER100=", "clDuration002=5", "CLBRIDGEDFLAG003=1"] {
        assert!(is(text), "{text}");
    }
    for text in [
        "Call Log Active=1",
        "CL001=x",
        "CLNAME01=x",
        "CLNAME0001=x",
        "CLNAME001",
        "CLÉÉ001=x",
        "CLIPS=1",
        "ABKNAME001=CLNAME001=x",
        "WORLDCLOCKLIST=CL",
        "é=1",
        "",
    ] {
        assert!(!is(text), "{text}");
    }
    let file = PhoneFile::decode(&sample("2395_96xxdata.txt")).unwrap();
    assert_eq!(file.lines().filter(is_call_log).count(), 500);
}

#[test]
fn what_is_not_understood_is_different() {
    let cut = sample("4995_96xxdata.txt");
    assert!(!differ_in_call_log_only(&cut, &cut));
    assert!(!differ_in_call_log_only(b"A=1\r\n", &utf_16("A=1\r\n")));
    assert!(differ_in_call_log_only(b"A=1\r\nCLNAME001=x\r\n", b"A=1\r\n"));
    assert!(!differ_in_call_log_only(b"A=1\r\n", b"A=1\n"));
}
