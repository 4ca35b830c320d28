//! What operators do with a running site, by the real command.

use bruri_tests::{Bodies, Book, Deployment, Phone, programs};
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

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
