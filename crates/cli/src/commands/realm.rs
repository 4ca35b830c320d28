//! `bruri realm`: what a realm wants.

use bruri_wire::proto::realm::v1::{
    GetRealmRequest, PutRealmRequest, Realm, realm_service_client::RealmServiceClient,
};
use clap::Subcommand;
use serde_json::json;

use crate::{
    connect::{SiteAddress, connect},
    failure::Failure,
    print::{self, Output},
};

/// What to do with a realm.
#[derive(Debug, Subcommand)]
pub(crate) enum RealmCommand {
    /// Tell what a realm wants
    Show {
        /// The realm, e.g. `default`
        realm: String,
    },
    /// Change what a realm wants, here and at every other site
    Set {
        /// The realm, e.g. `default`
        realm: String,
        /// freshness=300ms or freshness=strict; retention=all=30d,days=365d,months=forever,thin
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
        settings: Vec<Setting>,
    },
}

/// One thing that is changed; the site judges its value.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Freshness(String),
    Retention(String),
}

fn parse_setting(text: &str) -> Result<Setting, &'static str> {
    match text.split_once('=') {
        Some(("freshness", value)) if !value.is_empty() => Ok(Setting::Freshness(value.to_owned())),
        Some(("retention", value)) if !value.is_empty() => Ok(Setting::Retention(value.to_owned())),
        _ => Err("expected freshness=VALUE or retention=VALUE"),
    }
}

/// Does it.
pub(crate) async fn run(
    command: &RealmCommand,
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut client = RealmServiceClient::new(connect(site).await?);
    let realm = match command {
        RealmCommand::Show { realm } => {
            let request = GetRealmRequest { id: realm.clone() };
            client.get_realm(request).await.map_err(Failure::from)?.into_inner().realm
        }
        RealmCommand::Set { realm, settings } => {
            let request = PutRealmRequest { realm: Some(wanted(realm, settings)) };
            client.put_realm(request).await.map_err(Failure::from)?.into_inner().realm
        }
    };
    let realm = realm.unwrap_or_default();
    if output.json {
        let Realm { id, freshness, retention } = realm;
        return output.json(&json!({ "id": id, "freshness": freshness, "retention": retention }));
    }
    output.text(&print::facts(&[
        ("realm", realm.id),
        ("freshness", realm.freshness),
        ("retention", realm.retention),
    ]))
}

fn wanted(realm: &str, settings: &[Setting]) -> Realm {
    let mut wanted = Realm { id: realm.to_owned(), ..Realm::default() };
    for setting in settings {
        match setting {
            Setting::Freshness(value) => wanted.freshness.clone_from(value),
            Setting::Retention(value) => wanted.retention.clone_from(value),
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_name_that_is_known_and_a_value() {
        assert!(
            matches!(parse_setting("freshness=strict"), Ok(Setting::Freshness(v)) if v == "strict")
        );
        let retention = parse_setting("retention=all=30d,thin");
        assert!(matches!(retention, Ok(Setting::Retention(v)) if v == "all=30d,thin"));
        for text in ["freshness", "freshness=", "colour=red", "=x", ""] {
            assert!(parse_setting(text).is_err(), "{text}");
        }
    }
}
