//! Members are listed, admitted and retired; what makes no sense is refused.

use bruri_wire::proto::site::v1::{
    AdmitSiteRequest, InviteSiteRequest, ListMembersRequest, RetireSiteRequest, member::State,
};
use sqlx::PgPool;
use tonic::Code;

use crate::kit::Site;

fn admit(site: &str, addresses: &[&str]) -> AdmitSiteRequest {
    let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
    AdmitSiteRequest { site: site.to_owned(), addresses }
}

fn retire(site: &str) -> RetireSiteRequest {
    RetireSiteRequest { site: site.to_owned() }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn members_are_admitted_listed_and_retired_for_ever(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.site().await;
    client.admit_site(admit("paris", &["paris.example:7440"])).await.unwrap();
    client.retire_site(retire("paris")).await.unwrap();
    // It is a peer, so it is known without being a member.
    client.retire_site(retire("tokyo")).await.unwrap();
    let members = client.list_members(ListMembersRequest {}).await.unwrap().into_inner().members;
    let told: Vec<_> = members.iter().map(|m| (m.site.as_str(), m.state())).collect();
    assert_eq!(told, [("paris", State::Retired), ("tokyo", State::Retired)]);
    assert_eq!(members[0].addresses, ["paris.example:7440"]);
    let refused = client.admit_site(admit("paris", &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("never comes back"), "{refused}");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_makes_no_sense_is_refused_and_changes_nothing(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.site().await;
    let invite =
        |site: &str, valid_seconds| InviteSiteRequest { site: site.to_owned(), valid_seconds };
    for (asked, code) in [
        (invite("Tokyo", 60), Code::InvalidArgument),
        (invite("tokyo", 0), Code::InvalidArgument),
        (invite("tokyo", u64::MAX), Code::InvalidArgument),
        (invite("london", 60), Code::FailedPrecondition),
        // There are no certificates.
        (invite("tokyo", 60), Code::FailedPrecondition),
    ] {
        assert_eq!(client.invite_site(asked.clone()).await.unwrap_err().code(), code, "{asked:?}");
    }
    for (asked, code) in [
        (admit("", &[]), Code::InvalidArgument),
        (admit("paris", &["paris"]), Code::InvalidArgument),
        (admit("paris", &["a:1"; 9]), Code::InvalidArgument),
    ] {
        assert_eq!(client.admit_site(asked.clone()).await.unwrap_err().code(), code, "{asked:?}");
    }
    for (asked, code) in [("london", Code::FailedPrecondition), ("nowhere", Code::NotFound)] {
        assert_eq!(client.retire_site(retire(asked)).await.unwrap_err().code(), code, "{asked}");
    }
    let members = client.list_members(ListMembersRequest {}).await.unwrap().into_inner().members;
    assert!(members.is_empty());
}
