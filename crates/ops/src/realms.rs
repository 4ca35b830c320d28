//! `RealmService`: what realms want.

use bruri_domain::{Freshness, RealmId, RealmSettings, Retention};
use bruri_wire::proto::realm::v1::{
    GetRealmRequest, GetRealmResponse, PutRealmRequest, PutRealmResponse, Realm,
    realm_service_server::RealmService,
};
use tonic::{Request, Response, Status};

use crate::{Ops, operator::operator, status};

#[tonic::async_trait]
impl RealmService for Ops {
    async fn get_realm(
        &self,
        request: Request<GetRealmRequest>,
    ) -> Result<Response<GetRealmResponse>, Status> {
        let id = realm_id(&request.into_inner().id)?;
        let realm = Some(message(&id, &self.store.realm(&id)));
        Ok(Response::new(GetRealmResponse { realm }))
    }

    async fn put_realm(
        &self,
        request: Request<PutRealmRequest>,
    ) -> Result<Response<PutRealmResponse>, Status> {
        let operator = operator(&request).await?;
        let realm = request.into_inner().realm.unwrap_or_default();
        let id = realm_id(&realm.id)?;
        let wanted = Wanted::parse(&realm)?;

        let changed = self.store.change_realm(&id, |settings| wanted.put(settings), operator).await;

        let settings = changed.map_err(|error| status(&error))?;
        Ok(Response::new(PutRealmResponse { realm: Some(message(&id, &settings)) }))
    }
}

/// What is to be changed.
#[derive(Clone, Copy)]
struct Wanted {
    freshness: Option<Freshness>,
    retention: Option<Retention>,
}

impl Wanted {
    fn parse(realm: &Realm) -> Result<Self, Status> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let freshness = given(&realm.freshness).map(|text| Freshness::parse(&text));
        let freshness =
            freshness.transpose().map_err(|e| Status::invalid_argument(e.to_string()))?;
        let retention = given(&realm.retention).map(|text| Retention::parse(&text));
        let retention =
            retention.transpose().map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(Self { freshness, retention })
    }

    fn put(self, settings: &mut RealmSettings) {
        settings.freshness = self.freshness.unwrap_or(settings.freshness);
        settings.retention = self.retention.unwrap_or(settings.retention);
    }
}

fn realm_id(text: &str) -> Result<RealmId, Status> {
    let id = RealmId::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if id == RealmId::built_in() {
        Ok(id)
    } else {
        Err(Status::not_found(format!("there is no realm {id}: this release has `default` only")))
    }
}

fn message(id: &RealmId, settings: &RealmSettings) -> Realm {
    Realm {
        id: id.to_string(),
        freshness: settings.freshness.to_string(),
        retention: settings.retention.to_string(),
    }
}
