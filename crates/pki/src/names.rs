//! The names in a certificate: `spiffe://<deployment>/site/<site>`, on the CA only the first part.

use bruri_domain::limits::{DEPLOYMENT_NAME_CHARS_MAX, SITE_NAME_CHARS_MAX};

const SCHEME: &str = "spiffe://";

/// Checks a deployment's name.
pub fn deployment(text: &str) -> Result<String, String> {
    let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    check(text, DEPLOYMENT_NAME_CHARS_MAX, allowed)
        .ok_or_else(|| "expected 1 to 63 of a-z, 0-9, - and .".to_owned())
}

/// Checks a site's name.
pub fn site(text: &str) -> Result<String, String> {
    let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    check(text, SITE_NAME_CHARS_MAX, allowed)
        .ok_or_else(|| "expected 1 to 32 of a-z, 0-9 and -".to_owned())
}

fn check(text: &str, chars_max: usize, allowed: impl Fn(u8) -> bool) -> Option<String> {
    let fits = (1..=chars_max).contains(&text.len()) && text.bytes().all(allowed);
    fits.then(|| text.to_owned())
}

/// How a CA's certificate names its deployment.
pub fn deployment_uri(deployment: &str) -> String {
    format!("{SCHEME}{deployment}")
}

/// How a site's certificate names it.
pub fn site_uri(deployment: &str, site: &str) -> String {
    format!("{SCHEME}{deployment}/site/{site}")
}

/// Reads either: the deployment, and the site where one is named.
pub fn read_uri(uri: &str) -> Option<(String, Option<String>)> {
    let rest = uri.strip_prefix(SCHEME)?;
    match rest.split_once("/site/") {
        Some((of, name)) => Some((deployment(of).ok()?, Some(site(name).ok()?))),
        None => Some((deployment(rest).ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_of_few_characters() {
        assert!(deployment("phones-2.acme.example").is_ok());
        assert!(deployment(&"a".repeat(63)).is_ok());
        assert!(site("new-york-2").is_ok());
        for text in ["", "Acme", "a_b", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(deployment(text).is_err(), "{text:?}");
            assert!(site(text).is_err(), "{text:?}");
        }
        assert!(site("a.b").is_err());
        assert!(site(&"a".repeat(33)).is_err());
    }

    #[test]
    fn uris_are_read_as_they_are_written() {
        let read = read_uri(&site_uri("acme", "london"));
        assert_eq!(read, Some(("acme".to_owned(), Some("london".to_owned()))));
        assert_eq!(read_uri(&deployment_uri("acme")), Some(("acme".to_owned(), None)));
        for uri in ["https://acme", "spiffe://", "spiffe://acme/x", "spiffe://acme/site/", "acme"] {
            assert_eq!(read_uri(uri), None, "{uri}");
        }
    }
}
