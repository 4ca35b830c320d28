//! Every law in ARCHITECTURE.md names tests, and every test that it names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Laws of the project; a table with fewer rows has lost one.
const LAWS: usize = 10;

/// Fails where a law names no test, or one that is not there.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let mut tests = BTreeSet::new();
    for directory in ["crates", "tests"] {
        collect_tests(&root.join(directory), &mut tests)?;
    }
    let found = breaches(&page, &tests);
    ensure!(found.is_empty(), "laws: {}", found.join("\nlaws: "));
    Ok(())
}

/// What is wrong with the table of laws on `page`, given the names of all tests.
#[must_use]
pub fn breaches(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let laws: Vec<(&str, Vec<&str>)> = page.lines().filter_map(law).collect();
    let mut found = Vec::new();
    if laws.len() != LAWS {
        found.push(format!("ARCHITECTURE.md has {} laws, expected {LAWS}", laws.len()));
    }
    for (number, named) in laws {
        if named.is_empty() {
            found.push(format!("law {number} names no test"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        found.extend(missing.map(|name| format!("law {number} names {name}, which is no test")));
    }
    found
}

/// Number and tests of a row of the table: number, law, and the tests' names in backticks.
fn law(line: &str) -> Option<(&str, Vec<&str>)> {
    let cells: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
    let [number, _, tests] = cells.as_slice() else { return None };
    let number = number.trim();
    number.parse::<u32>().ok()?;
    Some((number, tests.split('`').skip(1).step_by(2).collect()))
}

/// Adds the names of all functions below an attribute that makes a test: `#[test]`, `#[tokio::test]`,
/// `#[sqlx::test(…)]`; those within `proptest!` carry one too.
fn collect_tests(directory: &Path, tests: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path: PathBuf = entry.context("list")?.path();
        if path.is_dir() {
            collect_tests(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            tests.extend(tests_in(&source));
        }
    }
    Ok(())
}

fn tests_in(source: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.contains("test]") || line.contains("::test(");
        } else if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if std::mem::take(&mut is_test) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(laws: usize, tests: &str) -> String {
        let rows: Vec<String> = (1..=laws).map(|n| format!("| {n} | law | {tests} |")).collect();
        rows.join("\n")
    }

    #[test]
    fn a_law_without_a_test_and_a_test_that_is_gone_are_found() {
        let tests: BTreeSet<String> = ["one".to_owned()].into();
        assert_eq!(breaches(&page(10, "`one`"), &tests), Vec::<String>::new());
        assert_eq!(breaches(&page(10, "none"), &tests)[0], "law 1 names no test");
        let gone = breaches(&page(10, "`one`, `two`"), &tests);
        assert_eq!(gone[9], "law 10 names two, which is no test");
        let fewer = breaches(&page(9, "`one`"), &tests);
        assert_eq!(fewer, ["ARCHITECTURE.md has 9 laws, expected 10"]);
    }

    #[test]
    fn only_functions_with_a_test_attribute_are_tests() {
        let source = "#[test]\nfn a() {}\nfn b() {}\n#[sqlx::test(migrator = \"m\")]\nasync fn c(\n\
                      #[tokio::test]\n#[ignore]\nasync fn d() {}\n";
        assert_eq!(tests_in(source), ["a", "c", "d"]);
    }
}
