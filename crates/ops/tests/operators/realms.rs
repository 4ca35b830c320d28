//! What realms want.

use bruri_wire::proto::realm::v1::{
    GetRealmRequest, PutRealmRequest, Realm, realm_service_client::RealmServiceClient,
};
use sqlx::PgPool;
use tonic::Code;

use crate::kit::Site;

fn realm(id: &str, freshness: &str, retention: &str) -> Realm {
    Realm { id: id.to_owned(), freshness: freshness.to_owned(), retention: retention.to_owned() }
}

const DEFAULT: &str = "all=forever,days=forever,weeks=forever,months=forever,thin";

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_realm_tells_what_it_wants_and_what_is_not_named_stays_as_it_is(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = RealmServiceClient::new(site.channel().await);
    let get = GetRealmRequest { id: "default".to_owned() };
    let got = client.get_realm(get.clone()).await.unwrap().into_inner().realm;
    assert_eq!(got, Some(realm("default", "300ms", DEFAULT)));
    for (put, then) in [
        (realm("default", "strict", ""), realm("default", "strict", DEFAULT)),
        (realm("default", "", "all=30d"), realm("default", "strict", "all=30d")),
    ] {
        let request = PutRealmRequest { realm: Some(put) };
        let put = client.put_realm(request).await.unwrap().into_inner().realm;
        let got = client.get_realm(get.clone()).await.unwrap().into_inner().realm;
        assert_eq!((put, got), (Some(then.clone()), Some(then)));
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_realm_that_is_none_is_not_found_and_a_value_that_is_none_refused(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = RealmServiceClient::new(site.channel().await);
    for (put, code) in [
        (realm("guests", "strict", ""), Code::NotFound),
        (realm("../x", "strict", ""), Code::InvalidArgument),
        (realm("default", "soon", ""), Code::InvalidArgument),
        (realm("default", "", "some"), Code::InvalidArgument),
    ] {
        let request = PutRealmRequest { realm: Some(put.clone()) };
        let refused = client.put_realm(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{put:?}");
    }
}
