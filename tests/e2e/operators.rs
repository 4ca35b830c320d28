//! What operators do with a running site, by the real command.

use std::time::Duration;

use anyhow::ensure;
use bruri_tests::{Bodies, Book, Deployment, Phone, eventually, programs};
use serde_json::Value;

use crate::turn;

const FILE: &str = "299_16xxdata.txt";

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_found_got_and_put_back_and_the_phone_gets_it() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start_alone("london").await.unwrap();
    let site = &deployment.sites[0];
    let (mut phone, mut bodies) = (Phone::new(site.phones()), Bodies::new(1));
    let (old, new) = (bodies.next(600), bodies.next(700));
    phone.back_up(FILE, &old, &Book::default()).await.unwrap();
    phone.back_up(FILE, &new, &Book::default()).await.unwrap();

    let listed = json(&site.bruri(&["--json", "history", "list", FILE]).await.unwrap());
    let versions = listed["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2, "{listed}");
    assert_eq!(versions[0]["standing"], "served", "{listed}");
    assert_eq!(versions[1]["phone"]["mac"], "00040d5ab3c1", "{listed}");
    let dot = versions[1]["dot"].as_str().unwrap();

    let out = deployment.folder().join("got");
    let path = out.to_str().unwrap();
    site.bruri(&["history", "get", FILE, dot, "--out", path]).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), old);

    assert_eq!(phone.restore(FILE).await.unwrap().unwrap(), new);
    site.bruri(&["history", "restore", FILE, dot]).await.unwrap();
    assert_eq!(phone.restore(FILE).await.unwrap().unwrap(), old);

    let listed = json(&site.bruri(&["--json", "history", "list", FILE]).await.unwrap());
    assert_eq!(listed["versions"].as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(listed["versions"][0]["restored_dot"], dot, "{listed}");
    let status = json(&site.bruri(&["--json", "site", "status"]).await.unwrap());
    assert_eq!((&status["site"], &status["files"]), (&"london".into(), &1.into()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_site_took_another_lists_and_the_command_behaves_like_a_phone() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let (london, tokyo) = (&deployment.sites[0], &deployment.sites[1]);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/2593_96xxdata.txt");
    let url = |address| format!("http://{address}/");

    programs::bruri(["phone", "put", &url(london.phones()), sample]).await.unwrap();
    bruri_tests::level(&deployment.sites).await.unwrap();
    let out = deployment.folder().join("2593_96xxdata.txt");
    let path = out.to_str().unwrap();
    programs::bruri(["phone", "get", &url(tokyo.phones()), path]).await.unwrap();

    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(sample).unwrap());
    let listed = json(&tokyo.bruri(&["--json", "history", "files", "2593"]).await.unwrap());
    let dot = listed["files"][0]["served"]["dot"].as_str().unwrap();
    assert!(dot.starts_with("london/") && dot.ends_with("/1"), "{listed}");
    let status = json(&tokyo.bruri(&["--json", "site", "status"]).await.unwrap());
    assert_eq!(status["peers"][0]["site"], "london", "{status}");
    assert_eq!(status["peers"][0]["state"], "live", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_how_far_each_peers_clock_is_off_and_whether_ours_is_trusted() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    eventually(Duration::from_secs(10), "the clocks are compared", async || {
        let metrics = deployment.sites[1].metrics().await?;
        let value = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        };
        let (offset, trusted) =
            (value("bruri_clock_offset_seconds{"), value("bruri_clock_trusted"));
        ensure!(offset.is_some_and(|seconds| seconds.abs() < 1.0), "{metrics}");
        ensure!(trusted == Some(1.0), "{metrics}");
        ensure!(metrics.contains("peer=\"london\""), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_off_is_kept_and_marked_while_phones_go_on_getting_the_whole_one() {
    let _turn = turn::shared().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let (london, tokyo) = (&deployment.sites[0], &deployment.sites[1]);
    let (mut phone, whole) = (Phone::new(london.phones()), Bodies::new(1).next(600));
    phone.back_up(FILE, &whole, &Book::default()).await.unwrap();

    // Within a character, as where a line broke; and the empty one of a client that waits for a 401.
    for cut in [&whole[..301], &[]] {
        let put = phone.send("PUT", FILE, Some(cut)).await.unwrap();
        assert_eq!(put.status, 204, "{put:?}");
    }
    bruri_tests::level(&deployment.sites).await.unwrap();

    for site in [london, tokyo] {
        let got = Phone::new(site.phones()).restore(FILE).await.unwrap();
        assert_eq!(got.unwrap(), whole);
        let listed = json(&site.bruri(&["--json", "history", "list", FILE]).await.unwrap());
        let versions = listed["versions"].as_array().unwrap();
        let suspect: Vec<_> = versions.iter().map(|version| version["suspect"].clone()).collect();
        assert_eq!(suspect, [true, true, false], "{listed}");
        assert_eq!(versions[2]["standing"], "served", "{listed}");
        let listed = site.bruri(&["history", "list", FILE]).await.unwrap();
        assert!(listed.contains("superseded, suspect"), "{listed}");
    }
    let listed = json(&tokyo.bruri(&["--json", "history", "list", FILE]).await.unwrap());
    let cut_off = listed["versions"][1]["dot"].as_str().unwrap();
    tokyo.bruri(&["history", "restore", FILE, cut_off]).await.unwrap();
    let got = Phone::new(tokyo.phones()).restore(FILE).await.unwrap();
    assert_eq!(got.unwrap(), whole[..301], "an operator wants it");
    let metrics = london.metrics().await.unwrap();
    let counted = metrics.lines().find(|line| line.starts_with("bruri_suspect_backups_total"));
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{metrics}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
