//! How the history looks to people.

use std::fmt::Write as _;

use bruri_wire::{
    limits::CLI_SHOWN_BYTES_MAX,
    proto::history::v1::{DeleteFileResponse, File, FileId, Version},
};

use crate::{
    json,
    print::{self, Column, plain},
    text::{self, Text},
};

/// The realm that needs no naming.
const BUILT_IN_REALM: &str = "default";
const BYTES_A_LINE: usize = 16;

/// A file as a person names it.
pub(in crate::commands) fn file_name(id: &FileId) -> String {
    match id.realm.as_str() {
        "" | BUILT_IN_REALM => id.name.clone(),
        realm => format!("{realm}/{}", id.name),
    }
}

/// Files with what a phone gets of each.
pub(super) fn files(files: &[File]) -> String {
    let columns = [
        Column::Left("FILE"),
        Column::Right("SIZE"),
        Column::Left("WRITTEN"),
        Column::Left("CONFIRMED"),
        Column::Left("BY"),
        Column::Left("VERSION"),
        Column::Left("STATE"),
    ];
    print::table(&columns, files.iter().map(file_row))
}

fn file_row(file: &File) -> Vec<String> {
    let served = file.served.as_ref();
    let of_served = |tell: fn(&Version) -> String| served.map_or_else(|| "-".to_owned(), tell);
    vec![
        file.id.as_ref().map(file_name).unwrap_or_default(),
        of_served(size),
        of_served(|version| print::time(version.written_at.as_ref())),
        print::time(file.confirmed_at.as_ref()),
        of_served(author),
        of_served(|version| version.dot.clone()),
        state(file),
    ]
}

fn state(file: &File) -> String {
    let conflict = file.conflict.then(|| format!("conflict of {}", file.heads));
    let is_pruned = file.served.as_ref().is_some_and(|version| version.pruned);
    let pruned = is_pruned.then(|| "its bytes have yet to arrive".to_owned());
    let is_suspect = file.served.as_ref().is_some_and(|version| version.suspect);
    let suspect = is_suspect.then(|| "suspect, and nothing else to serve".to_owned());
    conflict.into_iter().chain(pruned).chain(suspect).collect::<Vec<_>>().join(", ")
}

/// Versions of a file.
pub(in crate::commands) fn versions(versions: &[Version]) -> String {
    let columns = [
        Column::Left("VERSION"),
        Column::Left("WRITTEN"),
        Column::Right("SIZE"),
        Column::Left("STANDING"),
        Column::Left("BY"),
        Column::Left("DETAIL"),
    ];
    let rows = versions.iter().map(|version| {
        vec![
            version.dot.clone(),
            print::time(version.written_at.as_ref()),
            size(version),
            standing(version),
            author(version),
            detail(version),
        ]
    });
    print::table(&columns, rows)
}

fn size(version: &Version) -> String {
    if version.body_sha256.is_empty() {
        "deleted".to_owned()
    } else {
        print::size(version.body_bytes)
    }
}

fn standing(version: &Version) -> String {
    let marks = [(version.pruned, ", pruned"), (version.suspect, ", suspect")];
    let marks = marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, mark)| mark);
    [json::standing(version.standing())].into_iter().chain(marks).collect()
}

fn author(version: &Version) -> String {
    match (version.operator.as_str(), version.phone_mac.as_str()) {
        ("", "") => print::or_nothing(&version.phone_address),
        ("", mac) => format!("{} {mac}", version.phone_address),
        (operator, _) => format!("operator {operator}"),
    }
}

fn detail(version: &Version) -> String {
    if version.restored_dot.is_empty() {
        version.phone_user_agent.clone()
    } else {
        format!("restored {}", version.restored_dot)
    }
}

/// What a restore came to.
pub(super) fn restored(file: &FileId, version: &Version, appended: bool) -> String {
    let (file, dot) = (plain(&file_name(file)), plain(&version.dot));
    if appended {
        format!("{file}: {} is back, as {dot}\n", plain(&version.restored_dot))
    } else {
        format!("{file}: phones get that already, as {dot}; nothing was changed\n")
    }
}

/// What a deletion came to.
pub(super) fn deleted(file: &FileId, answer: &DeleteFileResponse) -> String {
    let (file, dot) = (plain(&file_name(file)), plain(&answer.dot));
    if answer.appended {
        format!("{file}: phones get nothing from now on, as {dot}; its versions are kept\n")
    } else {
        format!("{file}: phones get nothing already; nothing was changed\n")
    }
}

/// A body line by line, with everything escaped that is no letter, or its first bytes.
pub(in crate::commands) fn body(body: &[u8], text: &Text) -> String {
    let mut shown = String::new();
    // Writing into a string does not fail, here and below.
    if let Some(text) = text.text() {
        for line in text::lines(text) {
            let _ = writeln!(shown, "{}", plain(line));
        }
        return shown;
    }
    let _ = writeln!(shown, "no text: {} bytes", print::number(body.len() as u64));
    let first = body.get(..CLI_SHOWN_BYTES_MAX).unwrap_or(body);
    for line in first.chunks(BYTES_A_LINE) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(shown, "  {}", bytes.join(" "));
    }
    if first.len() < body.len() {
        shown.push_str("  ...\n");
    }
    shown
}

