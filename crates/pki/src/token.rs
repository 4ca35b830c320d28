//! What an operator carries from the first site to a new one: where to join, whom to believe, and a secret.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bruri_domain::{
    SiteName,
    limits::{HOST_AND_PORT_CHARS_MAX, TOKEN_ADDRESSES_MAX, TOKEN_CHARS_MAX},
};
use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};

use crate::error::{Context, Outcome};

const PREFIX: &str = "bruri1_";
const CHECK_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// An invitation. Its text holds the secret; printed for debugging it does not show it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    /// The name that the new site will have.
    pub site: SiteName,
    /// Where the site that invites is reached, `host:port`, one or several.
    pub addresses: Vec<String>,
    /// SHA-256 of the CA's certificate.
    pub ca: [u8; 32],
    /// What proves the invitation, once.
    pub secret: Secret,
}

/// 32 random bytes, never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret([u8; SECRET_BYTES]);

/// Why a text is no token; it is not quoted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not look like one.
    #[error("this is no token: expected the one line that `bruri site invite` printed, {PREFIX}…")]
    Form,
    /// Some of it is missing or changed.
    #[error("the token is damaged: copy the whole line that `bruri site invite` printed")]
    Damaged,
}

impl Secret {
    /// A new one.
    pub fn make() -> Outcome<Self> {
        let mut bytes = [0; SECRET_BYTES];
        OsRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
        Ok(Self(bytes))
    }

    /// The bytes, to be sent to the site that invited and to nobody else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What is kept of it where it was made.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("site", &self.site)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// The line that the operator copies.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.ca);
        bytes.extend_from_slice(&self.secret.0);
        bytes.extend_from_slice(self.site.as_str().as_bytes());
        for address in &self.addresses {
            bytes.push(b'\n');
            bytes.extend_from_slice(address.as_bytes());
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let body = text.trim().strip_prefix(PREFIX).filter(|body| body.len() <= TOKEN_CHARS_MAX);
        let body = body.ok_or(InvalidToken::Form)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| InvalidToken::Damaged)?;
        let (rest, sum) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(InvalidToken::Damaged)?;
        if check(rest) != *sum {
            return Err(InvalidToken::Damaged);
        }
        parts(rest).ok_or(InvalidToken::Damaged)
    }
}

fn parts(bytes: &[u8]) -> Option<Token> {
    let (ca, rest) = bytes.split_first_chunk::<32>()?;
    let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
    let mut lines = std::str::from_utf8(rest).ok()?.split('\n');
    let site = SiteName::parse(lines.next()?).ok()?;
    let addresses: Vec<String> = lines.map(str::to_owned).collect();
    let is_address = |text: &String| text.contains(':') && text.len() <= HOST_AND_PORT_CHARS_MAX;
    let fits = (1..=TOKEN_ADDRESSES_MAX).contains(&addresses.len());
    let token = Token { site, addresses, ca: *ca, secret: Secret(*secret) };
    (fits && token.addresses.iter().all(is_address)).then_some(token)
}

/// Tells a line that was cut or mistyped from one that is refused.
fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&Sha256::digest(bytes)[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            site: SiteName::parse("tokyo").unwrap(),
            addresses: vec!["london.example:7440".to_owned(), "[2001:db8::1]:7440".to_owned()],
            ca: [7; 32],
            secret: Secret::make().unwrap(),
        }
    }

    #[test]
    fn a_token_is_one_line_that_reads_as_it_was_written() {
        let token = token();
        let text = token.text();
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{text}");
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
    }

    #[test]
    fn a_token_that_was_cut_or_changed_is_told_from_something_else() {
        let text = token().text();
        for wrong in [&text[..text.len() - 1], &text[..12], &text.replace('b', "c")[..], "bruri1_"]
        {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert_eq!("tokyo".parse::<Token>(), Err(InvalidToken::Form));
        assert_eq!(text[..text.len() - 2].parse::<Token>(), Err(InvalidToken::Damaged));
        let long = format!("{PREFIX}{}", "a".repeat(TOKEN_CHARS_MAX + 1));
        assert_eq!(long.parse::<Token>(), Err(InvalidToken::Form));
    }

    #[test]
    fn the_secret_is_never_printed() {
        let token = token();
        assert!(
            !format!("{token:?} {:?}", token.secret).contains(&format!("{:?}", token.secret.0))
        );
        assert_eq!(format!("{:?}", token.secret), "***");
    }
}
