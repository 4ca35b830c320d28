//! The address of a file, built from BRURI as phones build it.

use std::{fmt, path::Path};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::Uri;

const PORT: u16 = 80;
/// How the name of every file of a phone ends.
const FILE_SUFFIX: &str = "data.txt";

/// Where a file is.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Address {
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the port where the address has one: what a phone says in Host.
    pub(crate) authority: String,
    /// From its first slash on.
    pub(crate) path: String,
    /// The value of Authorization, where the address holds a user and a password: 96x1 phones take them
    /// out of BRURI and send them unasked (46xxsettings.txt template of July 2022; unasked: observed,
    /// unconfirmed). Never printed.
    pub(crate) authorization: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Address {
    /// Puts BRURI and the name of a file together with exactly one slash between (1600 Administrator
    /// Guide 16-601443 issue 5, p. 106), unless the address names a file already.
    pub(crate) fn of(bruri: &str, file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(rest) = bruri.strip_prefix("http://") else {
            bail!("expected an address that begins with http://");
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        ensure!(!authority.is_empty(), "the address names no host");
        let path = with_file(path, file)?;
        let uri: Uri = format!("http://{authority}{path}")
            .parse()
            .context("the address holds characters that no address may hold")?;
        let host = uri.host().context("the address names no host")?;
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().context("the address names no port after the colon")?,
            None => PORT,
        };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: authority.to_owned(),
            path,
            authorization: userinfo.map(basic).transpose()?,
        })
    }
}

fn with_file(path: &str, file: Option<&Path>) -> anyhow::Result<String> {
    if path.to_ascii_lowercase().ends_with(FILE_SUFFIX) {
        return Ok(path.to_owned());
    }
    let name = file
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .context("the address names no file, e.g. http://192.0.2.10:8080/299_16xxdata.txt")?;
    Ok(format!("{}/{name}", path.strip_suffix('/').unwrap_or(path)))
}

fn basic(userinfo: &str) -> anyhow::Result<String> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut credentials = decoded(user)?;
    credentials.push(b':');
    credentials.extend(decoded(password)?);
    Ok(format!("Basic {}", BASE64.encode(credentials)))
}

/// Takes percent-encoding away.
fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).context("% without two digits")?;
        let digits = std::str::from_utf8(digits).context("% without two digits")?;
        bytes.push(u8::from_str_radix(digits, 16).context("% without two digits")?);
        rest = after;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bruri: &str, file: &str) -> Address {
        Address::of(bruri, Some(Path::new(file))).unwrap()
    }

    #[test]
    fn one_slash_stands_between_bruri_and_the_name() {
        for (bruri, file, expected) in [
            ("http://h:8080", "299_16xxdata.txt", "http://h:8080/299_16xxdata.txt"),
            ("http://h:8080/", "dir/299_16xxdata.txt", "http://h:8080/299_16xxdata.txt"),
            ("http://h/PhoneBackup", "299_16xxdata.txt", "http://h/PhoneBackup/299_16xxdata.txt"),
            ("http://h/PhoneBackup/", "x.php", "http://h/PhoneBackup/x.php"),
            ("http://h//", "9610data.txt", "http://h//9610data.txt"),
            ("http://h/300_96XXDATA.TXT", "299_16xxdata.txt", "http://h/300_96XXDATA.TXT"),
            ("http://[::1]:80/", "9610data.txt", "http://[::1]:80/9610data.txt"),
        ] {
            assert_eq!(address(bruri, file).to_string(), expected);
        }
    }

    #[test]
    fn host_and_port_are_taken_from_the_address() {
        for (bruri, host, port) in [
            ("http://h", "h", 80),
            ("http://[::1]:8080/", "::1", 8080),
            ("http://a@h:81/", "h", 81),
        ] {
            let address = address(bruri, "9610data.txt");
            assert_eq!((address.host.as_str(), address.port), (host, port));
        }
    }

    #[test]
    fn user_and_password_become_a_header_and_are_not_shown() {
        let address = address("http://10.20.30.40:55%3a12@h/", "9610data.txt");
        assert_eq!(address.to_string(), "http://h/9610data.txt");
        // 10.20.30.40:55:12
        assert_eq!(address.authorization.unwrap(), "Basic MTAuMjAuMzAuNDA6NTU6MTI=");
        assert!(Address::of("http://a%zz@h/", Some(Path::new("9610data.txt"))).is_err());
    }

    #[test]
    fn other_addresses_are_refused() {
        for (bruri, told) in [
            ("https://h/9610data.txt", "expected an address that begins with http://"),
            ("http:///9610data.txt", "the address names no host"),
            ("h:8080", "expected an address that begins with http://"),
            ("http://h:99999/9610data.txt", "the address names no port after the colon"),
            ("http://h/a b/9610data.txt", "the address holds characters that no address may hold"),
            (
                "http://h/",
                "the address names no file, e.g. http://192.0.2.10:8080/299_16xxdata.txt",
            ),
        ] {
            let Err(refused) = Address::of(bruri, None) else { panic!("{bruri}") };
            assert_eq!(refused.to_string(), told, "{bruri}");
        }
    }
}
