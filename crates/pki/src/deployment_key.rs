//! The deployment's key: 32 random bytes, in a file as hexadecimal digits.

use std::{fmt::Write, path::Path};

use crate::error::{Context, Outcome, ensure};
use rand::{TryRngCore, rngs::OsRng};

use crate::files::{self, DEPLOYMENT_KEY};

const BYTES: usize = 32;
const DIGITS: usize = 64;

/// A new one, as the file holds it.
pub fn make() -> Outcome<String> {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    let mut text = String::new();
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    Ok(text)
}

/// The one that the folder has, as its file holds it.
pub fn read(folder: &Path) -> Outcome<Option<String>> {
    let path = folder.join(DEPLOYMENT_KEY);
    let Some(text) = files::read(&path)? else { return Ok(None) };
    let digits = text.trim_end();
    ensure(digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit()), || {
        format!(
            "{} is damaged: expected {DIGITS} hexadecimal digits; copy it again from another site",
            path.display()
        )
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made_and_no_two_are_equal() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let key = make().unwrap();
        fs::write(dir.path().join(DEPLOYMENT_KEY), &key).unwrap();
        assert_eq!(read(dir.path()).unwrap().as_ref(), Some(&key));
        assert_ne!(make().unwrap(), key);
    }

    #[test]
    fn a_damaged_key_is_refused_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = make().unwrap();
        for text in ["", "short\n", &key[1..], &key.replace('\n', "0\n"), &"g".repeat(64)] {
            fs::write(dir.path().join(DEPLOYMENT_KEY), text).unwrap();
            let error = read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("is damaged") && !error.contains(&key[1..9]), "{error}");
        }
    }
}
