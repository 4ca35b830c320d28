//! What an operator may write, and what is said about the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Reads `text` as a configuration file with these variables.
fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::read(Some(file.path()), environment)
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    read(text, environment).unwrap_err().to_string()
}

fn sections(text: &str) -> Sections {
    toml::from_str(text).unwrap()
}

fn example() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/brurid.example.toml");
    fs::read_to_string(file).unwrap()
}

/// The example with its defaults in force, and with or without its suggestions.
fn uncommented(with_suggestions: bool) -> String {
    let mut text = String::new();
    for line in example().lines() {
        let line = match (line.strip_prefix("# e.g. "), line.strip_prefix("# ")) {
            (Some(suggestion), _) if with_suggestions => suggestion,
            (None, Some(setting)) if setting.starts_with('[') || is_setting(setting) => setting,
            _ => continue,
        };
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

#[test]
fn the_example_is_commented_out_and_shows_the_defaults() {
    assert_eq!(sections(&example()), Sections::default());
    assert_eq!(sections(&uncommented(false)), Sections::default());
}

#[test]
fn the_example_shows_every_key_and_its_suggestions_are_valid() {
    let text = uncommented(true);
    let table: toml::Table = text.parse().unwrap();
    for (key, _) in source::KEYS {
        let mut parts = key.split('.');
        let first = table.get(parts.next().unwrap());
        let shown = parts.try_fold(first, |value, part| value.map(|value| value.get(part)));
        assert!(shown.flatten().is_some(), "{key} is not shown");
    }
    read(&text, &[]).unwrap();
}

#[test]
fn without_a_configuration_everything_has_a_value() {
    let config = read("", &[]).unwrap();
    assert_eq!(config.edge.http, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(config.telemetry.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.ops.socket, config.site.data_dir.join("ops.sock"));
    assert_eq!(config.site.deployment_key_file, config.site.data_dir.join("pki/deployment.key"));
    assert!(config.database.url.is_none());
    assert!(config.replication.tls.is_none());
}

#[test]
fn the_environment_overrides_the_file_and_separates_lists_with_commas() {
    let text = "[site]\nname = \"london\"\n[replication]\npeers = [\"a:1\"]\n";
    let environment = [
        ("BRURI_SITE__NAME", "007"),
        ("BRURI_EDGE__HTTP", "127.0.0.1:1, [::1]:2"),
        ("BRURI_REPLICATION__PEERS", "tokyo.example:7440,[fd00::1]:7440"),
        ("BRURI_REPLICATION__TLS__CA_FILE", "/ca"),
        ("BRURI_REPLICATION__TLS__CERT_FILE", "/cert"),
        ("BRURI_REPLICATION__TLS__KEY_FILE", "/key"),
        ("BRURI_DATABASE__POOL_MAX", "20"),
        ("BRURI_SITE", "the operators' command reads this one"),
    ];
    let config = read(text, &environment).unwrap();
    assert_eq!(config.site.name.as_str(), "007");
    assert_eq!(config.edge.http, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.replication.peers, ["tokyo.example:7440", "[fd00::1]:7440"]);
    assert_eq!(config.replication.tls.unwrap().ca_file, PathBuf::from("/ca"));
    assert_eq!(config.database.pool_max, 20);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_keys_allowed() {
    let in_file = refusal("[edge]\nhtpp = []\n", &[]);
    assert!(in_file.starts_with("unknown key edge.htpp in /"), "{in_file}");
    assert!(in_file.ends_with(".toml; allowed are edge.http"), "{in_file}");

    let in_environment = refusal("", &[("BRURI_EDGE__HTPP", "x")]);
    let expected = "unknown key edge.htpp in environment variable BRURI_EDGE__HTPP; \
                    allowed are edge.http";
    assert_eq!(in_environment, expected);

    let section = refusal("[console]\nlisten = \"\"\n", &[]);
    assert!(section.starts_with("unknown key console in /"), "{section}");
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_place_and_what_is_allowed() {
    for (text, parts) in [
        ("[site]\nname = \"London\"", ["site.name = \"London\" in /", "1 to 32 of a-z, 0-9 and -"]),
        ("[edge]\nhttp = [\"8080\"]", ["edge.http = \"8080\" in /", "an IP address and a port"]),
        ("[edge]\nhttp = []", ["edge.http = \"\" in /", "1 to 16 addresses"]),
        ("[edge]\nhttp = 8080", ["edge.http", "sequence"]),
        ("edge = 5", ["edge in /", "is a section"]),
        ("[database]\npool_max = 0", ["database.pool_max = \"0\" in /", "from 4 to"]),
        ("[database]\npool_max = \"many\"", ["database.pool_max", ".toml"]),
        ("[replication]\npeers = [\"tokyo\"]", ["\"tokyo\" in /", "a host and a port"]),
        ("[replication]\npeers = [\"fd00::1:7440\"]", ["fd00", "a host and a port"]),
        ("[replication]\ndial = [\"Tokyo\"]", ["replication.dial = \"Tokyo\"", "names of sites"]),
        ("[replication]\nhub = \"maybe\"", ["replication.hub", "maybe"]),
        ("[replication.tls]\nca_file = \"x\"", ["replication.tls.cert_file", "a file"]),
        ("[telemetry]\nformat = \"xml\"", ["telemetry.format = \"xml\"", "\"text\" or \"json\""]),
        ("[telemetry]\nlog = \"loud\"", ["telemetry.log = \"loud\"", "error, warn, info"]),
        ("[site", ["TOML parse error", ".toml"]),
    ] {
        let refusal = refusal(text, &[]);
        for part in parts {
            assert!(refusal.contains(part), "{text:?} gives {refusal:?} without {part:?}");
        }
    }
}

#[test]
fn a_site_dials_all_those_that_are_named_or_as_a_hub_those_that_dial_it_too() {
    let named = BTreeSet::from([SiteName::parse("tokyo").unwrap()]);
    for (text, dials) in [
        ("", Dials::All),
        ("[replication]\ndial = [\"tokyo\"]", Dials::Only(named.clone())),
        ("[replication]\nhub = true", Dials::Hub(BTreeSet::new())),
        ("[replication]\nhub = true\ndial = [\"tokyo\"]", Dials::Hub(named)),
    ] {
        assert_eq!(read(text, &[]).unwrap().replication.dials, dials, "{text}");
    }
}

#[test]
fn a_file_that_is_named_must_exist() {
    let missing = Config::read(Some(Path::new("/nonexistent/brurid.toml")), []).unwrap_err();
    let expected = "failed to read configuration file /nonexistent/brurid.toml";
    assert_eq!(missing.to_string(), expected);
}

#[test]
fn the_password_of_the_database_is_neither_printed_nor_repeated() {
    let config = read("[database]\nurl = \"postgres://u:hunter2@db/bruri\"", &[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.database.url.unwrap().expose(), "postgres://u:hunter2@db/bruri");

    let refusal = refusal("[database]\nurl = \"mysql://u:hunter2@db/bruri\"", &[]);
    assert!(refusal.contains("expected postgres://"), "{refusal}");
    assert!(!refusal.contains("hunter2"), "{refusal}");
}

#[test]
fn certificates_in_the_data_directory_are_found() {
    let data_dir = tempfile::tempdir().unwrap();
    let pki = data_dir.path().join("pki");
    fs::create_dir(&pki).unwrap();
    let text = format!("[site]\ndata_dir = {:?}", data_dir.path());

    for name in ["ca.crt", "site.crt"] {
        fs::write(pki.join(name), "").unwrap();
    }
    assert_eq!(read(&text, &[]).unwrap().replication.tls, None);

    fs::write(pki.join("site.key"), "").unwrap();
    let tls = read(&text, &[]).unwrap().replication.tls.unwrap();
    assert_eq!(tls.key_file, pki.join("site.key"));
}