#[cfg(test)]
mod tests {
    use bruri_wire::{Timestamp, proto::history::v1::version::Standing};

    use super::*;

    fn version(sequence: u64, standing: Standing) -> Version {
        Version {
            dot: format!("london/9f3a61c2d04b77e1/{sequence}"),
            written_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 999_999_000 }),
            standing: standing.into(),
            body_sha256: "ab".repeat(32),
            body_bytes: 52_094,
            ..Version::default()
        }
    }

    fn by_phone(version: Version) -> Version {
        Version {
            phone_address: "192.0.2.1".to_owned(),
            phone_mac: "64c3549e5334".to_owned(),
            phone_user_agent: "AVAYA/J179-4.0.7.0 (MAC:64c3549e5334)".to_owned(),
            ..version
        }
    }

    fn id(realm: &str, name: &str) -> FileId {
        FileId { realm: realm.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn files_tell_what_a_phone_gets() {
        let confirmed_at = Some(Timestamp { seconds: 1_700_003_600, nanos: 0 });
        let one = File {
            id: Some(id("default", "299_16xxdata.txt")),
            served: Some(by_phone(version(118, Standing::Served))),
            heads: 2,
            conflict: true,
            confirmed_at,
        };
        let other = File { id: Some(id("guests", "9610data.txt")), ..File::default() };
        assert_eq!(
            files(&[one, other]),
            "\
FILE                    SIZE  WRITTEN               CONFIRMED             BY                      \
VERSION                      STATE
299_16xxdata.txt     52.1 kB  2023-11-14T22:13:20Z  2023-11-14T23:13:20Z  192.0.2.1 64c3549e5334  \
london/9f3a61c2d04b77e1/118  conflict of 2
guests/9610data.txt        -  -                     -                     -                       -
"
        );
    }

    #[test]
    fn versions_tell_who_wrote_them_and_what_became_of_them() {
        let restore = Version {
            operator: "uid 0 (root)".to_owned(),
            restored_dot: "london/9f3a61c2d04b77e1/7".to_owned(),
            ..version(120, Standing::Served)
        };
        let deletion = Version {
            body_sha256: String::new(),
            body_bytes: 0,
            phone_address: "192.0.2.1".to_owned(),
            ..version(119, Standing::Superseded)
        };
        let concurrent = by_phone(version(7, Standing::Concurrent));
        assert_eq!(
            versions(&[restore, deletion, concurrent]),
            "\
VERSION                      WRITTEN                  SIZE  STANDING    BY                      DETAIL
london/9f3a61c2d04b77e1/120  2023-11-14T22:13:20Z  52.1 kB  served      operator uid 0 (root)   \
restored london/9f3a61c2d04b77e1/7
london/9f3a61c2d04b77e1/119  2023-11-14T22:13:20Z  deleted  superseded  192.0.2.1
london/9f3a61c2d04b77e1/7    2023-11-14T22:13:20Z  52.1 kB  concurrent  192.0.2.1 64c3549e5334  \
AVAYA/J179-4.0.7.0 (MAC:64c3549e5334)
"
        );
    }

    #[test]
    fn a_version_whose_body_is_not_kept_is_said_to_be_pruned() {
        let pruned = |standing| Version { pruned: true, ..version(7, standing) };
        let listed = versions(&[pruned(Standing::Superseded)]);
        assert!(listed.contains(" 52.1 kB  superseded, pruned "), "{listed}");
        let file = File { served: Some(pruned(Standing::Served)), ..File::default() };
        assert!(files(&[file]).contains("its bytes have yet to arrive"));
    }

    #[test]
    fn a_restore_tells_what_is_back_or_that_nothing_was_changed() {
        let id = id("", "299_16xxdata.txt");
        let restored_dot = "london/9f3a61c2d04b77e1/7".to_owned();
        let new = Version { restored_dot, ..version(120, Standing::Served) };
        assert_eq!(
            restored(&id, &new, true),
            "299_16xxdata.txt: london/9f3a61c2d04b77e1/7 is back, as london/9f3a61c2d04b77e1/120\n"
        );
        assert_eq!(
            restored(&id, &new, false),
            "299_16xxdata.txt: phones get that already, as london/9f3a61c2d04b77e1/120; nothing was \
             changed\n"
        );
    }

    #[test]
    fn a_body_is_shown_as_text_without_touching_the_terminal() {
        let units =
            "HOMEFAV01=9\u{1f}Ines\r\nA=\u{1b}[2J".encode_utf16().flat_map(u16::to_le_bytes);
        let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(units).collect();
        let shown = body(&bytes, &Text::of(&bytes));
        assert_eq!(shown, "HOMEFAV01=9\\u{1f}Ines\nA=\\u{1b}[2J\n");
    }

    #[test]
    fn of_a_body_without_text_the_first_bytes_are_shown() {
        let bytes: Vec<u8> = (0..=u8::MAX).chain([0]).collect();
        let shown = body(&bytes, &Text::of(&bytes));
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("no text: 257 bytes"));
        assert_eq!(lines.next(), Some("  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"));
        assert_eq!((shown.lines().count(), shown.lines().last()), (18, Some("  ...")));
    }
}
