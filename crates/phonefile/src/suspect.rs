//! Whether a body looks like a phone's file at all.

use crate::{
    lines::Lines,
    text::{Encoding, is_first_half},
};

/// Whether a body is empty, cut off within a character, or without both a byte order mark and any
/// `name=value` line. A byte order mark without lines is a user who has reset everything: not suspect.
///
/// Such a body is kept as any other, but supersedes nothing: old HTTP clients send an empty one while they
/// negotiate authentication (observed, unconfirmed), and an interrupted one is no file.
pub fn is_suspect(body: &[u8]) -> bool {
    let (encoding, rest) = Encoding::of(body);
    body.is_empty() || is_cut(encoding, rest) || !(encoding.is_marked() || has_item(rest))
}

fn is_cut(encoding: Encoding, rest: &[u8]) -> bool {
    match encoding {
        Encoding::Utf16 => {
            let (units, odd) = rest.as_chunks::<2>();
            let last = units.last().copied().map(u16::from_le_bytes);
            !odd.is_empty() || last.is_some_and(is_first_half)
        }
        Encoding::Utf8Marked | Encoding::Utf8 => {
            std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none())
        }
    }
}

/// Judged line by line: a name in another encoding somewhere else makes the file no less one of a phone.
fn has_item(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| matches!(byte, b'\r' | b'\n'));
    lines
        .filter_map(|line| std::str::from_utf8(line).ok())
        .any(|line| Lines::of(line).any(|line| line.item().is_some()))
}
