//! A phone that logs in somewhere else gets what was backed up last, also before the log has brought it.

use std::time::Duration;

use bruri_tests::{Bodies, Deployment, Phone, Site, eventually, lag, number, tell};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};

use crate::turn;

/// Half a round trip of the links.
const HALF_TRIP: Duration = Duration::from_millis(25);
/// How soon what a third site knows is served; programs without optimisation are given more.
const THROUGH_A_THIRD: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 200 });
const LOGGED: Duration = Duration::from_secs(3);
const SETTLED: Duration = Duration::from_secs(30);

/// What came of logging out at one site and in at another.
struct Moves {
    /// Microseconds from the GET to its answer.
    micros: Histogram<u64>,
    /// Answers that said that they might be old, and were.
    old: usize,
    /// Answers that said that they were only what was there.
    local: usize,
}

impl Moves {
    fn new() -> Self {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        Self { micros, old: 0, local: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.micros.add(&other.micros).unwrap();
        self.old += other.old;
        self.local += other.local;
    }
}

/// Users log out at one site and, so long after, in at the other, `BRURI_E2E_AT_ONCE` of them at a time.
async fn moves(from: &Site, to: &Site, tries: usize, pause: Duration) -> Moves {
    let at_once = number("AT_ONCE", 1).unwrap();
    let each = tries.div_ceil(at_once);
    let users = (0..at_once).map(|user| moves_of(user, (from, to), each, pause));
    let mut moves = Moves::new();
    for of_user in join_all(users).await {
        moves.add(&of_user);
    }
    tell(&format!(
        "{} moves after {pause:?}, {at_once} at once: {} old, {} local; GET {}",
        moves.micros.len(),
        moves.old,
        moves.local,
        lag::summary(&moves.micros)
    ));
    moves
}

/// Those of one user; an answer may be old only where it says so.
async fn moves_of(user: usize, (from, to): (&Site, &Site), tries: usize, pause: Duration) -> Moves {
    let (mut out, mut into) = (Phone::new(from.phones()), Phone::new(to.phones()));
    let (mut bodies, mut moves) = (Bodies::new(user as u64), Moves::new());
    for number in 0..tries {
        let file = format!("{}_96xxdata.txt", 7000 + user * 50 + number % 50);
        let body = bodies.next(2000);
        let put = out.send("PUT", &file, Some(&body)).await.unwrap();
        assert!((200..300).contains(&put.status), "{put:?}");
        sleep(pause).await;
        let began = Instant::now();
        let got = into.send("GET", &file, None).await.unwrap();
        let took = u64::try_from(began.elapsed().as_micros()).unwrap();
        moves.micros.record(took).unwrap();
        let says_local = got.freshness.starts_with("local");
        moves.local += usize::from(says_local);
        moves.old += usize::from(got.body != body);
        assert!(got.body == body || says_local, "an old answer says {:?}", got.freshness);
    }
    moves
}

/// Has every site want its reads strict, and waits until all know.
async fn make_strict(sites: &[Site]) {
    sites[0].bruri(&["realm", "set", "default", "freshness=strict"]).await.unwrap();
    for site in sites {
        eventually(SETTLED, "the realm is strict", async || {
            let told = site.bruri(&["realm", "show", "default"]).await?;
            anyhow::ensure!(told.contains("strict"), "{told}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// Waits until a site's answers say this.
async fn until_it_says(site: &Site, part: &str) {
    let phone = tokio::sync::Mutex::new(Phone::new(site.phones()));
    eventually(SETTLED, part, async || {
        let got = phone.lock().await.send("GET", "1_96xxdata.txt", None).await?;
        anyhow::ensure!(got.freshness.contains(part), "{}", got.freshness);
        Ok(())
    })
    .await
    .unwrap();
}

/// On a machine that does much else some questions come too late; each such answer has said so.
fn hardly_any(count: usize, tries: usize) -> bool {
    count <= 5 + tries / 10
}

#[tokio::test(flavor = "multi_thread")]
async fn under_strict_who_logs_in_elsewhere_at_once_gets_what_was_backed_up_last() {
    let _turn = turn::alone().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    make_strict(sites).await;
    deployment.links(0, 1).for_each(|link| link.delay(HALF_TRIP));
    until_it_says(&sites[1], "asked").await;

    let tries = number("MOVES", 200).unwrap();
    let moves = moves(&sites[0], &sites[1], tries, Duration::ZERO).await;

    assert!(hardly_any(moves.local, tries), "{} of {tries} were not told in time", moves.local);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_who_logs_in_elsewhere_half_a_second_later_gets_what_was_backed_up_last() {
    let _turn = turn::alone().await;
    let deployment = Deployment::start_linked(&["london", "tokyo"]).await.unwrap();
    let sites = &deployment.sites;
    deployment.links(0, 1).for_each(|link| link.delay(HALF_TRIP));
    until_it_says(&sites[1], "bounded=").await;

    let tries = number("PAUSED_MOVES", 20).unwrap();
    let moves = moves(&sites[0], &sites[1], tries, Duration::from_millis(500)).await;

    assert!(hardly_any(moves.old, tries), "{} of {tries} were old", moves.old);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_line_is_cut_what_one_site_took_is_served_at_the_other_through_a_third() {
    let _turn = turn::alone().await;
    let deployment = Deployment::start_linked(&["london", "tokyo", "paris"]).await.unwrap();
    let sites = &deployment.sites;
    let (mut out, mut into) = (Phone::new(sites[0].phones()), Phone::new(sites[1].phones()));
    // By default an answer may be older than what is asked of it here.
    make_strict(sites).await;
    until_it_says(&sites[1], "asked").await;
    let mut bodies = Bodies::new(1);

    deployment.links(0, 1).for_each(bruri_tests::link::Link::cut);
    for number in 0..5 {
        let (file, body) = (format!("{}_96xxdata.txt", 7100 + number), bodies.next(2000));
        let put = out.send("PUT", &file, Some(&body)).await.unwrap();
        assert_eq!(put.status, 201);
        let acknowledged = Instant::now();
        while into.send("GET", &file, None).await.unwrap().body != body {
            assert!(acknowledged.elapsed() < THROUGH_A_THIRD, "{:?}", acknowledged.elapsed());
        }
        assert!(acknowledged.elapsed() < THROUGH_A_THIRD, "{:?}", acknowledged.elapsed());
        let mut ops = sites[1].ops().await.unwrap();
        while ops.versions(&file).await.map_or(0, |versions| versions.len()) == 0 {
            assert!(acknowledged.elapsed() < LOGGED, "the log does not hold it");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_branch_that_is_off_makes_no_read_old_and_none_slow() {
    let _turn = turn::alone().await;
    let mut deployment = Deployment::start_linked(&["london", "tokyo", "paris"]).await.unwrap();
    make_strict(&deployment.sites).await;
    deployment.sites[2].stop().await.unwrap();
    let sites = &deployment.sites;
    until_it_says(&sites[1], "asked; away=1").await;

    let tries = number("MOVES", 200).unwrap();
    let moves = moves(&sites[0], &sites[1], tries, Duration::ZERO).await;

    assert!(hardly_any(moves.local, tries), "{} of {tries} were not told in time", moves.local);
    let median = Duration::from_micros(moves.micros.value_at_quantile(0.5));
    // A question to it would have waited for its deadline.
    assert!(median < Duration::from_millis(140), "{median:?}: it was waited for");
}
