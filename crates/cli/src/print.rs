//! How things look to people: tables, times, sizes. Programs get JSON.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use bruri_wire::Timestamp;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use time::{
    OffsetDateTime, format_description::StaticFormatDescription, macros::format_description,
};

const SECONDS: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MICROSECONDS: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// What stands where there is nothing to tell.
const NOTHING: &str = "-";

/// Where a command prints to, and in which form.
pub(crate) struct Output<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) json: bool,
}

impl Output<'_> {
    /// For people.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// For programs.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.text(&text)
    }
}

/// For people, beside what was asked for.
pub(crate) fn note(text: &str) {
    // It only helps; what was asked for is printed elsewhere.
    let _ = writeln!(io::stderr(), "{text}");
}

/// How a column stands.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    /// Texts.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// A table without lines: columns two spaces apart under their titles.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(title) | Column::Right(title) => *title,
    }));
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for (column, shown) in columns.iter().zip(table.column_iter_mut()) {
        shown.set_padding((0, 2));
        if matches!(column, Column::Right(_)) {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Titles with what belongs to them, one a line; those without anything are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let told = facts.iter().filter(|(_, fact)| !fact.is_empty());
    let width = told.clone().map(|(title, _)| title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, fact) in told {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{title:<width$}  {}", plain(fact));
    }
    text
}

/// A text that does nothing to the terminal, nor turns around what stands beside it.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A text, or what stands for none.
pub(crate) fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() }
}

/// A time to the second.
pub(crate) fn time(at: Option<&Timestamp>) -> String {
    formatted(at, SECONDS).unwrap_or_else(|| NOTHING.to_owned())
}

/// A time to the microsecond; none where there is none, or it is beyond the year 9999.
pub(crate) fn exact_time(at: Option<&Timestamp>) -> Option<String> {
    formatted(at, MICROSECONDS)
}

fn formatted(at: Option<&Timestamp>, form: StaticFormatDescription) -> Option<String> {
    let at = at?;
    let nanos = u32::try_from(at.nanos).ok()?;
    let time = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
    time.replace_nanosecond(nanos).ok()?.format(form).ok()
}

/// A number with commas: `1,204`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().abs_diff(place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the largest unit of which there is one, to a tenth: `52.1 kB`.
pub(crate) fn size(bytes: u64) -> String {
    // A tenth of each unit.
    let units = [
        (100_u64, "kB"),
        (100_000, "MB"),
        (100_000_000, "GB"),
        (100_000_000_000, "TB"),
        (100_000_000_000_000, "PB"),
        (100_000_000_000_000_000, "EB"),
    ];
    let rounded = |tenth: u64| bytes.saturating_add(tenth / 2).checked_div(tenth).unwrap_or(0);
    // Of the next smaller unit it would be 1000 or more.
    let fits = |tenth: u64| bytes.saturating_add(tenth / 2000) >= tenth.saturating_mul(10);
    let largest = units.into_iter().rev().find(|(tenth, _)| fits(*tenth));
    largest.map_or_else(
        || format!("{bytes} B"),
        |(tenth, name)| format!("{}.{} {name}", rounded(tenth) / 10, rounded(tenth) % 10),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_its_numbers_stand_at_the_right() {
        let columns = [Column::Left("FILE"), Column::Right("SIZE"), Column::Left("BY")];
        let rows = [["299_16xxdata.txt", "9 B", "É 日本"], ["a", "52.1 kB", ""]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&columns, rows),
            "FILE                 SIZE  BY\n\
             299_16xxdata.txt      9 B  É 日本\n\
             a                 52.1 kB\n"
        );
    }

    #[test]
    fn facts_stand_under_each_other_and_empty_ones_not_at_all() {
        let told = facts(&[
            ("site", "london".to_owned()),
            ("deployment", String::new()),
            ("files", "2".to_owned()),
        ]);
        assert_eq!(told, "site   london\nfiles  2\n");
    }

    #[test]
    fn nothing_that_is_printed_reaches_the_terminal_as_a_command() {
        assert_eq!(
            plain("a\u{1b}[2J\r\n\t\u{9b}b\u{202e}c"),
            "a\\u{1b}[2J\\r\\n\\t\\u{9b}b\\u{202e}c"
        );
        assert_eq!(plain("Soňa O'Brien 日本"), "Soňa O'Brien 日本");
    }

    #[test]
    fn times_are_utc() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 1_234_567 };
        assert_eq!(time(Some(&at)), "2023-11-14T22:13:20Z");
        assert_eq!(exact_time(Some(&at)).unwrap(), "2023-11-14T22:13:20.001234Z");
        assert_eq!((time(None).as_str(), exact_time(None)), ("-", None));
        let late = Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!((time(Some(&late)).as_str(), exact_time(Some(&late))), ("-", None));
    }

    #[test]
    fn sizes_are_told_in_the_largest_unit_of_which_there_is_one() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (52_094, "52.1 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_048_576, "1.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn numbers_have_commas() {
        for (value, text) in [(0, "0"), (999, "999"), (1204, "1,204"), (1_000_000, "1,000,000")] {
            assert_eq!(number(value), text);
        }
    }
}
