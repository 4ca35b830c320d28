//! No file grows beyond what can be read in one sitting; clippy has the same for functions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Lines of a file that are neither blank nor tests.
pub const FILE_LINES_MAX: usize = 400;

/// Fails where a source file is too long, naming each.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for path in sources(root)? {
        let source =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let lines = counted_lines(&source);
        if lines > FILE_LINES_MAX {
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            found.push(format!("{name} has {lines} lines, at most {FILE_LINES_MAX} are allowed"));
        }
    }
    ensure!(found.is_empty(), "sizes: {}", found.join("\nsizes: "));
    Ok(())
}

/// Counts the lines of `source` that are neither blank nor in its module of tests. The source must be
/// formatted: that module ends where its brace stands at the margin.
#[must_use]
pub fn counted_lines(source: &str) -> usize {
    let mut count = 0_usize;
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let module = line == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if module {
            lines.by_ref().find(|line| *line == "}");
        } else if !line.trim().is_empty() {
            count = count.saturating_add(1);
        }
    }
    count
}

fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(&root.join("tests/src"), &mut files)?;
    for entry in fs::read_dir(root.join("crates")).context("read directory crates")? {
        collect(&entry?.path().join("src"), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("read directory {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !["generated", "tests"].contains(&name.as_ref()) {
            collect(&path, files)?;
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_the_module_of_tests_do_not_count() {
        let source = "//! a\n\nfn b() {}\n  \n#[cfg(test)]\nmod tests {\n    fn c() {\n    }\n}\n";
        assert_eq!(counted_lines(source), 2);
    }

    #[test]
    fn what_follows_the_module_of_tests_counts() {
        assert_eq!(counted_lines("#[cfg(test)]\nmod tests {\n}\nfn b() {}\n"), 1);
    }

    #[test]
    fn a_module_of_tests_in_a_file_of_its_own_hides_nothing() {
        assert_eq!(counted_lines("#[cfg(test)]\nmod tests;\nfn b() {}\n"), 3);
    }

    #[test]
    fn a_file_that_is_too_long_is_named() {
        let root = tempfile::TempDir::new().unwrap();
        for directory in ["tests/src", "crates/a/src/generated"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let long = "fn a() {}\n".repeat(FILE_LINES_MAX.strict_add(1));
        fs::write(root.path().join("crates/a/src/generated/c.rs"), &long).unwrap();
        check(root.path()).unwrap();

        fs::write(root.path().join("crates/a/src/b.rs"), &long).unwrap();
        let refused = check(root.path()).unwrap_err().to_string();
        assert_eq!(refused, "sizes: crates/a/src/b.rs has 401 lines, at most 400 are allowed");
    }
}
