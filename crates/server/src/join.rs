//! `brurid join`: this machine becomes a site of a deployment, with a token.

use std::{fmt::Write as _, io::Read as _, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bruri_domain::{
    DeploymentKey, SiteName,
    limits::{JOIN_MESSAGE_BYTES_MAX, JOIN_SECONDS_MAX, TOKEN_CHARS_MAX},
    member::is_address,
};
use bruri_pki::{
    SiteKey, Token, certificate,
    files::{self, CA_CERT, CA_KEY, NewFile, SITE_CERT, SITE_KEY},
};
use bruri_replication::tls;
use bruri_wire::proto::membership::v1::{
    JoinRequest, JoinResponse, join_service_client::JoinServiceClient,
};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    config::{Config, SITE_FILE},
    data_dir::DataDir,
    deployment_key,
};

const PATIENCE: Duration = Duration::from_secs(JOIN_SECONDS_MAX);

/// Reads a token from a file, or from the standard input where that is `-`, so that no list of processes
/// shows it.
pub fn read_token(file: &Path) -> anyhow::Result<String> {
    let (mut text, most) = (String::new(), TOKEN_CHARS_MAX.saturating_mul(2) as u64);
    let shown = file.display();
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_string(&mut text).context("read the token")?;
    } else {
        let open =
            std::fs::File::open(file).with_context(|| format!("read the token in {shown}"))?;
        open.take(most).read_to_string(&mut text).with_context(|| format!("read {shown}"))?;
    }
    Ok(text)
}

/// Joins; returns what to do next. Repeated with the same token it goes on where it was interrupted.
pub async fn join(config: &Config, token: &str) -> anyhow::Result<String> {
    let token: Token = token.parse()?;
    check(config, &token.site)?;
    // Nobody else may serve from it meanwhile.
    let data_dir = DataDir::open(&config.site.data_dir)?;
    let pki = data_dir.path().join("pki");
    let key = site_key(&pki)?;
    let held = deployment_key::read(&config.site.deployment_key_file)?;
    let asked = JoinRequest {
        secret: token.secret.expose().to_vec(),
        certificate_request: key.request()?,
        advertise: advertise(config),
        listen_port: config.replication.listen.map_or(0, |address| address.port().into()),
        deployment_key_check: held.as_ref().map(|held| held.check().to_vec()).unwrap_or_default(),
    };
    let joined = ask(&token, asked).await?;
    let deployment_key = believe(&token, &key, &joined)?;
    if held.is_none() {
        deployment_key::write(&config.site.deployment_key_file, &deployment_key)
            .with_context(|| format!("write {}", config.site.deployment_key_file.display()))?;
    }
    let site = site_file(&joined)?;
    files::replace(data_dir.path(), &NewFile::public(SITE_FILE, &site))?;
    files::replace(&pki, &NewFile::public(CA_CERT, &joined.authorities))?;
    // Last: with it the site has joined.
    files::replace(&pki, &NewFile::public(SITE_CERT, &joined.certificate))?;
    Ok(told(config, &joined))
}

/// What can be said before anybody is asked.
fn check(config: &Config, site: &SiteName) -> anyhow::Result<()> {
    let pki = config.site.data_dir.join("pki");
    for name in [CA_KEY, SITE_CERT] {
        ensure!(
            !pki.join(name).exists(),
            "{} holds {name}: this is a site of a deployment already; to join another one, set \
             site.data_dir to an empty directory",
            pki.display()
        );
    }
    if let Some(tls) = &config.replication.tls {
        bail!(
            "replication.tls names {}: a site that joins has its certificates in {}; remove those keys",
            tls.cert_file.display(),
            pki.display()
        );
    }
    ensure!(
        !config.site.is_named || config.site.name == *site,
        "the token is for site {site}, but site.name is {}: remove site.name, or have a token made \
         for that name",
        config.site.name
    );
    Ok(())
}

