//! `bruri pki`, run as people run it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it left out"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// One where `bruri pki init` has run in the folder `pki`.
    fn with_deployment(name: &str) -> Self {
        let desk = Self::new();
        desk.works(&["init", "--dir", "pki", "--deployment", name]);
        desk
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bruri"));
        command.current_dir(self.dir.path()).arg("pki").args(args).output().unwrap()
    }

    fn works(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What each file of a folder holds.
    fn contents(&self, folder: &str) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.path(folder)).unwrap().map(Result::unwrap);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        files.map(|file| (file.file_name().into_string().unwrap(), read(file.path()))).collect()
    }

    /// Runs openssl, where there is one.
    fn openssl(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new("openssl");
        let Ok(output) = command.current_dir(self.dir.path()).args(args).output() else {
            println!("SKIPPED: no openssl in PATH");
            return None;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args:?}: {errors}");
        Some(String::from_utf8(output.stdout).unwrap())
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(contents: &BTreeMap<String, String>) -> Vec<&str> {
    contents.keys().map(String::as_str).collect()
}

#[test]
fn a_deployment_is_made_a_site_issued_and_both_are_shown() {
    let desk = Desk::new();
    let made = desk.works(&["init", "--dir", "a/b/pki", "--deployment", "acme.example"]);
    assert!(made.contains("bruri pki issue SITE --dir a/b/pki --out a/b/pki"), "{made}");
    assert_eq!(names(&desk.contents("a/b/pki")), ["ca.crt", "ca.key", "deployment.key"]);

    let issued = desk.works(&["issue", "tokyo", "--dir", "a/b/pki", "--days", "30"]);
    assert!(issued.contains("scp -p tokyo-pki/* root@tokyo:/var/lib/brurid/pki/"), "{issued}");
    let (ours, theirs) = (desk.contents("a/b/pki"), desk.contents("tokyo-pki"));
    assert_eq!(names(&theirs), ["ca.crt", "deployment.key", "site.crt", "site.key"]);
    assert_eq!(theirs["ca.crt"], ours["ca.crt"]);
    assert_eq!(theirs["deployment.key"], ours["deployment.key"]);

    let shown = desk.works(&["show", "tokyo-pki"]);
    for line in [
        "CA of deployment  acme.example",
        "key               not here; it is at the first site",
        "site              tokyo",
        "deployment        acme.example",
        "signed            by the CA in ca.crt",
        "key               site.key fits\n",
        "deployment key    present\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    // The clock moves on between issuing and showing.
    for days in [[3650, 3649], [30, 29]] {
        assert!(days.iter().any(|days| shown.contains(&format!("({days} days left)"))), "{shown}");
    }
    let alone = desk.works(&["show", "tokyo-pki/site.crt"]);
    assert!(shown.contains(&alone), "{alone}");
}

#[test]
fn the_first_site_keeps_its_files_beside_the_ca() {
    let desk = Desk::with_deployment("acme");
    let before = desk.contents("pki");
    let issued = desk.works(&["issue", "london", "--dir", "pki", "--out", "pki"]);
    assert!(issued.contains("restart brurid here") && !issued.contains("scp"), "{issued}");
    let after = desk.contents("pki");
    assert_eq!(names(&after), ["ca.crt", "ca.key", "deployment.key", "site.crt", "site.key"]);
    assert!(before.iter().all(|(name, text)| after[name] == *text));
    assert!(desk.works(&["show", "pki"]).contains("ca.key fits\n"));
}

#[test]
fn existing_files_are_never_overwritten() {
    let desk = Desk::with_deployment("acme");
    desk.works(&["issue", "tokyo", "--dir", "pki"]);
    let before = (desk.contents("pki"), desk.contents("tokyo-pki"));

    let error = desk.fails(&["init", "--dir", "pki", "--deployment", "beta"]);
    assert!(
        error.contains("already holds a deployment's CA (ca.crt); nothing was changed"),
        "{error}"
    );
    let error = desk.fails(&["issue", "tokyo", "--dir", "pki"]);
    assert!(error.contains("already holds a site's certificate (site.crt)"), "{error}");
    desk.works(&["init", "--dir", "other", "--deployment", "beta"]);
    let error = desk.fails(&["issue", "paris", "--dir", "pki", "--out", "other"]);
    assert!(error.contains("ca.crt is there with another content"), "{error}");

    assert_eq!((desk.contents("pki"), desk.contents("tokyo-pki")), before);
    assert_eq!(names(&desk.contents("other")), ["ca.crt", "ca.key", "deployment.key"]);
}

#[test]
fn a_deployment_key_that_is_there_is_kept() {
    let desk = Desk::new();
    fs::create_dir(desk.path("pki")).unwrap();
    let key = "0123456789abcdef".repeat(4) + "\n";
    fs::write(desk.path("pki/deployment.key"), &key).unwrap();
    let made = desk.works(&["init", "--dir", "pki", "--deployment", "acme"]);
    assert!(made.contains("kept as it was"), "{made}");
    assert_eq!(desk.contents("pki")["deployment.key"], key);

    fs::remove_file(desk.path("pki/ca.crt")).unwrap();
    fs::remove_file(desk.path("pki/ca.key")).unwrap();
    fs::write(desk.path("pki/deployment.key"), "damaged").unwrap();
    let error = desk.fails(&["init", "--dir", "pki", "--deployment", "acme"]);
    assert!(error.contains("deployment.key is damaged"), "{error}");
    assert_eq!(names(&desk.contents("pki")), ["deployment.key"]);
}

#[test]
fn secrets_are_for_their_owner_only() {
    let desk = Desk::with_deployment("acme");
    desk.works(&["issue", "tokyo", "--dir", "pki"]);
    for folder in ["pki", "tokyo-pki"] {
        assert_eq!(mode(&desk.path(folder)), 0o700, "{folder}");
    }
    let secrets =
        ["pki/ca.key", "pki/deployment.key", "tokyo-pki/site.key", "tokyo-pki/deployment.key"];
    for secret in secrets {
        assert_eq!(mode(&desk.path(secret)), 0o600, "{secret}");
    }
    fs::set_permissions(desk.path("tokyo-pki/site.key"), PermissionsExt::from_mode(0o640)).unwrap();
    let shown = desk.works(&["show", "tokyo-pki"]);
    assert!(shown.contains("OPEN TO OTHERS (mode 640): chmod 600"), "{shown}");
}

#[test]
fn openssl_verifies_the_chain_and_sees_the_same() {
    let desk = Desk::with_deployment("acme");
    desk.works(&["issue", "tokyo", "--dir", "pki"]);
    for purpose in ["sslserver", "sslclient"] {
        let verified = desk.openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            "pki/ca.crt",
            "tokyo-pki/site.crt",
        ]);
        assert!(verified.is_none_or(|text| text.contains("site.crt: OK")));
    }
    let name =
        desk.openssl(&["x509", "-in", "tokyo-pki/site.crt", "-noout", "-ext", "subjectAltName"]);
    assert!(name.is_none_or(|text| text.contains("URI:spiffe://acme/site/tokyo")));
    let print = desk.openssl(&["x509", "-in", "pki/ca.crt", "-noout", "-fingerprint", "-sha256"]);
    if let Some(print) = print {
        let print = print.trim().split_once('=').unwrap().1;
        assert!(desk.works(&["show", "pki/ca.crt"]).contains(print));
    }
}

