//! Files that are made from others and committed: compare them with fresh ones, or replace them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Fails where `committed` does not hold exactly the files of `fresh`; `remedy` says what to run.
pub fn check(fresh: &Path, committed: &Path, remedy: &str) -> anyhow::Result<()> {
    let stale = differences(fresh, committed)?;
    let place = committed.display();
    ensure!(stale.is_empty(), "{place} is not current: {}; {remedy}", stale.join(", "));
    Ok(())
}

/// The names of the files that are missing, changed or superfluous in `committed`.
pub fn differences(fresh: &Path, committed: &Path) -> anyhow::Result<Vec<String>> {
    let fresh = read(fresh)?;
    let committed = if committed.exists() { read(committed)? } else { BTreeMap::new() };
    let mut names = Vec::new();
    for (name, content) in &fresh {
        match committed.get(name) {
            None => names.push(format!("{name} is missing")),
            Some(other) if other != content => names.push(format!("{name} differs")),
            Some(_) => {}
        }
    }
    let superfluous = committed.keys().filter(|name| !fresh.contains_key(*name));
    names.extend(superfluous.map(|name| format!("{name} is superfluous")));
    Ok(names)
}

/// Makes `committed` hold exactly the files of `fresh`; an equal file keeps its time, so that nothing is
/// built anew for it.
pub fn replace(fresh: &Path, committed: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(committed)
        .with_context(|| format!("create directory {}", committed.display()))?;
    let fresh = read(fresh)?;
    let old = read(committed)?;
    for (name, content) in &fresh {
        if old.get(name) != Some(content) {
            let path = committed.join(name);
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
    }
    for name in old.keys().filter(|name| !fresh.contains_key(*name)) {
        let path = committed.join(name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn read(directory: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let entries = fs::read_dir(directory)
        .with_context(|| format!("read directory {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[test]
    fn a_missing_a_changed_and_a_superfluous_file_are_named() {
        let fresh = directory(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let committed = directory(&[("b", "2"), ("c", "1"), ("d", "1")]);
        let found = differences(fresh.path(), committed.path()).unwrap();
        assert_eq!(found, ["a is missing", "b differs", "d is superfluous"]);
    }

    #[test]
    fn nothing_differs_after_replacing() {
        let fresh = directory(&[("a", "1"), ("b", "1")]);
        let committed = directory(&[("b", "2"), ("d", "1")]);
        replace(fresh.path(), committed.path()).unwrap();
        check(fresh.path(), committed.path(), "do not worry").unwrap();
    }

    #[test]
    fn the_refusal_says_what_to_run() {
        let fresh = directory(&[("a", "1")]);
        let refused = check(fresh.path(), &fresh.path().join("none"), "run this").unwrap_err();
        assert!(refused.to_string().ends_with("a is missing; run this"), "{refused}");
    }
}