/// The key of an attempt before, else a new one; it is on disk before anybody hears of it.
fn site_key(pki: &Path) -> anyhow::Result<SiteKey> {
    let path = pki.join(SITE_KEY);
    if let Some(pem) = files::read(&path)? {
        return SiteKey::read(&pem).with_context(|| format!("read {}", path.display()));
    }
    let key = SiteKey::make()?;
    files::write_new(pki, &[NewFile::secret(SITE_KEY, &key.pem())])?;
    Ok(key)
}

/// Where others reach this site; empty where the site that is asked sees that better.
fn advertise(config: &Config) -> String {
    let listening = config.replication.listen.filter(|address| !address.ip().is_unspecified());
    let advertise = config.replication.advertise.clone();
    advertise.or(listening.map(|address| address.to_string())).unwrap_or_default()
}

/// Asks at each address of the token until one answers; a refusal is an answer.
async fn ask(token: &Token, asked: JoinRequest) -> anyhow::Result<JoinResponse> {
    let mut failed = anyhow::anyhow!("the token has no address");
    for address in &token.addresses {
        match timeout(PATIENCE, ask_at(address, token, asked.clone())).await {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(Asking::Refused(error))) => return Err(error),
            Ok(Err(Asking::Failed(error))) => failed = error,
            Err(_) => {
                failed = anyhow::anyhow!("no answer from {address} in {} s", PATIENCE.as_secs());
            }
        }
    }
    Err(failed)
}

enum Asking {
    /// Another address may do better.
    Failed(anyhow::Error),
    Refused(anyhow::Error),
}

async fn ask_at(address: &str, token: &Token, asked: JoinRequest) -> Result<JoinResponse, Asking> {
    // Only who has the CA of the token gets to see the secret.
    let connected = tls::join::join(address, token.ca).await;
    let (channel, _) = connected.map_err(|error| Asking::Failed(error.into()))?;
    let mut client =
        JoinServiceClient::new(channel).max_decoding_message_size(JOIN_MESSAGE_BYTES_MAX);
    let answer = client.join(asked).await.map_err(|status| {
        let error = anyhow::anyhow!("{address}: {}", shown(status.message()));
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown => Asking::Failed(error),
            _ => Asking::Refused(error),
        }
    })?;
    Ok(answer.into_inner())
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Holds the answer against what was asked for; returns the deployment key.
fn believe(token: &Token, key: &SiteKey, joined: &JoinResponse) -> anyhow::Result<DeploymentKey> {
    let chain = certificate::parse(&joined.certificate).context("read the certificate")?;
    let leaf = chain.first().context("there is no certificate")?;
    let named = Some((joined.deployment.clone(), Some(token.site.to_string())));
    ensure!(
        key.fits(leaf) && leaf.name == named,
        "the certificate is not for this site's key and name"
    );
    let trusted = certificate::parse(&joined.authorities).context("read the CAs")?;
    let of_token = trusted.iter().find(|ca| ca.sha256() == token.ca);
    let of_token = of_token.context("the CA of the token did not come along")?;
    ensure!(leaf.is_signed_by(of_token), "the certificate is not of the CA of the token");
    let valid = joined
        .peers
        .iter()
        .chain([&joined.advertise])
        .all(|text| text.is_empty() || is_address(text));
    ensure!(valid, "an address that came along is none");
    let bytes = <[u8; 32]>::try_from(joined.deployment_key.as_slice());
    Ok(DeploymentKey::new(bytes.context("the deployment key has not 32 bytes")?))
}

/// What the configuration file overrides.
fn site_file(joined: &JoinResponse) -> anyhow::Result<String> {
    let mut text = "# Written by `brurid join`; the configuration file overrides it.\n".to_owned();
    // Names and addresses were checked: none has a character that TOML would escape.
    writeln!(text, "[site]\nname = \"{}\"\n\n[replication]", joined.site)?;
    if !joined.advertise.is_empty() {
        writeln!(text, "advertise = \"{}\"", joined.advertise)?;
    }
    let peers: Vec<String> = joined.peers.iter().map(|peer| format!("\"{peer}\"")).collect();
    writeln!(text, "peers = [{}]", peers.join(", "))?;
    Ok(text)
}

