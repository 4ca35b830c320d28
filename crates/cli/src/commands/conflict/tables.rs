//! How conflicts look to people.

use std::fmt::Write as _;

use bruri_wire::proto::{
    conflict::v1::{Conflict, Head},
    history::v1::{FileId, Version},
};

use crate::{
    commands::history::tables::{body, file_name, versions},
    print::{self, Column, plain},
    text::Text,
};

/// Conflicts, one a line.
pub(super) fn conflicts(conflicts: &[Conflict]) -> String {
    let columns = [
        Column::Left("FILE"),
        Column::Right("VERSIONS"),
        Column::Left("OPENED"),
        Column::Left("ENDED"),
        Column::Left("BY"),
    ];
    let rows = conflicts.iter().map(|conflict| {
        vec![
            conflict.file.as_ref().map(file_name).unwrap_or_default(),
            print::number(conflict.head_dots.len() as u64),
            print::time(conflict.opened_at.as_ref()),
            print::time(conflict.ended_at.as_ref()),
            print::or_nothing(&conflict.ended_by_dot),
        ]
    });
    print::table(&columns, rows)
}

/// One conflict: its versions, and below each what is in it.
pub(super) fn conflict(conflict: &Conflict, heads: &[Head]) -> String {
    let mut text = conflicts(std::slice::from_ref(conflict));
    let listed: Vec<Version> = heads.iter().filter_map(|head| head.version.clone()).collect();
    text.push('\n');
    text.push_str(&versions(&listed));
    for (head, version) in heads.iter().zip(&listed) {
        // Writing into a string does not fail.
        let _ = write!(text, "\n{}:\n{}", plain(&version.dot), content(head, version));
    }
    text
}

fn content(head: &Head, version: &Version) -> String {
    if version.body_sha256.is_empty() {
        "deleted\n".to_owned()
    } else if head.body_left_out {
        "not shown here: bruri history show\n".to_owned()
    } else {
        body(&head.body, &Text::of(&head.body))
    }
}

/// What a choice came to.
pub(super) fn chosen(file: &FileId, version: &Version) -> String {
    let (file, dot) = (plain(&file_name(file)), plain(&version.dot));
    format!("{file}: phones get {} from now on, as {dot}\n", plain(&version.restored_dot))
}

#[cfg(test)]
mod tests {
    use bruri_wire::{Timestamp, proto::history::v1::version::Standing};

    use super::*;

    fn open() -> Conflict {
        Conflict {
            file: Some(FileId { realm: "default".into(), name: "299_16xxdata.txt".into() }),
            number: 1,
            opened_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            head_dots: vec!["london/9f/1".into(), "tokyo/a7/1".into()],
            ..Conflict::default()
        }
    }

    fn head(dot: &str, standing: Standing, body: &[u8]) -> Head {
        let version = Version {
            dot: dot.to_owned(),
            standing: standing.into(),
            body_sha256: "ab".repeat(32),
            body_bytes: body.len() as u64,
            ..Version::default()
        };
        Head { version: Some(version), body: body.to_vec(), body_left_out: false }
    }

    #[test]
    fn a_conflict_tells_how_many_versions_it_has_and_how_it_ended() {
        let ended = Conflict {
            ended_at: Some(Timestamp { seconds: 1_700_003_600, nanos: 0 }),
            ended_by_dot: "london/9f/2".into(),
            ..open()
        };
        assert_eq!(
            conflicts(&[open(), ended]),
            "\
FILE              VERSIONS  OPENED                ENDED                 BY
299_16xxdata.txt         2  2023-11-14T22:13:20Z  -                     -
299_16xxdata.txt         2  2023-11-14T22:13:20Z  2023-11-14T23:13:20Z  london/9f/2
"
        );
    }

    #[test]
    fn a_conflict_is_shown_with_what_is_in_each_version() {
        let large = Head { body_left_out: true, ..head("c", Standing::Concurrent, b"") };
        let heads = [head("london/9f/1", Standing::Served, b"A=\x1b[2J\n"), large];
        let shown = conflict(&open(), &heads);
        assert!(shown.contains("\nlondon/9f/1:\nA=\\u{1b}[2J\n"), "{shown}");
        assert!(shown.ends_with("\nc:\nnot shown here: bruri history show\n"), "{shown}");
    }
}
