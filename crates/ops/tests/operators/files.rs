//! `ListFiles`.

use bruri_wire::proto::history::v1::{File, FileId, ListFilesRequest};
use sqlx::PgPool;
use tonic::Code;

use crate::kit::{Site, named};

async fn five_files(pool: PgPool) -> Site {
    let site = Site::start(pool).await;
    for name in [
        "299_16xxdata.txt",
        "299_96xxdata.txt",
        "2990_96xxdata.txt",
        "300_96xxdata.txt",
        "9610data.txt",
    ] {
        site.phone(name, Some(b"A=1")).await;
    }
    site
}

fn names(files: &[File]) -> Vec<&str> {
    files.iter().map(|file| file.id.as_ref().unwrap().name.as_str()).collect()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn pages_of_files_join_without_gap_or_overlap_whatever_their_size(pool: PgPool) {
    let site = five_files(pool).await;
    let mut client = site.history().await;
    let all = client.list_files(ListFilesRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.files.len(), all.more), (5, false));
    for (page_size, pages) in [(1, 5), (2, 3), (3, 2), (4, 2), (5, 1), (1000, 1)] {
        let (mut seen, mut count, mut after) = (Vec::new(), 0, None);
        loop {
            let request = ListFilesRequest { page_size, after, ..ListFilesRequest::default() };
            let page = client.list_files(request).await.unwrap().into_inner();
            count += 1;
            after = page.files.last().unwrap().id.clone();
            seen.extend(page.files);
            if !page.more {
                break;
            }
        }
        assert_eq!((names(&seen), count), (names(&all.files), pages), "{page_size}");
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn only_files_whose_name_begins_with_the_prefix_are_listed(pool: PgPool) {
    let site = five_files(pool).await;
    let mut client = site.history().await;
    for (prefix, expected) in [
        ("299_", vec!["299_16xxdata.txt", "299_96xxdata.txt"]),
        ("300_96XX", vec!["300_96xxdata.txt"]),
        ("7", vec![]),
    ] {
        let name_prefix = prefix.to_owned();
        let request = ListFilesRequest { name_prefix, ..ListFilesRequest::default() };
        let page = client.list_files(request).await.unwrap().into_inner();
        assert_eq!((names(&page.files), page.more), (expected, false), "{prefix}");
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_tells_what_is_served_and_whether_it_is_in_conflict(pool: PgPool) {
    let site = Site::start(pool).await;
    let dot = site.phone("299_16xxdata.txt", Some(b"A=1")).await;
    site.arrives_from_tokyo(1, "299_16xxdata.txt", b"A=2").await;
    let mut client = site.history().await;
    let page = client.list_files(ListFilesRequest::default()).await.unwrap().into_inner();
    let [file] = &page.files[..] else { panic!("one file") };
    let id = FileId { realm: "default".to_owned(), name: "299_16xxdata.txt".to_owned() };
    assert_eq!(file.id.as_ref(), Some(&id));
    assert_eq!((file.heads, file.conflict, &file.confirmed_at), (2, true, &None));
    let served = file.served.as_ref().unwrap();
    assert_eq!((&served.dot, served.body_bytes), (&dot, 3));
    assert_eq!(served.phone_mac, "64c3549e5334");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_sent_again_is_told_as_confirmed(pool: PgPool) {
    let site = Site::start(pool).await;
    let first = site.phone("299_16xxdata.txt", Some(b"A=1")).await;
    let again = site.phone("299_16xxdata.txt", Some(b"A=1")).await;
    assert_eq!(first, again);
    let mut client = site.history().await;
    let page = client.list_files(ListFilesRequest::default()).await.unwrap().into_inner();
    let (written, confirmed) =
        (page.files[0].served.as_ref().unwrap().written_at, page.files[0].confirmed_at);
    assert!(confirmed.unwrap().seconds > written.unwrap().seconds);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn requests_that_make_no_sense_are_invalid(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.history().await;
    for request in [
        ListFilesRequest { page_size: 1001, ..ListFilesRequest::default() },
        ListFilesRequest { name_prefix: "\0".to_owned(), ..ListFilesRequest::default() },
        ListFilesRequest { after: Some(named("x.php")), ..ListFilesRequest::default() },
    ] {
        let refused = client.list_files(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let name_prefix = "2".repeat(100_000);
    let request = ListFilesRequest { name_prefix, ..ListFilesRequest::default() };
    let refused = client.list_files(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
