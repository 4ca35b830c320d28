//! `bruri site`: a site and its links.

use bruri_pki::names;
use bruri_wire::proto::site::v1::{
    GetStatusRequest, GetStatusResponse, Log, Peer, site_service_client::SiteServiceClient,
};
use clap::Subcommand;

use crate::{
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::{self, Column, Output},
};

mod members;
mod prove;

/// Hexadecimal digits of a chain that are shown: enough to see whether two are equal.
const CHAIN_DIGITS: usize = 16;

/// What to do with a site.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Tell what the site is, holds and hears
    Status,
    /// Look for damage here and at every peer, mend it, and prove that all serve the same
    Prove,
    /// List the sites of the deployment
    Members,
    /// Make a token with which a new site joins; at the site that holds the CA
    Invite {
        /// The new site's name
        #[arg(id = "name", value_name = "SITE", value_parser = names::site)]
        site: String,
        /// How long the token is good, e.g. 30m, 24h or 7d; at most 30d
        #[arg(long, default_value = "24h", value_parser = seconds)]
        valid: u64,
    },
    /// Make a site a member that has its own certificate of the deployment
    Admit {
        /// The site's name, as its certificate has it
        #[arg(id = "name", value_name = "SITE", value_parser = names::site)]
        site: String,
        /// Where the others reach it; may be repeated
        // Not `address`, which is the global option.
        #[arg(id = "reached_at", long = "address", value_name = "HOST:PORT")]
        addresses: Vec<String>,
    },
    /// Have every site refuse a site, for ever; its backups stay
    Retire {
        /// The site's name, which never comes back
        #[arg(id = "name", value_name = "SITE", value_parser = names::site)]
        site: String,
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub(crate) async fn run(
    command: &SiteCommand,
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    match command {
        SiteCommand::Status => status(site, output).await,
        SiteCommand::Prove => prove::run(site, output).await,
        SiteCommand::Members => members::list(site, output).await,
        SiteCommand::Invite { site: name, valid } => {
            members::invite(site, name, *valid, output).await
        }
        SiteCommand::Admit { site: name, addresses } => {
            members::admit(site, name, addresses, output).await
        }
        SiteCommand::Retire { site: name, yes } => members::retire(site, name, *yes, output).await,
    }
}

/// Reads 90s, 30m, 24h or 7d.
fn seconds(text: &str) -> Result<u64, String> {
    let expected = || "expected a number and one of s, m, h, d, e.g. 24h".to_owned();
    let (number, unit) =
        text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(expected)
}

async fn status(site: Option<&SiteAddress>, output: &mut Output<'_>) -> anyhow::Result<()> {
    let mut client = SiteServiceClient::new(connect(site).await?);
    let status = client.get_status(GetStatusRequest {}).await.map_err(Failure::from)?.into_inner();
    if output.json { output.json(&json::Status::from(status)) } else { output.text(&told(&status)) }
}

fn told(status: &GetStatusResponse) -> String {
    let database = match status.database_bytes {
        0 => String::new(),
        bytes => print::size(bytes),
    };
    let facts = print::facts(&[
        ("site", status.site.clone()),
        ("deployment", status.deployment.clone()),
        ("release", status.release.clone()),
        ("started", print::time(status.started_at.as_ref())),
        ("files", print::number(status.files)),
        ("database", database),
    ]);
    let peers = if status.peers.is_empty() {
        "no peers: this site does not replicate\n".to_owned()
    } else {
        peers(&status.peers)
    };
    format!("{facts}\n{}\n{peers}", logs(&status.logs))
}

fn logs(logs: &[Log]) -> String {
    let columns = [
        Column::Left("LOG"),
        Column::Left("KIND"),
        Column::Left("OPEN"),
        Column::Right("SEQUENCE"),
        Column::Left("CHAIN"),
        Column::Left("CONTINUES"),
    ];
    let rows = logs.iter().map(|log| {
        vec![
            format!("{}/{}", log.site, log.epoch),
            log.kind.clone(),
            if log.open { "open" } else { "" }.to_owned(),
            print::number(log.sequence),
            log.chain.chars().take(CHAIN_DIGITS).collect(),
            log.continues.clone(),
        ]
    });
    print::table(&columns, rows)
}

fn peers(peers: &[Peer]) -> String {
    let columns = [
        Column::Left("PEER"),
        Column::Left("ADDRESS"),
        Column::Left("STATE"),
        Column::Right("LAG"),
        Column::Left("LAST HEARD"),
        Column::Left("RELEASE"),
        Column::Left("LAST ERROR"),
    ];
    let rows = peers.iter().map(|peer| {
        vec![
            print::or_nothing(&peer.site),
            peer.address.clone(),
            json::state(peer.state()).to_owned(),
            print::number(peer.lag_records),
            print::time(peer.last_heard_at.as_ref()),
            print::or_nothing(&peer.release),
            peer.last_error.clone(),
        ]
    });
    print::table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use bruri_wire::{Timestamp, proto::site::v1::peer::State};

    use super::*;

    fn status() -> GetStatusResponse {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let log = |site: &str, kind: &str, sequence| Log {
            site: site.to_owned(),
            epoch: "9f3a61c2d04b77e1".to_owned(),
            kind: kind.to_owned(),
            sequence,
            chain: "0123456789abcdef".repeat(4),
            open: kind == "files",
            continues: if sequence > 0 {
                "london/61c2d04b77e19f3a/90".to_owned()
            } else {
                String::new()
            },
        };
        let live = Peer {
            site: "tokyo".to_owned(),
            address: "tokyo.example:7440".to_owned(),
            state: State::Live.into(),
            last_heard_at: at(1_700_000_100),
            release: "0.1.0".to_owned(),
            ..Peer::default()
        };
        let refused = Peer {
            address: "paris.example:7440".to_owned(),
            state: State::Refused.into(),
            lag_records: 1204,
            last_error: "its certificate has expired".to_owned(),
            ..Peer::default()
        };
        GetStatusResponse {
            site: "london".to_owned(),
            deployment: "acme".to_owned(),
            release: "0.1.0".to_owned(),
            started_at: at(1_700_000_000),
            logs: vec![log("london", "control", 0), log("london", "files", 12_345)],
            peers: vec![live, refused],
            files: 1204,
            database_bytes: 52_094_000,
        }
    }

    #[test]
    fn a_status_is_a_list_and_two_tables() {
        let expected = "\
site        london
deployment  acme
release     0.1.0
started     2023-11-14T22:13:20Z
files       1,204
database    52.1 MB

LOG                      KIND     OPEN  SEQUENCE  CHAIN             CONTINUES
london/9f3a61c2d04b77e1  control               0  0123456789abcdef
london/9f3a61c2d04b77e1  files    open    12,345  0123456789abcdef  london/61c2d04b77e19f3a/90

PEER   ADDRESS             STATE      LAG  LAST HEARD            RELEASE  LAST ERROR
tokyo  tokyo.example:7440  live         0  2023-11-14T22:15:00Z  0.1.0
-      paris.example:7440  refused  1,204  -                     -        its certificate has expired
";
        assert_eq!(told(&status()), expected);
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, expected) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "h", "24", "0h", "-1h", "1.5h", "24 h", "9é", "99999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_site_alone_says_so() {
        let alone = GetStatusResponse {
            deployment: String::new(),
            database_bytes: 0,
            peers: vec![],
            ..status()
        };
        let told = told(&alone);
        assert!(told.ends_with("\n\nno peers: this site does not replicate\n"), "{told}");
        assert!(!told.contains("deployment") && !told.contains("database"), "{told}");
    }
}
