//! Which addresses name which file, and which name none.

use sqlx::PgPool;

use crate::kit::{BODY, Site, put};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn one_file_has_many_addresses(pool: PgPool) {
    let site = Site::start(pool).await;
    for (round, address) in [
        "/299_16xxdata.txt",
        "//299_16xxdata.txt",
        "/299_16XXData.TXT",
        "/PhoneBackup/299_16xxdata.txt",
        "/PhoneBackup//299_16xxdata.txt",
        "/phonebackup/299_16xxdata.txt",
        "/user/backuprestore/299_16xxdata.txt",
        "//user//backuprestore//299_16xxdata.txt",
        "http://bruri.example:8080/PhoneBackup/299_16xxdata.txt",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!("a={round}");
        let status = site.put(address, body.as_bytes()).await;
        assert_eq!(status, if round == 0 { 201 } else { 204 }, "{address}");
        assert_eq!(site.get("/299_16xxdata.txt").await.body, body.as_bytes(), "{address}");
        assert_eq!(site.get(address).await.body, body.as_bytes(), "{address}");
    }
    let names: Vec<String> =
        sqlx::query_scalar("select name from file").fetch_all(&site.pool).await.unwrap();
    assert_eq!(names, ["299_16xxdata.txt"]);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_address_that_no_phone_uses_is_refused_and_keeps_nothing(pool: PgPool) {
    let site = Site::start(pool).await;
    let long = format!("/{}_16xxdata.txt", "1".repeat(300));
    let longer = format!("/{}", "a/".repeat(4000));
    for (address, status) in [
        ("/", 400),
        ("/x.php", 400),
        ("/.htaccess", 400),
        ("/299_16xxdata.txt.php", 400),
        ("/../299_16xxdata.txt", 400),
        ("/PhoneBackup/../../etc/passwd", 400),
        ("/%2e%2e/299_16xxdata.txt", 400),
        ("/%2e%2e%2fetc%2fpasswd", 400),
        ("/PhoneBackup%2F299_16xxdata.txt", 400),
        ("/PhoneBackup%5c299_16xxdata.txt", 400),
        ("/PhoneBackup\\299_16xxdata.txt", 400),
        ("/299_16xxdata.txt%00", 400),
        ("/299_16xxdata.txt\0", 400),
        ("/299_16xxdata.txt?x=y", 400),
        ("/299_16xxdata.txt;x", 400),
        ("/299 _16xxdata.txt", 400),
        ("299_16xxdata.txt", 400),
        (&long, 400),
        (&longer, 400),
        ("/elsewhere/299_16xxdata.txt", 404),
        ("/user/299_16xxdata.txt", 404),
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let head =
                format!("{method} {address} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY.len());
            let reply = site.ask([head.as_bytes(), BODY].concat()).await;
            assert_eq!(reply.status, status, "{method} {address}");
        }
        assert_eq!(site.records().await, 0, "{address}");
    }
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_refusal_says_what_to_do_in_one_line(pool: PgPool) {
    let site = Site::start(pool).await;
    for (request, beginning) in [
        (put("/x.php", BODY), "not a phone's file name: expected <extension>_<tag>data.txt"),
        (put("/a%20b", BODY), "the path holds what no phone sends: %"),
        (put("/x/1_16xxdata.txt", BODY), "no such directory: set BRURI to this server alone"),
        (b"GET /1_16xxdata.txt HTTP/1.1\r\n\r\n".to_vec(), "there is no backup of that name"),
    ] {
        let reply = site.ask(request).await;
        let text = reply.text();
        assert!(text.starts_with(beginning), "{text}");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}
