//! `ConflictService`: conflicts are listed, looked at, and ended by a choice.

use bruri_wire::proto::{
    conflict::v1::{
        ChooseHeadRequest, GetConflictRequest, GetConflictResponse, ListConflictsRequest,
        conflict_service_client::ConflictServiceClient,
    },
    history::v1::version::Standing,
};
use sqlx::PgPool;
use tonic::{Code, transport::Channel};

use crate::kit::{Site, dot_in_tokyo, named};

const FILE: &str = "299_16xxdata.txt";
const OTHER: &str = "300_16xxdata.txt";

async fn client(site: &Site) -> ConflictServiceClient<Channel> {
    ConflictServiceClient::new(site.channel().await)
}

async fn get(site: &Site) -> GetConflictResponse {
    let request = GetConflictRequest { file: Some(named(FILE)), number: 0 };
    client(site).await.get_conflict(request).await.unwrap().into_inner()
}

async fn listed(site: &Site, request: ListConflictsRequest) -> (Vec<String>, bool) {
    let page = client(site).await.list_conflicts(request).await.unwrap().into_inner();
    let names = page.conflicts.into_iter().map(|conflict| conflict.file.unwrap().name);
    (names.collect(), page.more)
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_conflict_is_listed_shown_with_its_bodies_and_ended_by_a_choice(pool: PgPool) {
    let site = Site::start(pool).await;
    let mine = site.phone(FILE, Some(b"A=mine")).await;
    site.arrives_from_tokyo(1, FILE, b"A=theirs").await;
    let theirs = dot_in_tokyo(1).to_string();

    let shown = get(&site).await;
    let heads: Vec<_> = shown.heads.iter().map(|head| head.body.as_slice()).collect();
    assert_eq!(heads, [&b"A=mine"[..], b"A=theirs"], "what a phone gets comes first");
    let dots = shown.conflict.unwrap().head_dots;
    assert!(dots.contains(&mine) && dots.contains(&theirs), "{dots:?}");

    let choice = ChooseHeadRequest { file: Some(named(FILE)), dot: theirs.clone() };
    let chosen = client(&site).await.choose_head(choice.clone()).await.unwrap().into_inner();

    let version = chosen.version.unwrap();
    assert_eq!((version.restored_dot, version.body_bytes), (theirs, 8));
    let ended = get(&site).await;
    assert_eq!(ended.conflict.unwrap().ended_by_dot, version.dot);
    let superseded = |head: &bruri_wire::proto::conflict::v1::Head| {
        head.version.as_ref().unwrap().standing() == Standing::Superseded
    };
    assert!(ended.heads.iter().all(superseded));
    assert!(listed(&site, ListConflictsRequest::default()).await.0.is_empty());
    let all = ListConflictsRequest { ended: true, ..Default::default() };
    assert_eq!(listed(&site, all).await, (vec![FILE.to_owned()], false));
    let again = client(&site).await.choose_head(choice).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(again.message(), format!("file default/{FILE} is in no conflict"));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn conflicts_go_by_pages(pool: PgPool) {
    let site = Site::start(pool).await;
    for (epoch, name) in [(1, FILE), (2, OTHER)] {
        site.phone(name, Some(b"A=mine")).await;
        site.arrives_from_tokyo(epoch, name, b"A=theirs").await;
    }
    let first = ListConflictsRequest { page_size: 1, ..Default::default() };
    assert_eq!(listed(&site, first.clone()).await, (vec![FILE.to_owned()], true));
    let next =
        ListConflictsRequest { after_file: Some(named(FILE)), after_number: 1, ..first.clone() };
    assert_eq!(listed(&site, next.clone()).await, (vec![OTHER.to_owned()], false));
    let next = ListConflictsRequest { ended: true, ..next };
    assert_eq!(listed(&site, next).await, (vec![OTHER.to_owned()], false));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn only_a_head_can_be_chosen_and_only_a_conflict_shown(pool: PgPool) {
    let site = Site::start(pool).await;
    let request = GetConflictRequest { file: Some(named(FILE)), number: 0 };
    let unknown = client(&site).await.get_conflict(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let old = site.phone(FILE, Some(b"A=1")).await;
    site.phone(FILE, Some(b"A=2")).await;
    site.arrives_from_tokyo(1, FILE, b"A=theirs").await;
    let choice = ChooseHeadRequest { file: Some(named(FILE)), dot: old.clone() };
    let refused = client(&site).await.choose_head(choice).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().starts_with(&format!("{old} is no head of file")), "{refused}");
}