#[test]
fn a_certificate_lasts_no_longer_than_its_ca() {
    let desk = Desk::with_deployment("acme");
    desk.works(&["issue", "tokyo", "--dir", "pki", "--days", "3650"]);
    let until = |path| {
        let shown = desk.works(&["show", path]);
        shown.lines().find(|line| line.contains(" valid ")).unwrap()[..44].to_owned()
    };
    assert_eq!(until("tokyo-pki/site.crt"), until("pki/ca.crt"));
}

#[test]
fn wrong_names_and_days_are_refused_with_what_is_expected() {
    let desk = Desk::with_deployment("acme");
    let error = desk.fails(&["init", "--dir", "new", "--deployment", "Acme Ltd"]);
    assert!(error.contains("1 to 63 of a-z, 0-9, - and ."), "{error}");
    let error = desk.fails(&["issue", "../tokyo", "--dir", "pki"]);
    assert!(error.contains("1 to 32 of a-z, 0-9 and -"), "{error}");
    for days in ["0", "3651", "x"] {
        desk.fails(&["issue", "tokyo", "--dir", "pki", "--days", days]);
    }
    assert!(!desk.path("new").exists() && !desk.path("tokyo-pki").exists());
}

#[test]
fn a_folder_without_a_usable_ca_issues_nothing() {
    let desk = Desk::with_deployment("acme");
    let error = desk.fails(&["issue", "tokyo", "--dir", "nowhere"]);
    assert!(error.contains("bruri pki init --deployment NAME"), "{error}");

    desk.works(&["init", "--dir", "other", "--deployment", "acme"]);
    fs::copy(desk.path("other/ca.key"), desk.path("pki/ca.key")).unwrap();
    let error = desk.fails(&["issue", "tokyo", "--dir", "pki"]);
    assert!(error.contains("ca.key is not the key of pki/ca.crt"), "{error}");

    fs::remove_file(desk.path("other/deployment.key")).unwrap();
    let error = desk.fails(&["issue", "tokyo", "--dir", "other"]);
    assert!(error.contains("deployment.key is missing"), "{error}");
    assert!(!desk.path("tokyo-pki").exists());
}

#[test]
fn files_that_do_not_fit_together_are_shown_as_such() {
    let desk = Desk::with_deployment("acme");
    desk.works(&["issue", "tokyo", "--dir", "pki"]);
    desk.works(&["init", "--dir", "other", "--deployment", "beta"]);
    fs::copy(desk.path("other/ca.crt"), desk.path("tokyo-pki/ca.crt")).unwrap();
    fs::copy(desk.path("other/ca.key"), desk.path("tokyo-pki/site.key")).unwrap();
    fs::remove_file(desk.path("tokyo-pki/deployment.key")).unwrap();
    let shown = desk.works(&["show", "tokyo-pki"]);
    for line in ["NOT by the CA in ca.crt", "site.key DOES NOT FIT", "MISSING: copy it from"] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let error = desk.fails(&["show", "tokyo-pki/site.key"]);
    assert!(error.contains("holds no certificate in PEM form"), "{error}");
    let error = desk.fails(&["show", "nowhere"]);
    assert!(error.contains("there is no nowhere"), "{error}");
}
