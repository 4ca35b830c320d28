//! A process that may open no more files. Alone in its binary, since the bound is the process's.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests; a test may panic"
)]

#[path = "phones/kit.rs"]
#[expect(dead_code, reason = "the other binary uses the rest")]
mod kit;

use std::fs;

use kit::Site;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::PgPool;

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn where_files_run_out_idle_connections_go_and_phones_are_served(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(site.connect().await);
    }
    site.assert_serves().await;
    // Files are closed by tasks of this thread only, which is not at any of them here.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap())
        .max();
    // Room for the phone's own end, none for ours.
    setrlimit(Resource::RLIMIT_NOFILE, highest.unwrap() + 1, hard).unwrap();
    let mut phones = Vec::new();
    while let Ok(stream) = tokio::net::TcpStream::connect(site.address).await {
        phones.push(kit::Client::new(stream));
        assert!(phones.len() < 100, "files do not run out");
    }
    let served = async {
        let mut phone = phones.pop().unwrap();
        phone.send("GET /77_16xxdata.txt HTTP/1.1\r\n\r\n").await;
        phone.reply().await.status
    };
    let status = served.await;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(status, 200);
    assert!(crowd[0].is_closed().await);
}
