//! Damage that a peer can mend.

use bruri_domain::Sha256;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::kit::{Deployment, Site, equal::assert_equal, site::file_id};

const FILE: &str = "299_16xxdata.txt";
const OTHER: &str = "298_16xxdata.txt";

/// Does to the database what nobody should, by hand.
async fn by_hand(site: &Site, statement: &str) {
    let mut connection = site.pool.acquire().await.unwrap().detach();
    connection.execute("set session_replication_role = replica").await.unwrap();
    connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

async fn two_with_files(deployment: &Deployment) -> (Site, Site) {
    let (london, tokyo) = deployment.two(["london", "tokyo"]).await;
    london.put(FILE, &b"Name=old\r\n"[..]).await;
    london.put(FILE, &b"Name=new\r\n"[..]).await;
    tokyo.put(OTHER, &b"Name=other\r\n"[..]).await;
    tokyo.until_served(FILE, Some(b"Name=new\r\n")).await;
    london.until_served(OTHER, Some(b"Name=other\r\n")).await;
    (london, tokyo)
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_with_the_same_records_are_proved_equal_and_a_row_that_is_wrong_is_made_anew_at_either()
 {
    let deployment = Deployment::new();
    let (london, tokyo) = two_with_files(&deployment).await;
    let proved = london.replication.prove("tokyo").await.unwrap();
    assert_eq!((proved.equal, proved.repaired, proved.differing), (Some(true), 0, vec![]));
    for site in [&london, &tokyo] {
        // Whole in itself, and that of nothing.
        let blank = format!(
            "update file set (state, checksum, served_body) =
                    ('', sha256(convert_to('default', 'utf8') || '\\x00' || convert_to('{FILE}', 'utf8') || '\\x00'), null)
              where name = '{FILE}'"
        );
        by_hand(site, &blank).await;
        assert_eq!(site.store.proof().await.unwrap().damaged, []);
        let proved = london.replication.prove("tokyo").await.unwrap();
        assert_eq!((proved.equal, proved.repaired, proved.differing), (Some(true), 1, vec![]));
        site.until_served(FILE, Some(b"Name=new\r\n")).await;
    }
    assert_equal(&[&london, &tokyo]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_damaged_comes_back_from_the_peer_and_one_that_is_damaged_there_too_does_not()
 {
    let deployment = Deployment::new();
    let (london, tokyo) = two_with_files(&deployment).await;
    let sha256 = Sha256::of(b"Name=new\r\n");
    let flip = format!(
        "update body set content = set_byte(content, 10, get_byte(content, 10) # 1) where sha256 = '\\x{sha256}'"
    );
    by_hand(&london, &flip).await;
    by_hand(&tokyo, &flip).await;
    for site in [&london, &tokyo] {
        assert_eq!(site.store.scrub_all().await.unwrap().damaged, 1);
        assert_eq!(site.replication.fetch_lacking().await.unwrap(), 1);
    }
    by_hand(&tokyo, &flip).await;
    assert_eq!(london.replication.fetch_lacking().await.unwrap(), 0);
    london.until_served(FILE, Some(b"Name=new\r\n")).await;
    assert_eq!(london.store.damaged_bodies().await.unwrap(), 0);
    let proved = london.replication.prove("tokyo").await.unwrap();
    assert_eq!((proved.equal, proved.damaged_bodies), (Some(true), 1), "noted there before");
    assert_eq!(tokyo.replication.fetch_lacking().await.unwrap(), 0);
    assert_equal(&[&london, &tokyo]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_whose_body_the_supplier_had_no_more_gets_it_from_whoever_has_it() {
    let deployment = Deployment::new();
    let (london, tokyo) = two_with_files(&deployment).await;
    // As if the body had never come with its record.
    by_hand(
        &tokyo,
        &format!(
            "with r as (update record set body = null, pruned = true
                         where body = '\\x{0}' returning realm, name, log, sequence)
             insert into wanted_body (realm, name, log, sequence, sha256, bytes)
             select realm, name, log, sequence, '\\x{0}', 10 from r",
            Sha256::of(b"Name=new\r\n")
        ),
    )
    .await;
    by_hand(
        &tokyo,
        &format!("delete from body where sha256 = '\\x{}'", Sha256::of(b"Name=new\r\n")),
    )
    .await;
    assert!(tokyo.store.version(&file_id(FILE), None).await.is_err());
    assert_eq!(tokyo.replication.fetch_lacking().await.unwrap(), 0);
    tokyo.until_served(FILE, Some(b"Name=new\r\n")).await;
    assert_equal(&[&london, &tokyo]).await;
}
