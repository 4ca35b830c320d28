//! Turns what an operator wrote into typed values, or into an error that says what is allowed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{self, Path, PathBuf};

use bruri_domain::SiteName;
use bruri_domain::limits::{DATABASE_POOL_MAX, EDGE_ADDRESSES_MAX, PEERS_MAX, SITE_NAME_CHARS_MAX};
use bruri_replication::Dials;

use super::source::Read;
use super::{
    Config, ConfigError, Database, Edge, LogFormat, Ops, Replication, Site, Telemetry, Tls,
};
use crate::access::User;
use crate::telemetry;

/// The least that serves phones, peers and operators at a time.
const POOL_MIN: u32 = 4;
const ADDRESS: &str = "an IP address and a port, e.g. \"0.0.0.0:8080\" or \"[::]:8080\"";
const HOST_AND_PORT: &str = "a host and a port, e.g. \"tokyo.example:7440\"";
/// Characters of a host's name, as DNS has it.
const HOST_CHARS_MAX: usize = 253;

pub(super) fn validate(read: &Read) -> Result<Config, ConfigError> {
    let site = site(read)?;
    Ok(Config {
        file: read.file.clone(),
        edge: edge(read)?,
        database: database(read)?,
        replication: replication(read, &site.data_dir)?,
        ops: Ops { socket: within(&site.data_dir, &read.sections.ops.socket, "ops.sock") },
        telemetry: telemetry_settings(read)?,
        site,
    })
}

fn site(read: &Read) -> Result<Site, ConfigError> {
    let section = &read.sections.site;
    let name = if section.name.is_empty() { name_of_host() } else { section.name.clone() };
    let expected = || format!("1 to {SITE_NAME_CHARS_MAX} of a-z, 0-9 and -");
    let name = SiteName::parse(&name).map_err(|_| invalid(read, "site.name", &name, expected()))?;
    let data_dir = if section.data_dir.is_empty() {
        default_data_dir()
    } else {
        PathBuf::from(&section.data_dir)
    };
    let data_dir = path::absolute(&data_dir).unwrap_or(data_dir);
    let key_file = within(&data_dir, &section.deployment_key_file, "pki/deployment.key");
    let is_named = !section.name.is_empty();
    Ok(Site { name, is_named, data_dir, deployment_key_file: key_file })
}

/// The first part of the host's name in the letters that a site's name may have.
fn name_of_host() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    site_name_from(&host)
}

fn site_name_from(host: &str) -> String {
    let label = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let valid = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = label.chars().map(valid).take(SITE_NAME_CHARS_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "site".to_owned() } else { name.to_owned() }
}

/// For root and for services, which have no home of their own, below /var; else below the home.
pub(super) fn default_data_dir() -> PathBuf {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home {
        Some(home) if !User::current().is_root() && home != Path::new("/") && home.is_dir() => {
            home.join(".local/state/brurid")
        }
        _ => PathBuf::from("/var/lib/brurid"),
    }
}

fn edge(read: &Read) -> Result<Edge, ConfigError> {
    let key = "edge.http";
    let texts = &read.sections.edge.http;
    if texts.is_empty() || texts.len() > EDGE_ADDRESSES_MAX {
        let expected = format!("1 to {EDGE_ADDRESSES_MAX} addresses");
        return Err(invalid(read, key, &texts.join(", "), expected));
    }
    let http = texts.iter().map(|text| address(read, key, text)).collect::<Result<_, _>>()?;
    Ok(Edge { http })
}

fn database(read: &Read) -> Result<Database, ConfigError> {
    let section = &read.sections.database;
    let url = Some(section.url.clone()).filter(|url| !url.expose().is_empty());
    if let Some(url) = &url {
        let scheme = ["postgres://", "postgresql://"];
        let is_valid = scheme.iter().any(|scheme| url.expose().starts_with(scheme))
            && url.expose().parse::<sqlx::postgres::PgConnectOptions>().is_ok();
        if !is_valid {
            // The value may hold a password, so it is not repeated.
            let expected = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with anything but letters \
                            and digits in the password percent-encoded";
            return Err(invalid(read, "database.url", "***", expected.to_owned()));
        }
    }
    let pool_max = section.pool_max;
    if !(POOL_MIN..=DATABASE_POOL_MAX).contains(&pool_max) {
        let expected = format!("a number from {POOL_MIN} to {DATABASE_POOL_MAX}");
        return Err(invalid(read, "database.pool_max", &pool_max.to_string(), expected));
    }
    Ok(Database { url, pool_max })
}

fn replication(read: &Read, data_dir: &Path) -> Result<Replication, ConfigError> {
    let section = &read.sections.replication;
    let key = "replication.peers";
    if section.peers.len() > PEERS_MAX {
        let expected = format!("at most {PEERS_MAX} of them");
        return Err(invalid(read, key, &section.peers.len().to_string(), expected));
    }
    for peer in &section.peers {
        host_and_port(read, key, peer)?;
    }
    if !section.advertise.is_empty() {
        host_and_port(read, "replication.advertise", &section.advertise)?;
    }
    Ok(Replication {
        listen: optional_address(read, "replication.listen", &section.listen)?,
        advertise: Some(section.advertise.clone()).filter(|text| !text.is_empty()),
        peers: section.peers.clone(),
        dials: dials(read)?,
        snapshot_records: section.snapshot_records,
        tls: tls(read, data_dir)?,
    })
}

