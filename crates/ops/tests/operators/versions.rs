//! `ListVersions` and `GetVersion`.

use bruri_wire::proto::history::v1::{
    GetVersionRequest, ListVersionsRequest, Version, version::Standing,
};
use sqlx::PgPool;
use tonic::Code;

use crate::kit::{BEGINNING, Site, dot_in_tokyo, named};

const FILE: &str = "299_16xxdata.txt";

fn dots(versions: &[Version]) -> Vec<&str> {
    versions.iter().map(|version| version.dot.as_str()).collect()
}

fn get(dot: &str) -> GetVersionRequest {
    GetVersionRequest { file: Some(named(FILE)), dot: dot.to_owned() }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn pages_of_versions_join_newest_first_whatever_their_size(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut written = Vec::new();
    for content in [b"A=1", b"A=2", b"A=3", b"A=4"] {
        written.insert(0, site.phone(FILE, Some(content)).await);
    }
    let mut client = site.history().await;
    for (page_size, pages) in [(1, 4), (2, 2), (3, 2), (4, 1), (1000, 1), (0, 1)] {
        let (mut seen, mut count, mut after_dot) = (Vec::new(), 0, String::new());
        loop {
            let request = ListVersionsRequest { file: Some(named(FILE)), page_size, after_dot };
            let page = client.list_versions(request).await.unwrap().into_inner();
            count += 1;
            after_dot = page.versions.last().unwrap().dot.clone();
            seen.extend(page.versions);
            if !page.more {
                break;
            }
        }
        assert_eq!((dots(&seen), count), (dots_of(&written), pages), "{page_size}");
    }
}

fn dots_of(written: &[String]) -> Vec<&str> {
    written.iter().map(String::as_str).collect()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_tells_who_wrote_it_when_and_what_became_of_it(pool: PgPool) {
    let site = Site::start(pool).await;
    site.phone(FILE, Some(b"A=1")).await;
    site.phone(FILE, None).await;
    site.phone(FILE, Some(b"A=2")).await;
    site.arrives_from_tokyo(1, FILE, b"A=3").await;
    let request =
        ListVersionsRequest { file: Some(named("299_16XXDATA.TXT")), ..Default::default() };
    let answer = site.history().await.list_versions(request).await.unwrap().into_inner();
    let told: Vec<(Standing, u64)> =
        answer.versions.iter().map(|v| (v.standing(), v.body_bytes)).collect();
    let (served, superseded) = (Standing::Served, Standing::Superseded);
    // Tokyo's is the oldest by its clock, and nobody had seen it.
    let expected = [(served, 3), (superseded, 0), (superseded, 3), (Standing::Concurrent, 3)];
    assert_eq!(told, expected);
    let newest = &answer.versions[0];
    assert_eq!(newest.phone_address, "192.0.2.1");
    assert_eq!(newest.phone_mac, "64c3549e5334");
    assert_eq!(newest.phone_user_agent, "AVAYA/J179-4.0.7.0 (MAC:64c3549e5334)");
    assert_eq!((newest.operator.as_str(), newest.restored_dot.as_str()), ("", ""));
    assert_eq!(newest.body_sha256.len(), 64);
    assert_eq!(answer.versions[1].body_sha256, "", "a deletion");
    let written = |place: usize| answer.versions[place].written_at.unwrap().seconds;
    assert_eq!(written(2), i64::try_from(BEGINNING / 1_000_000).unwrap());
    assert!(written(0) > written(1) && written(1) > written(2));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_comes_out_byte_for_byte(pool: PgPool) {
    let site = Site::start(pool).await;
    let bodies: [&'static [u8]; 4] =
        [b"\xff\xfeA\0=\x001\0\r\0\n\0", b"\xff\xfeO\0d", b"\0\x01\xff", b""];
    let mut client = site.history().await;
    for body in bodies {
        let dot = site.phone(FILE, Some(body)).await;
        for asked in ["", dot.as_str()] {
            let answer = client.get_version(get(asked)).await.unwrap().into_inner();
            assert_eq!(answer.body, body);
            assert_eq!(answer.version.unwrap().dot, dot);
        }
    }
    let first = client.get_version(get(&format!("{}/1", log_of(&site).await))).await.unwrap();
    assert_eq!(first.into_inner().body, bodies[0], "the others did not change it");
}

async fn log_of(site: &Site) -> String {
    let vector = site.store.vector().await.unwrap();
    let files = vector.iter().find(|cursor| cursor.sequence > 0).unwrap();
    files.log.id.to_string()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_largest_file_fits_an_answer(pool: PgPool) {
    let site = Site::start(pool).await;
    let largest: &'static [u8] =
        Box::leak(vec![b'x'; bruri_domain::limits::FILE_BYTES_MAX].into_boxed_slice());
    site.phone(FILE, Some(largest)).await;
    let answer = site.history().await.get_version(get("")).await.unwrap().into_inner();
    assert_eq!(answer.body, largest);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_unknown_file_and_an_unknown_version_are_not_found(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.history().await;
    let request = ListVersionsRequest { file: Some(named(FILE)), ..Default::default() };
    let refused = client.list_versions(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.message(), "nothing is known of file default/299_16xxdata.txt");
    assert_eq!(client.get_version(get("")).await.unwrap_err().code(), Code::NotFound);

    site.phone(FILE, Some(b"A=1")).await;
    let refused = client.get_version(get("paris/9f/1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let told = "file default/299_16xxdata.txt has no version paris/9f/1 here";
    assert_eq!(refused.message(), told);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_prefix_of_an_epoch_must_fit_one_log_only(pool: PgPool) {
    let site = Site::start(pool).await;
    let epochs = [0x9f3a_61c2_d04b_77e1, 0x9f3b_0000_0000_0000];
    site.arrives_from_tokyo(epochs[0], FILE, b"A=1").await;
    site.arrives_from_tokyo(epochs[1], FILE, b"A=2").await;
    let mut client = site.history().await;
    let refused = client.get_version(get("tokyo/9f3/1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = "tokyo/9f3/1 may be of several logs: write more digits of its epoch";
    assert_eq!(refused.message(), told);
    for (asked, epoch, body) in
        [("tokyo/9f3a/1", epochs[0], b"A=1"), ("tokyo/9f3b/1", epochs[1], b"A=2")]
    {
        let answer = client.get_version(get(asked)).await.unwrap().into_inner();
        assert_eq!(answer.body, body);
        assert_eq!(answer.version.unwrap().dot, dot_in_tokyo(epoch).to_string());
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_row_that_somebody_changed_by_hand_is_told_as_damaged(pool: PgPool) {
    let site = Site::start(pool.clone()).await;
    site.phone(FILE, Some(b"A=1")).await;
    sqlx::query("update file set checksum = '\\x00'").execute(&pool).await.unwrap();
    let refused = site.history().await.get_version(get("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    let told = "table file, row default/299_16xxdata.txt: column checksum is damaged";
    assert_eq!(refused.message(), told);
}
