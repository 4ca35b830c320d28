//! The call log: the lines that change with every call.

use crate::{lines::Line, text::PhoneFile};

const PREFIX: &str = "CL";
const DIGITS: usize = 3;

/// Whether a line is of the call log: its name is `CL`, more letters, and the three digits of an entry, in
/// any case, e.g. `CLNAME001`. That names begin with `CLNAME` is observed, unconfirmed; the full list is
/// not known, and no other list of entries has names that begin so. `Call Log Active` is an option.
pub fn is_call_log(line: &Line<'_>) -> bool {
    line.item().is_some_and(|item| is_entry(item.name))
}

fn is_entry(name: &str) -> bool {
    let Some((letters, digits)) = name.split_at_checked(name.len().saturating_sub(DIGITS)) else {
        return false;
    };
    let Some((prefix, kind)) = letters.split_at_checked(PREFIX.len()) else { return false };
    prefix.eq_ignore_ascii_case(PREFIX)
        && !kind.is_empty()
        && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether two bodies are the same but for lines of the call log. `false` where either is no text: what
/// is not understood is different.
pub fn differ_in_call_log_only(one: &[u8], other: &[u8]) -> bool {
    let (Ok(one), Ok(other)) = (PhoneFile::decode(one), PhoneFile::decode(other)) else {
        return false;
    };
    one.encoding() == other.encoding() && rest(&one).eq(rest(&other))
}

fn rest(file: &PhoneFile) -> impl Iterator<Item = Line<'_>> {
    file.lines().filter(|line| !is_call_log(line))
}
