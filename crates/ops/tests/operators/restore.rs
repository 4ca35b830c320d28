//! `RestoreVersion`: law 2, restoring an old version appends.

use bruri_wire::proto::history::v1::{
    GetVersionRequest, ListVersionsRequest, RestoreVersionRequest, RestoreVersionResponse,
    version::Standing,
};
use sqlx::PgPool;
use tonic::{Code, Status};

use crate::kit::{Site, dot_in_tokyo, named};

const FILE: &str = "299_16xxdata.txt";

async fn restore(site: &Site, dot: &str) -> Result<RestoreVersionResponse, Status> {
    let request = RestoreVersionRequest { file: Some(named(FILE)), dot: dot.to_owned() };
    site.history().await.restore_version(request).await.map(tonic::Response::into_inner)
}

async fn served(site: &Site) -> (String, Vec<u8>) {
    let request = GetVersionRequest { file: Some(named(FILE)), dot: String::new() };
    let answer = site.history().await.get_version(request).await.unwrap().into_inner();
    (answer.version.unwrap().dot, answer.body)
}

async fn count(site: &Site) -> usize {
    let request = ListVersionsRequest { file: Some(named(FILE)), ..Default::default() };
    site.history().await.list_versions(request).await.unwrap().into_inner().versions.len()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_restore_is_a_version_of_its_own_with_the_old_body(pool: PgPool) {
    let site = Site::start(pool).await;
    let old = site.phone(FILE, Some(b"A=1")).await;
    let newer = site.phone(FILE, Some(b"A=2")).await;

    let restored = restore(&site, &old).await.unwrap();

    let version = restored.version.unwrap();
    assert!(restored.appended && version.dot != old && version.dot != newer);
    assert_eq!(version.standing(), Standing::Served);
    assert_eq!(version.restored_dot, old);
    let uid = format!("uid {}", nobody_else());
    assert!(version.operator.starts_with(&uid), "{}", version.operator);
    assert_eq!((version.phone_address.as_str(), version.body_bytes), ("", 3));
    assert_eq!(served(&site).await, (version.dot, b"A=1".to_vec()));
    assert_eq!(count(&site).await, 3);
}

/// The user that runs the tests, as the kernel tells.
fn nobody_else() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_restore_of_what_is_served_appends_nothing(pool: PgPool) {
    let site = Site::start(pool).await;
    let dot = site.phone(FILE, Some(b"A=1")).await;
    let restored = restore(&site, &dot).await.unwrap();
    assert!(!restored.appended);
    assert_eq!(restored.version.unwrap().dot, dot);
    assert_eq!(count(&site).await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_restore_of_a_deletion_deletes(pool: PgPool) {
    let site = Site::start(pool).await;
    site.phone(FILE, Some(b"A=1")).await;
    let deletion = site.phone(FILE, None).await;
    site.phone(FILE, Some(b"A=2")).await;

    let restored = restore(&site, &deletion).await.unwrap();
    let version = restored.version.unwrap();
    assert!(restored.appended);
    assert_eq!((version.body_sha256.as_str(), version.restored_dot), ("", deletion.clone()));
    assert_eq!(served(&site).await, (version.dot.clone(), vec![]));

    let again = restore(&site, &deletion).await.unwrap();
    assert!(!again.appended);
    assert_eq!(again.version.unwrap().dot, version.dot);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_restore_ends_a_conflict(pool: PgPool) {
    let site = Site::start(pool).await;
    let dot = site.phone(FILE, Some(b"A=1")).await;
    site.arrives_from_tokyo(1, FILE, b"A=2").await;
    // What is served already, but not the only head.
    let restored = restore(&site, &dot).await.unwrap();
    assert!(restored.appended);
    let request = ListVersionsRequest { file: Some(named(FILE)), ..Default::default() };
    let answer = site.history().await.list_versions(request).await.unwrap().into_inner();
    let heads = answer.versions.iter().filter(|v| v.standing() != Standing::Superseded).count();
    assert_eq!((heads, served(&site).await.1), (1, b"A=1".to_vec()));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_of_another_site_is_restored_like_one_of_ours(pool: PgPool) {
    let site = Site::start(pool).await;
    site.arrives_from_tokyo(1, FILE, b"A=2").await;
    site.phone(FILE, Some(b"A=1")).await;
    let restored = restore(&site, "tokyo/0/1").await.unwrap();
    assert!(restored.appended);
    assert_eq!(restored.version.unwrap().restored_dot, dot_in_tokyo(1).to_string());
    assert_eq!(served(&site).await.1, b"A=2");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_restore_of_what_is_unknown_or_gone_changes_nothing(pool: PgPool) {
    let site = Site::start(pool.clone()).await;
    let old = site.phone(FILE, Some(b"A=1")).await;
    site.phone(FILE, Some(b"A=2")).await;
    for (dot, code) in [("paris/9f/1", Code::NotFound), ("", Code::InvalidArgument)] {
        assert_eq!(restore(&site, dot).await.unwrap_err().code(), code);
    }
    // As retention does.
    let gone = "update record set body = null where sequence = 1";
    sqlx::query(gone).execute(&pool).await.unwrap();
    let refused = restore(&site, &old).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), format!("the body of {old} is no longer kept"));
    assert_eq!((count(&site).await, served(&site).await.1), (2, b"A=2".to_vec()));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_retention_pruned_is_listed_as_such_and_cannot_be_put_back(pool: PgPool) {
    let site = Site::start(pool).await;
    let old = site.phone(FILE, Some(b"A=1")).await;
    site.phone(FILE, Some(b"A=2")).await;
    site.prune().await;

    let request = ListVersionsRequest { file: Some(named(FILE)), ..Default::default() };
    let versions = site.history().await.list_versions(request).await.unwrap().into_inner().versions;
    let listed: Vec<_> = versions.iter().map(|v| (v.pruned, v.body_bytes)).collect();
    assert_eq!(listed, [(false, 3), (true, 3)]);
    let refused = restore(&site, &old).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), format!("the body of {old} is no longer kept"));
    assert_eq!(count(&site).await, 2);
}
