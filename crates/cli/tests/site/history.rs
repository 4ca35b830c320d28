//! `bruri history`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use crate::memory::{BODY, Site, text};

const FILE: &str = "0000_16xxdata.txt";

fn version(sequence: u64, standing: &str, bytes: u64) -> serde_json::Value {
    json!({
        "dot": format!("london/9f3a61c2d04b77e1/{sequence}"),
        "written_at": "2023-11-14T22:13:20.000001Z",
        "standing": standing,
        "body_sha256": "ab".repeat(32),
        "body_bytes": bytes,
        "phone": { "address": "192.0.2.1", "mac": null, "user_agent": "AVAYA" },
        "operator": null,
        "restored_dot": null,
        "pruned": false, "suspect": false,
    })
}

#[tokio::test]
async fn files_of_all_pages_are_listed_up_to_the_limit() {
    let site = Site::with_files(2500);
    for (limit, expected, more) in [("2500", 2500, false), ("2001", 2001, true), ("1", 1, true)] {
        let told = site.json(&["history", "files", "--limit", limit]).await;
        let files = told["files"].as_array().unwrap();
        assert_eq!((files.len(), &told["more"]), (expected, &json!(more)), "{limit}");
        let last = format!("{:04}_16xxdata.txt", expected.strict_sub(1));
        assert_eq!(files.last().unwrap()["name"], last.as_str());
    }
}

#[tokio::test]
async fn a_list_that_was_cut_short_says_so_beside_it() {
    let site = Site::with_files(1001);
    let output = site.bruri(&["history", "files"]).await;
    assert_eq!(text(&output.stdout).lines().count(), 1001, "1000 and the titles");
    let told = "there are more than these 1,000: --limit shows more\n";
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), told));
}

#[tokio::test]
async fn files_are_told_to_people_and_to_programs() {
    let site = Site::with_files(20);
    assert_eq!(
        site.works(&["history", "files", "0001"]).await,
        "\
FILE               SIZE  WRITTEN               CONFIRMED  BY         VERSION                    STATE
0001_16xxdata.txt  12 B  2023-11-14T22:13:20Z  -          192.0.2.1  london/9f3a61c2d04b77e1/2
"
    );
    let told = site.json(&["history", "files", "0001"]).await;
    let file = json!({
        "realm": "default", "name": "0001_16xxdata.txt", "served": version(2, "served", 12),
        "heads": 1, "conflict": false, "confirmed_at": null,
    });
    assert_eq!(told, json!({ "files": [file], "more": false }));
}

#[tokio::test]
async fn versions_of_all_pages_are_listed() {
    let site = Site::with_files(1);
    assert_eq!(
        site.works(&["history", "list", FILE]).await,
        "\
VERSION                    WRITTEN               SIZE  STANDING    BY         DETAIL
london/9f3a61c2d04b77e1/2  2023-11-14T22:13:20Z  12 B  served      192.0.2.1  AVAYA
london/9f3a61c2d04b77e1/1  2023-11-14T22:13:20Z  12 B  superseded  192.0.2.1  AVAYA
"
    );
    let told = site.json(&["history", "versions", FILE]).await;
    let versions = [version(2, "served", 12), version(1, "superseded", 12)];
    assert_eq!(told, json!({ "versions": versions, "more": false }));
}

#[tokio::test]
async fn the_bytes_of_a_version_come_out_as_they_are() {
    let site = Site::with_files(1);
    let output = site.bruri(&["history", "get", FILE]).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), BODY));

    let told = site.works(&["history", "get", FILE, "london/9f/1", "--out", "body"]).await;
    assert_eq!(told, "2 bytes of london/9f3a61c2d04b77e1/1 are in body\n");
    let path = site.dir.path().join("body");
    assert_eq!(fs::read(&path).unwrap(), b"\x80\x00");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let told = site.json(&["history", "get", FILE]).await;
    let expected =
        json!({ "version": version(2, "served", 12), "body_base64": "//5BAD0AMQANAAoA" });
    assert_eq!(told, expected);
    let told = site.json(&["history", "get", FILE, "--out", "body"]).await;
    assert_eq!(told["out"], "body");
    assert_eq!(fs::read(&path).unwrap(), BODY);
}

#[tokio::test]
async fn a_version_is_shown_as_text() {
    let site = Site::with_files(1);
    assert_eq!(site.works(&["history", "show", FILE]).await, "A=1\n");
    let told = site.works(&["history", "show", FILE, "london/9f/1"]).await;
    assert_eq!(told, "no text: 2 bytes\n  80 00\n");
    let told = site.json(&["history", "show", FILE]).await;
    assert_eq!((&told["encoding"], &told["text"]), (&json!("utf-16le"), &json!("A=1\r\n")));
    let told = site.json(&["history", "show", FILE, "london/9f/1"]).await;
    assert_eq!((&told["encoding"], &told["text"]), (&json!("binary"), &json!(null)));
}

#[tokio::test]
async fn a_deletion_has_no_bytes_to_get_or_show() {
    let site = Site::with_files(1);
    for what in ["get", "show"] {
        let output = site.bruri(&["history", what, FILE, "london/9f/3"]).await;
        let told = "bruri: london/9f3a61c2d04b77e1/3 is a deletion: it has no body\n";
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), told));
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_restore_tells_what_came_of_it() {
    let site = Site::with_files(1);
    assert_eq!(
        site.works(&["history", "restore", FILE, "london/9f/1"]).await,
        "0000_16xxdata.txt: london/9f3a61c2d04b77e1/1 is back, as london/9f3a61c2d04b77e1/3\n"
    );
    assert_eq!(
        site.works(&["history", "restore", FILE, "london/9f/2"]).await,
        "0000_16xxdata.txt: phones get that already, as london/9f3a61c2d04b77e1/2; nothing was \
         changed\n"
    );
    let told = site.json(&["history", "restore", FILE, "london/9f/1"]).await;
    assert_eq!(told["appended"], true);
    assert_eq!(told["version"]["restored_dot"], "london/9f3a61c2d04b77e1/1");
}

#[tokio::test]
async fn a_deletion_tells_that_the_versions_stay() {
    let site = Site::with_files(1);
    assert_eq!(
        site.works(&["history", "delete", FILE]).await,
        "0000_16xxdata.txt: phones get nothing from now on, as london/9f3a61c2d04b77e1/3; its \
         versions are kept\n"
    );
    let told = site.json(&["history", "delete", FILE]).await;
    assert_eq!(
        (&told["appended"], &told["dot"]),
        (&json!(true), &json!("london/9f3a61c2d04b77e1/3"))
    );
}

#[tokio::test]
async fn nothing_is_erased_without_a_yes() {
    let site = Site::with_files(1);
    let output = site.bruri(&["erase", "299"]).await;
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(
        told.contains("every version of 299 at every site") && told.contains("--yes"),
        "{told}"
    );
}
