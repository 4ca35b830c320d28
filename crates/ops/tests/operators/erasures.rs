//! `ErasureService`: erase, lift, and who has done it; and a deletion, which erases nothing.

use bruri_wire::proto::{
    erasure::v1::{
        EraseRequest, Erasure, LiftRequest, ListErasuresRequest, Subject,
        erasure_service_client::ErasureServiceClient, subject::Subject as Named,
    },
    history::v1::{DeleteFileRequest, DeleteFileResponse, ListVersionsRequest},
};
use sqlx::PgPool;
use tonic::{Code, Status, transport::Channel};

use crate::kit::{Site, named};

const FILE: &str = "299_16xxdata.txt";
const SHARED: &str = "9610data.txt";

async fn client(site: &Site) -> ErasureServiceClient<Channel> {
    ErasureServiceClient::new(site.channel().await)
}

fn extension(digits: &str) -> Subject {
    Subject { realm: String::new(), subject: Some(Named::Extension(digits.to_owned())) }
}

fn only_file(name: &str) -> Subject {
    Subject { realm: String::new(), subject: Some(Named::FileName(name.to_owned())) }
}

async fn erase(site: &Site, subject: Subject, id: &[u8]) -> Result<Erasure, Status> {
    let request = EraseRequest { subject: Some(subject), id: id.to_vec() };
    let answer = client(site).await.erase(request).await?.into_inner();
    Ok(answer.erasure.unwrap())
}

async fn lift(site: &Site, subject: Subject) -> Result<(), Status> {
    let request = LiftRequest { subject: Some(subject) };
    client(site).await.lift(request).await.map(|_| ())
}

async fn listed(site: &Site, request: ListErasuresRequest) -> (Vec<Erasure>, bool) {
    let answer = client(site).await.list_erasures(request).await.unwrap().into_inner();
    (answer.erasures, answer.more)
}

async fn versions(site: &Site, name: &str) -> Result<usize, Code> {
    let request = ListVersionsRequest { file: Some(named(name)), ..Default::default() };
    let answer = site.history().await.list_versions(request).await;
    answer.map(|answer| answer.into_inner().versions.len()).map_err(|refused| refused.code())
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_extension_is_erased_listed_with_its_receipts_and_let_in_again(pool: PgPool) {
    let site = Site::start(pool).await;
    site.phone(FILE, Some(b"A=1")).await;
    site.phone("299_96xxdata.txt", Some(b"A=2")).await;
    site.phone("300_16xxdata.txt", Some(b"A=3")).await;
    site.arrives_from_tokyo(1, FILE, b"A=theirs").await;

    let erased = erase(&site, extension("299"), b"").await.unwrap();

    assert!(erased.operator.starts_with("uid "), "{erased:?}");
    assert_eq!((erased.generation, erased.id.len(), erased.lifted_at), (1, 16, None));
    assert_eq!(erased.missing_sites, ["london", "tokyo"]);
    for name in [FILE, "299_96xxdata.txt"] {
        assert_eq!(versions(&site, name).await, Err(Code::NotFound));
    }
    assert_eq!(versions(&site, "300_16xxdata.txt").await, Ok(1));
    site.store.give_receipts().await.unwrap();
    let only = ListErasuresRequest { subject: Some(extension("299")), ..Default::default() };
    let (erasures, more) = listed(&site, only).await;
    let [told] = erasures.as_slice() else { panic!("{erasures:?}") };
    assert_eq!((told.subject_hash.len(), more), (64, false));
    assert_eq!(told.missing_sites, ["tokyo"]);
    let [receipt] = told.receipts.as_slice() else { panic!("{told:?}") };
    assert_eq!((receipt.site.as_str(), receipt.versions, receipt.bodies), ("london", 3, 3));

    lift(&site, extension("299")).await.unwrap();
    let (erasures, _) = listed(&site, ListErasuresRequest::default()).await;
    assert!(erasures[0].lifted_by.starts_with("uid "), "{erasures:?}");
    site.phone(FILE, Some(b"A=4")).await;
    assert_eq!(versions(&site, FILE).await, Ok(1));
    let again = lift(&site, extension("299")).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn asking_again_with_the_same_id_erases_once(pool: PgPool) {
    let site = Site::start(pool).await;
    let first = erase(&site, extension("299"), &[7; 16]).await.unwrap();
    assert_eq!(erase(&site, extension("299"), &[7; 16]).await.unwrap(), first);
    erase(&site, extension("299"), b"").await.unwrap();
    let page = ListErasuresRequest { page_size: 1, ..Default::default() };
    let (erasures, more) = listed(&site, page).await;
    assert_eq!((erasures[0].generation, more), (2, true));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_without_extension_is_erased_by_its_name_and_what_names_nobody_is_refused(
    pool: PgPool,
) {
    let site = Site::start(pool).await;
    site.phone(SHARED, Some(b"menu")).await;
    erase(&site, only_file(SHARED), b"").await.unwrap();
    assert_eq!(versions(&site, SHARED).await, Err(Code::NotFound));
    let nobody = Subject { realm: String::new(), subject: None };
    let elsewhere = Subject { realm: "Not One".to_owned(), ..extension("299") };
    for subject in [nobody, elsewhere, extension(""), extension("29a"), only_file(FILE)] {
        let refused = erase(&site, subject.clone(), b"").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{subject:?}");
    }
    let refused = erase(&site, extension("299"), b"short").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "an id has 16 bytes"));
}

/// Law 2.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_deletion_is_a_version_and_what_was_there_can_be_put_back(pool: PgPool) {
    let site = Site::start(pool).await;
    let delete = async || -> DeleteFileResponse {
        let request = DeleteFileRequest { file: Some(named(FILE)) };
        site.history().await.delete_file(request).await.unwrap().into_inner()
    };
    assert_eq!(delete().await, DeleteFileResponse::default(), "there is nothing");
    site.phone(FILE, Some(b"A=1")).await;
    site.arrives_from_tokyo(1, FILE, b"A=theirs").await;
    let deleted = delete().await;
    assert!(deleted.appended && deleted.dot.starts_with("london/"), "{deleted:?}");
    assert_eq!(versions(&site, FILE).await, Ok(3));
    assert_eq!(delete().await, DeleteFileResponse::default(), "phones get nothing already");
}
