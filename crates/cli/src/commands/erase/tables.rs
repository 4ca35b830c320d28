//! How erasures look to people.

use std::fmt::Write as _;

use bruri_wire::proto::erasure::v1::Erasure;

use crate::print::{self, Column, plain};

/// Digits of a subject's hash that tell subjects apart.
const SHOWN: usize = 12;

/// Erasures, one a line, and below each receipt by receipt what was removed.
pub(super) fn erasures(erasures: &[Erasure]) -> String {
    let columns = [
        Column::Left("SUBJECT"),
        Column::Left("ERASED"),
        Column::Left("BY"),
        Column::Left("LIFTED"),
        Column::Right("VERSIONS"),
        Column::Left("DONE AT"),
        Column::Left("MISSING"),
    ];
    let rows = erasures.iter().map(|erasure| {
        let done: Vec<&str> = erasure.receipts.iter().map(|r| r.site.as_str()).collect();
        let versions = erasure.receipts.iter().map(|receipt| receipt.versions);
        vec![
            erasure.subject_hash.chars().take(SHOWN).collect(),
            print::time(erasure.ordered_at.as_ref()),
            erasure.operator.clone(),
            print::time(erasure.lifted_at.as_ref()),
            print::number(versions.max().unwrap_or(0)),
            print::or_nothing(&done.join(", ")),
            print::or_nothing(&erasure.missing_sites.join(", ")),
        ]
    });
    print::table(&columns, rows)
}

/// What an erasure came to.
pub(super) fn erased(named: &str, erasure: &Erasure) -> String {
    let mut text = format!("{}: erased here, and barred until it is lifted\n", plain(named));
    if !erasure.missing_sites.is_empty() {
        let missing = plain(&erasure.missing_sites.join(", "));
        // Writing into a string does not fail.
        let _ = writeln!(text, "no receipt yet: {missing} (bruri erase status tells)");
    }
    text
}

/// What a lift came to.
pub(super) fn lifted(named: &str) -> String {
    format!("{}: phones may back it up again, as soon as their sites hear of it\n", plain(named))
}

#[cfg(test)]
mod tests {
    use bruri_wire::{Timestamp, proto::erasure::v1::Receipt};

    use super::*;

    fn erasure() -> Erasure {
        let receipt = |site: &str, versions| Receipt {
            site: site.to_owned(),
            versions,
            ..Receipt::default()
        };
        Erasure {
            subject_hash: "ab".repeat(32),
            ordered_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            operator: "uid 0".to_owned(),
            receipts: vec![receipt("london", 3), receipt("paris", 4)],
            missing_sites: vec!["tokyo".to_owned()],
            ..Erasure::default()
        }
    }

    #[test]
    fn an_erasure_tells_who_has_done_it_and_who_has_not() {
        assert_eq!(
            erasures(&[erasure()]),
            "\
SUBJECT       ERASED                BY     LIFTED  VERSIONS  DONE AT        MISSING
abababababab  2023-11-14T22:13:20Z  uid 0  -              4  london, paris  tokyo
"
        );
    }

    #[test]
    fn what_was_erased_is_told_without_acting_on_the_terminal() {
        let text = erased("299\x1b[2J", &erasure());
        assert!(text.starts_with("299\\u{1b}[2J: erased here"), "{text}");
        assert!(text.contains("no receipt yet: tokyo"), "{text}");
    }
}
