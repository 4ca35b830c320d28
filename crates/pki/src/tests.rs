//! Certificates are signed for the key of who asks, and renewed for who holds one.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]

use time::{Duration, OffsetDateTime};

use crate::{Authority, Request, SiteKey, certificate, files};

fn now() -> OffsetDateTime {
    time::macros::datetime!(2026-01-01 0:00 UTC)
}

fn year() -> OffsetDateTime {
    now() + Duration::days(365)
}

fn request(key: &SiteKey) -> Request {
    Request::read(&key.request().unwrap()).unwrap()
}

/// A site's key and certificate.
fn joined(authority: &Authority) -> (SiteKey, String) {
    let key = SiteKey::make().unwrap();
    let pem = authority.sign("tokyo", &request(&key), now(), year()).unwrap();
    (key, pem)
}

#[test]
fn a_certificate_is_signed_for_the_key_of_the_request_and_the_name_of_the_invitation() {
    let authority = Authority::make("acme", now()).unwrap();
    let (key, pem) = joined(&authority);
    let [leaf] = &certificate::parse(&pem).unwrap()[..] else { panic!("one certificate") };
    let [ca] = &certificate::parse(authority.trusted_pem()).unwrap()[..] else { panic!("one CA") };
    assert!(key.fits(leaf) && leaf.is_signed_by(ca) && !leaf.is_ca);
    assert_eq!(leaf.name, Some(("acme".to_owned(), Some("tokyo".to_owned()))));
    assert_eq!(authority.fingerprint().unwrap(), ca.sha256());
}

#[test]
fn a_certificate_is_renewed_for_its_own_key_and_name() {
    let authority = Authority::make("acme", now()).unwrap();
    let (key, pem) = joined(&authority);
    let later = now() + Duration::days(250);
    let until = later + Duration::days(365);
    let (site, renewed) = authority.renew(&pem, &request(&key), later, until).unwrap();
    assert_eq!(site, "tokyo");
    let leaf = &certificate::parse(&renewed).unwrap()[0];
    assert!(key.fits(leaf));
    assert_eq!(leaf.not_after, until);
}

#[test]
fn nothing_is_renewed_for_another_key_after_the_end_or_for_a_certificate_of_another_ca() {
    let authority = Authority::make("acme", now()).unwrap();
    let (key, pem) = joined(&authority);
    let other = SiteKey::make().unwrap();
    let refused = |pem: &str, key: &SiteKey, at| {
        authority.renew(pem, &request(key), at, year()).unwrap_err().to_string()
    };
    assert!(refused(&pem, &other, now()).contains("not made with the key"));
    assert!(refused(&pem, &key, year() + Duration::days(1)).contains("not valid"));
    let (key, pem) = joined(&Authority::make("acme", now()).unwrap());
    assert!(refused(&pem, &key, now()).contains("not signed by the deployment's CA"));
    let ca = authority.trusted_pem();
    let ca_key = SiteKey::read(&authority.key_pem()).unwrap();
    // A CA names no site, and has signed itself.
    assert!(refused(ca, &ca_key, now()).contains("names no site"));
    assert!(refused("", &key, now()).contains("no certificate"));
}

#[test]
fn while_two_cas_are_trusted_the_one_whose_key_is_there_issues_and_renews_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) =
        (Authority::make("acme", now()).unwrap(), Authority::make("acme", now()).unwrap());
    let both = format!("{}{}", old.trusted_pem(), new.trusted_pem());
    let new_key = new.key_pem();
    let written = [
        files::NewFile::public(files::CA_CERT, &both),
        files::NewFile::secret(files::CA_KEY, &new_key),
    ];
    files::write_new(folder.path(), &written).unwrap();
    let rotating = Authority::load(folder.path(), now()).unwrap();
    assert_eq!(rotating.fingerprint().unwrap(), new.fingerprint().unwrap());
    assert_eq!(rotating.trusted_pem(), both);
    let (key, pem) = joined(&old);
    let (_, renewed) = rotating.renew(&pem, &request(&key), now(), year()).unwrap();
    let ca = &certificate::parse(new.trusted_pem()).unwrap()[0];
    assert!(certificate::parse(&renewed).unwrap()[0].is_signed_by(ca));
}

#[test]
fn a_request_that_is_damaged_or_too_large_is_refused() {
    let pem = SiteKey::make().unwrap().request().unwrap();
    assert!(Request::read(&pem.replacen('A', "B", 3)).is_err());
    assert!(Request::read("").is_err());
    let large = Request::read(&pem.repeat(100)).err().unwrap().to_string();
    assert!(large.contains("at most"), "{large}");
}

#[test]
fn a_file_is_replaced_at_once_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for text in ["one", "two"] {
        files::replace(folder.path(), &files::NewFile::secret(files::SITE_KEY, text)).unwrap();
        let path = folder.path().join(files::SITE_KEY);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
