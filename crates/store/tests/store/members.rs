//! The membership as the store keeps it, and invitations.

use std::time::Duration;

use bruri_domain::{MemberState, SiteName};
use bruri_store::News;
use sqlx::{
    Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Site, Twin, number, pull, verify_logs};

const HOUR: Duration = Duration::from_hours(1);
const SECRET: [u8; 32] = [1; 32];
const KEY: [u8; 32] = [2; 32];

fn name(text: &str) -> SiteName {
    SiteName::parse(text).unwrap()
}

fn news(site: &str, state: MemberState) -> News {
    News {
        site: name(site),
        state,
        addresses: vec![format!("{site}.example:7440")],
        issues: false,
        operator: "uid 0".to_owned(),
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_one_site_tells_of_members_is_known_at_every_other_and_a_retirement_stays(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    let told = ["tokyo", "paris"].map(|site| news(site, MemberState::Joined));
    london.store.tell_members(told.to_vec()).await.unwrap();
    tokyo.store.tell_members(vec![news("paris", MemberState::Retired)]).await.unwrap();
    // Later than the retirement, and of no use.
    london.clock.advance(1_000_000);
    london.store.tell_members(vec![news("paris", MemberState::Joined)]).await.unwrap();
    pull(&london.store, &tokyo.store).await;
    pull(&tokyo.store, &london.store).await;
    let (here, there) =
        (london.store.membership().await.unwrap(), tokyo.store.membership().await.unwrap());
    assert_eq!(here, there);
    assert!(here.admits(&name("tokyo")).is_ok() && here.admits(&name("paris")).is_err());
    assert_eq!(here.get(&name("tokyo")).unwrap().addresses, ["tokyo.example:7440"]);
    assert_eq!(verify_logs(&london.store, &london.pool).await, 4);
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_invitation_is_redeemed_by_one_key_which_may_ask_again(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (store, joined) = (&site.store, || news("tokyo", MemberState::Joined));
    store.invite(&SECRET, &name("tokyo"), HOUR).await.unwrap();
    assert_eq!(store.invited(&SECRET, &KEY).await.unwrap(), Some(name("tokyo")));
    assert_eq!(store.invited(&[9; 32], &KEY).await.unwrap(), None);
    assert!(!store.redeem(&SECRET, &KEY, news("paris", MemberState::Joined)).await.unwrap());
    for _ in 0..2 {
        assert!(store.redeem(&SECRET, &KEY, joined()).await.unwrap());
    }
    assert_eq!(number(&site.pool, "select count(*) from record").await, 1, "one record");
    assert_eq!(store.invited(&SECRET, &[3; 32]).await.unwrap(), None);
    assert!(!store.redeem(&SECRET, &[3; 32], joined()).await.unwrap());
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_invitation_that_expired_or_whose_site_was_retired_is_not_redeemed(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (store, joined) = (&site.store, || news("tokyo", MemberState::Joined));
    store.invite(&SECRET, &name("tokyo"), HOUR).await.unwrap();
    store.tell_members(vec![news("tokyo", MemberState::Retired)]).await.unwrap();
    assert!(!store.redeem(&SECRET, &KEY, joined()).await.unwrap());
    store.invite(&[5; 32], &name("paris"), HOUR).await.unwrap();
    site.pool.execute("update invite set expires_at = now()").await.unwrap();
    assert_eq!(store.invited(&[5; 32], &KEY).await.unwrap(), None);
    assert!(!store.redeem(&[5; 32], &KEY, news("paris", MemberState::Joined)).await.unwrap());
    // The next invitation clears them away.
    store.invite(&[6; 32], &name("berlin"), HOUR).await.unwrap();
    assert_eq!(number(&site.pool, "select count(*) from invite").await, 1);
    site.close().await;
}
