//! What well-behaved phones send, of every age.

use std::{fs, path::Path, time::Duration};

use sqlx::PgPool;

use crate::kit::{BODY, Site, put};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn every_file_comes_back_byte_for_byte(pool: PgPool) {
    let site = Site::start(pool).await;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/samples");
    let mut count = 0;
    for entry in fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with("data.txt") {
            continue;
        }
        let body = fs::read(&path).unwrap();
        assert_eq!(site.put(&format!("/{name}"), &body).await, 201, "{name}");
        let reply = site.get(&format!("/{name}")).await;
        assert_eq!((reply.status, reply.body == body), (200, true), "{name}");
        count += 1;
    }
    assert!(count >= 12, "{count} samples");
    assert_eq!(site.records().await, count);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn any_bytes_come_back_as_they_are(pool: PgPool) {
    let site = Site::start(pool).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(70_001).collect();
    for body in [&b"\0"[..], b"\xd8\0\xff\xfe", b"<?php x();", b"\r\n\r\n", &bytes] {
        assert!(matches!(site.put("/1_16xxdata.txt", body).await, 201 | 204));
        assert!(site.get("/1_16xxdata.txt").await.body == body);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_may_speak_http_1_0_without_host(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client.send("PUT /299_16xxdata.txt HTTP/1.0\r\nContent-Length: 3\r\n\r\na=b").await;
    assert_eq!(client.reply().await.line, "HTTP/1.0 201 Created");
    assert!(client.is_closed().await);

    let mut client = site.connect().await;
    client.send("GET /299_16xxdata.txt HTTP/1.0\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.line.as_str(), &reply.body[..]), ("HTTP/1.0 200 OK", &b"a=b"[..]));
    assert!(client.is_closed().await);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_http_1_0_phone_may_keep_its_connection(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    for _ in 0..2 {
        client.send("GET /1_16xxdata.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(client.reply().await.status, 404);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn host_may_be_missing_and_lines_may_end_in_lf_alone(pool: PgPool) {
    let site = Site::start(pool).await;
    for request in [
        "PUT /1_16xxdata.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b",
        "PUT /2_16xxdata.txt HTTP/1.1\nContent-Length: 3\n\na=b",
    ] {
        assert_eq!(site.ask(request).await.status, 201);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_chunked_body_arrives_whole_however_it_is_cut(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client.send("PUT /1_96xxdata.txt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in
        ["2\r\na=", "\r\n", "1;ext=1\r\nb\r\n5\r", "\n\r\nc=d", "\r\n0\r\n", "X: y\r\n\r\n"]
    {
        client.send(piece).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.reply().await.status, 201);
    client.send("GET /1_96xxdata.txt HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.reply().await.body, b"a=b\r\nc=d", "the connection is kept");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_expects_100_gets_it_before_it_sends(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client
        .send("PUT /1_16xxdata.txt HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    assert_eq!(client.head_reply().await.line, "HTTP/1.1 100 Continue");
    client.send("a=b").await;
    assert_eq!(client.reply().await.status, 201);
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=b");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_expects_100_and_is_refused_is_spared_the_upload(pool: PgPool) {
    let site = Site::start(pool).await;
    for (path, header, status) in [
        ("/x.php", "Content-Length: 3", 400),
        ("/x/1_16xxdata.txt", "Content-Length: 3", 404),
        ("/1_64c3549e5334_report.tgz", "Content-Length: 3", 403),
        ("/1_16xxdata.txt", "Content-Length: 1048577", 413),
        ("/1_16xxdata.txt", "Content-Length: 3\r\nContent-Encoding: gzip", 415),
    ] {
        let mut client = site.connect().await;
        let request = format!("PUT {path} HTTP/1.1\r\nExpect: 100-continue\r\n{header}\r\n\r\n");
        client.send(request).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(site.records().await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_connection_carries_many_requests(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    for round in 0..20 {
        let body = format!("a={round}");
        client.send(put("/1_16xxdata.txt", body.as_bytes())).await;
        assert_eq!(client.reply().await.status, if round == 0 { 201 } else { 204 });
        client.send("GET /1_16xxdata.txt HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.reply().await.body, body.as_bytes());
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn requests_sent_ahead_are_answered_in_their_order(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    let get = b"GET /1_16xxdata.txt HTTP/1.1\r\n\r\n";
    let requests =
        [get, &put("/1_16xxdata.txt", b"a=1")[..], get, &put("/1_16xxdata.txt", b"a=2"), get];
    client.send(requests.concat()).await;
    let mut got = Vec::new();
    for _ in requests {
        let reply = client.reply().await;
        got.push((reply.status, reply.body.len()));
    }
    assert_eq!(
        got.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
        [404, 201, 200, 204, 200]
    );
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=2");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_may_shut_its_side_once_it_has_asked(pool: PgPool) {
    use tokio::io::AsyncWriteExt as _;
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client.send(put("/1_16xxdata.txt", BODY)).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.reply().await.status, 201);
    assert!(client.is_closed().await);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn headers_in_latin_1_do_no_harm(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut request = b"PUT /1_16xxdata.txt HTTP/1.1\r\nUser-Agent: B\xfcro\r\n".to_vec();
    request.extend(b"X-\xe9: \xe9\r\nContent-Length: 3\r\n\r\na=b");
    // A name must be ASCII, a value need not.
    assert_eq!(site.ask(&request).await.status, 400);
    let request = String::from_utf8_lossy(&request).replace("X-\u{fffd}", "X-E");
    assert_eq!(site.ask(request.replace('\u{fffd}', "\u{fc}")).await.status, 201);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn answers_have_a_length_and_nothing_that_surprises_a_phone(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", BODY).await;
    let asked = "GET /1_16xxdata.txt HTTP/1.1\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\r\n";
    let reply = site.ask(asked).await;
    assert_eq!((reply.line.as_str(), &reply.body[..]), ("HTTP/1.1 200 OK", BODY));
    let mut names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "Bruri-Freshness",
            "Cache-Control",
            "Content-Length",
            "Content-Type",
            "Date",
            "Etag",
            "Last-Modified",
            "X-Content-Type-Options"
        ]
    );
    assert_eq!(reply.header("content-length"), Some("16"));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("last-modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let hash = bruri_domain::Sha256::of(BODY);
    assert_eq!(reply.header("etag"), Some(format!("\"{hash}\"").as_str()));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_look_is_a_restore_without_its_body(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", BODY).await;
    let mut client = site.connect().await;
    for path in ["/1_16xxdata.txt", "/2_16xxdata.txt"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\n\r\n")).await;
        let look = client.head_reply().await;
        client.send(format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        let restore = client.reply().await;
        let lasting = |reply: &crate::kit::Reply| {
            let passes = ["Date", "Bruri-Freshness"];
            let headers = reply.headers.iter().filter(|(name, _)| !passes.contains(&&**name));
            headers.cloned().collect::<Vec<_>>()
        };
        assert_eq!(look.line, restore.line);
        assert_eq!(lasting(&look), lasting(&restore));
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn only_a_phone_that_asks_so_hears_that_nothing_changed(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", BODY).await;
    let tag = site.get("/1_16xxdata.txt").await.header("etag").unwrap().to_owned();
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (headers, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-Modified-Since: {date}"), 304),
        ("If-None-Match: \"x\"".to_owned(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"), 200),
    ] {
        let mut client = site.connect().await;
        client.send(format!("GET /1_16xxdata.txt HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{headers}");
        assert_eq!(reply.header("etag"), Some(tag.as_str()));
        if status == 304 {
            assert_eq!(reply.header("content-length"), None);
        }
        // Not a byte of a body follows a 304.
        client.send("GET /2_16xxdata.txt HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.reply().await.status, 404);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn other_methods_are_refused_and_told_which_there_are(pool: PgPool) {
    let site = Site::start(pool).await;
    let allowed = Some("GET, HEAD, PUT, DELETE, OPTIONS");
    for method in ["POST", "PATCH", "PROPFIND", "TRACE", "put"] {
        let reply = site.ask(format!("{method} /1_16xxdata.txt HTTP/1.1\r\n\r\n")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, allowed), "{method}");
    }
    for target in ["*", "/", "/1_16xxdata.txt", "/PhoneBackup/"] {
        let reply = site.ask(format!("OPTIONS {target} HTTP/1.1\r\n\r\n")).await;
        assert_eq!((reply.status, reply.header("allow")), (204, allowed), "{target}");
        assert_eq!(reply.header("content-length"), None);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_report_is_refused_clearly(pool: PgPool) {
    let site = Site::start(pool).await;
    let reply = site.ask(put("/8811149_64c3549e5334_report.tgz", b"\x1f\x8b")).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.text(), "phone reports are not accepted here; nothing was kept\n");
    assert_eq!(site.records().await, 0);
}
