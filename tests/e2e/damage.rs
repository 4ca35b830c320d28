//! What somebody changed in Postgres by hand: never the wrong bytes, and mended as soon as a peer is there.

use std::time::Duration;

use bruri_domain::Sha256;
use bruri_tests::link::Link;
use bruri_tests::{Bodies, Book, Deployment, Phone, Site, agree, eventually, level};
use serde_json::Value;

use crate::turn;

const PATIENCE: Duration = Duration::from_secs(20);

/// A body with a flipped byte, one that is gone, and a file without its state, from this extension on.
async fn damage(site: &Site, from: usize, bodies: &[Vec<u8>]) {
    let database = site.database().await.unwrap();
    let of = |n: usize| format!("'\\x{}'", Sha256::of(&bodies[n]));
    let flip = "update body set content = set_byte(content, 20, get_byte(content, 20) # 1) where sha256 = ";
    database.damage(&format!("{flip}{}", of(0))).await.unwrap();
    database.damage(&format!("delete from body where sha256 = {}", of(1))).await.unwrap();
    let state = format!("delete from file where name = '{}'", file(from + 2));
    database.damage(&state).await.unwrap();
}

fn file(extension: usize) -> String {
    format!("{extension}_96xxdata.txt")
}

/// Three phones back up and nothing is on its way any more.
async fn back_up(sites: &[Site], from: usize, book: &Book) -> Vec<Vec<u8>> {
    let (mut phone, mut drawn) = (Phone::new(sites[1].phones()), Bodies::new(from as u64));
    let mut bodies = Vec::new();
    for extension in from..from + 3 {
        bodies.push(drawn.next(2000));
        phone.back_up(&file(extension), bodies.last().unwrap(), book).await.unwrap();
    }
    level(sites).await.unwrap();
    bodies
}

async fn prove(site: &Site) -> Value {
    serde_json::from_str(&site.bruri(&["--json", "site", "prove"]).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_by_hand_is_never_served_wrong_and_is_mended_by_a_peer() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let book = Book::default();
    let bodies = back_up(&deployment.sites, 300, &book).await;
    deployment.links(0, 1).for_each(Link::cut);
    damage(&deployment.sites[0], 300, &bodies).await;
    for site in &mut deployment.sites {
        site.stop().await.unwrap();
        site.start().await.unwrap();
    }

    let mut phone = Phone::new(deployment.sites[0].phones());
    for extension in [300, 301] {
        let got = phone.send("GET", &file(extension), None).await.unwrap();
        assert_eq!(got.status, 503, "{got:?}");
        let got = phone.send("HEAD", &file(extension), None).await;
        assert!(got.is_err() || got.unwrap().status == 503);
        phone = Phone::new(deployment.sites[0].phones());
    }
    // Its records say what it was.
    assert_eq!(phone.restore(&file(302)).await.unwrap().as_ref(), Some(&bodies[2]));
    let alone = deployment.sites[0].bruri(&["site", "prove"]).await.unwrap_err().to_string();
    assert!(alone.contains("exit status: 1") && alone.contains("unreached"), "{alone}");

    deployment.links(0, 1).for_each(Link::heal);
    for (n, body) in bodies.iter().enumerate() {
        eventually(PATIENCE, "the right bytes are served", async || {
            let got = Phone::new(deployment.sites[0].phones()).restore(&file(300 + n)).await?;
            assert!(got.as_ref() == Some(body), "other bytes");
            Ok(())
        })
        .await
        .unwrap();
    }
    proved(&deployment.sites, &book).await;
}

/// Nobody has read what is damaged now.
async fn proved(sites: &[Site], book: &Book) {
    level(sites).await.unwrap();
    let bodies = back_up(sites, 400, book).await;
    damage(&sites[0], 400, &bodies).await;
    let told = prove(&sites[0]).await;
    let counts = |n: usize, what: &str| told[n][what].as_u64().unwrap();
    assert_eq!((&told[0]["site"], &told[1]["site"]), (&"london".into(), &"tokyo".into()));
    assert!((0..2).all(|n| told[n]["outcome"] == "proved"), "{told}");
    assert_eq!((counts(0, "files"), counts(0, "bodies")), (6, 5), "one was gone: {told}");
    assert_eq!((counts(0, "repaired_files"), counts(0, "repaired_bodies")), (1, 2), "{told}");
    for (n, body) in bodies.iter().enumerate() {
        let got = Phone::new(sites[0].phones()).restore(&file(400 + n)).await.unwrap();
        assert!(got.as_ref() == Some(body), "{} has other bytes", file(400 + n));
    }
    agree(sites).await.unwrap();
    let again = sites[1].bruri(&["site", "prove"]).await.unwrap();
    assert!(again.contains("london  proved") && again.contains("tokyo   proved"), "{again}");
}