fn told(config: &Config, joined: &JoinResponse) -> String {
    let JoinResponse { site, deployment, advertise, .. } = joined;
    let mut text = format!(
        "this is now site {site} of {deployment}; its files are in {}\n",
        config.site.data_dir.display()
    );
    // Writing into a string does not fail.
    let _ = if advertise.is_empty() {
        writeln!(
            text,
            "other sites cannot reach it: set replication.listen to have it replicate both ways"
        )
    } else {
        writeln!(
            text,
            "other sites reach it at {advertise}: if that is wrong, set replication.advertise"
        )
    };
    let _ = match &config.file {
        Some(file) => writeln!(text, "next: brurid serve --config {}", file.display()),
        None => writeln!(text, "next: brurid serve"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> JoinResponse {
        JoinResponse {
            site: "tokyo".to_owned(),
            advertise: "tokyo.example:7440".to_owned(),
            peers: vec!["london.example:7440".to_owned(), "[2001:db8::1]:7440".to_owned()],
            ..JoinResponse::default()
        }
    }

    #[test]
    fn the_file_that_is_written_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        std::fs::create_dir(&data_dir).unwrap();
        std::fs::write(data_dir.join(SITE_FILE), site_file(&joined()).unwrap()).unwrap();
        let file = folder.path().join("brurid.toml");
        std::fs::write(&file, format!("[site]\ndata_dir = {data_dir:?}\n")).unwrap();
        let config = Config::read(Some(&file), []).unwrap();
        assert_eq!(config.site.name.as_str(), "tokyo");
        assert_eq!(config.replication.peers, joined().peers);
        assert_eq!(config.replication.advertise.as_deref(), Some("tokyo.example:7440"));
        let other = [("BRURI_REPLICATION__PEERS".to_owned(), "paris:1".to_owned())];
        let config = Config::read(Some(&file), other).unwrap();
        assert_eq!(config.replication.peers, ["paris:1"], "what is configured overrides it");
    }

    #[test]
    fn an_answer_that_is_not_what_was_asked_for_is_not_believed() {
        let now = time::OffsetDateTime::UNIX_EPOCH;
        let until = now + time::Duration::days(9);
        let ca = bruri_pki::Authority::make("acme", now).unwrap();
        let (key, other) = (SiteKey::make().unwrap(), SiteKey::make().unwrap());
        let token = Token {
            site: SiteName::parse("tokyo").unwrap(),
            addresses: vec!["london:1".to_owned()],
            ca: ca.fingerprint().unwrap(),
            secret: bruri_pki::token::Secret::make().unwrap(),
        };
        let signed = |key: &SiteKey, site: &str, by: &bruri_pki::Authority| {
            let request = bruri_pki::Request::read(&key.request().unwrap()).unwrap();
            by.sign(site, &request, now, until).unwrap()
        };
        let good = JoinResponse {
            deployment: "acme".to_owned(),
            certificate: signed(&key, "tokyo", &ca),
            authorities: ca.trusted_pem().to_owned(),
            deployment_key: vec![7; 32],
            ..joined()
        };
        assert!(believe(&token, &key, &good).is_ok());
        let rogue = bruri_pki::Authority::make("acme", now).unwrap();
        for wrong in [
            JoinResponse { certificate: signed(&other, "tokyo", &ca), ..good.clone() },
            JoinResponse { certificate: signed(&key, "paris", &ca), ..good.clone() },
            JoinResponse { certificate: signed(&key, "tokyo", &rogue), ..good.clone() },
            JoinResponse { authorities: rogue.trusted_pem().to_owned(), ..good.clone() },
            JoinResponse { deployment_key: vec![7; 31], ..good.clone() },
            JoinResponse { peers: vec!["a\"b:1".to_owned()], ..good.clone() },
            JoinResponse { deployment: "globex".to_owned(), ..good.clone() },
        ] {
            assert!(believe(&token, &key, &wrong).is_err());
        }
    }
}