fn dials(read: &Read) -> Result<Dials, ConfigError> {
    let section = &read.sections.replication;
    let key = "replication.dial";
    if section.dial.len() > PEERS_MAX {
        let expected = format!("at most {PEERS_MAX} of them");
        return Err(invalid(read, key, &section.dial.len().to_string(), expected));
    }
    let name = |text: &String| {
        let expected =
            || format!("names of sites, each 1 to {SITE_NAME_CHARS_MAX} of a-z, 0-9 and -");
        SiteName::parse(text).map_err(|_| invalid(read, key, text, expected()))
    };
    let named: BTreeSet<SiteName> = section.dial.iter().map(name).collect::<Result<_, _>>()?;
    Ok(match section.hub {
        true => Dials::Hub(named),
        false if named.is_empty() => Dials::All,
        false => Dials::Only(named),
    })
}

/// The files that are named; else those that `bruri pki` puts into the data directory.
fn tls(read: &Read, data_dir: &Path) -> Result<Option<Tls>, ConfigError> {
    let section = &read.sections.replication.tls;
    let files = [
        ("replication.tls.ca_file", &section.ca_file),
        ("replication.tls.cert_file", &section.cert_file),
        ("replication.tls.key_file", &section.key_file),
    ];
    if files.iter().all(|(_, file)| file.is_empty()) {
        let pki = data_dir.join("pki");
        let [ca_file, cert_file, key_file] =
            ["ca.crt", "site.crt", "site.key"].map(|name| pki.join(name));
        let all_exist = [&ca_file, &cert_file, &key_file].iter().all(|file| file.exists());
        return Ok(all_exist.then_some(Tls { ca_file, cert_file, key_file }));
    }
    if let Some((key, _)) = files.iter().find(|(_, file)| file.is_empty()) {
        let expected = "a file, since another key of [replication.tls] names one".to_owned();
        return Err(invalid(read, key, "", expected));
    }
    let [ca_file, cert_file, key_file] = files.map(|(_, file)| PathBuf::from(file));
    Ok(Some(Tls { ca_file, cert_file, key_file }))
}

fn telemetry_settings(read: &Read) -> Result<Telemetry, ConfigError> {
    let section = &read.sections.telemetry;
    let format = match section.format.as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => {
            let expected = "\"text\" or \"json\"".to_owned();
            return Err(invalid(read, "telemetry.format", other, expected));
        }
    };
    if !telemetry::is_valid_level(&section.log) {
        let expected = "error, warn, info, debug or trace, or levels by part, e.g. \
                        \"info,postgres=warn\"";
        return Err(invalid(read, "telemetry.log", &section.log, expected.to_owned()));
    }
    Ok(Telemetry {
        metrics: optional_address(read, "telemetry.metrics", &section.metrics)?,
        log: section.log.clone(),
        format,
    })
}

fn within(data_dir: &Path, set: &str, default: &str) -> PathBuf {
    if set.is_empty() { data_dir.join(default) } else { PathBuf::from(set) }
}

fn address(read: &Read, key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| invalid(read, key, text, ADDRESS.to_owned()))
}

fn optional_address(
    read: &Read,
    key: &'static str,
    text: &str,
) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() { Ok(None) } else { address(read, key, text).map(Some) }
}

fn host_and_port(read: &Read, key: &'static str, text: &str) -> Result<(), ConfigError> {
    let is_host = |host: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        (1..=HOST_CHARS_MAX).contains(&host.len()) && host.bytes().all(valid)
    };
    // An IPv6 address stands in brackets, so that its colons are none of the port.
    let is_plain = |host: &str| host.starts_with('[') == host.contains(':');
    match text.rsplit_once(':') {
        Some((host, port))
            if is_host(host) && is_plain(host) && port.parse().is_ok_and(|port: u16| port > 0) =>
        {
            Ok(())
        }
        _ => Err(invalid(read, key, text, HOST_AND_PORT.to_owned())),
    }
}

fn invalid(read: &Read, key: &'static str, value: &str, expected: String) -> ConfigError {
    let origin = read.origin(key).to_owned();
    ConfigError::Invalid { key, value: value.to_owned(), origin, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_host_becomes_a_valid_name_of_a_site() {
        for (host, expected) in [
            ("London\n", "london"),
            ("branch_07.example.com", "branch-07"),
            ("--", "site"),
            ("", "site"),
            (&"x".repeat(64), &"x".repeat(32)),
        ] {
            let name = site_name_from(host);
            assert_eq!(name, expected);
            SiteName::parse(&name).unwrap();
        }
    }
}
