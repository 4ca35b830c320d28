//! Several `brurid` on one database.

use crate::kit::{Deployment, Proxy, equal::assert_equal, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn two_brurid_of_a_site_that_pull_the_same_peer_do_no_harm() {
    let deployment = Deployment::new();
    let supplier = deployment.place("twins-supplier").await.start(&[]).await;
    let lines = (Proxy::to(supplier.place.address).await, Proxy::to(supplier.place.address).await);
    // Far behind, then live: each way that a log can come.
    supplier.put_many(0..2000).await;
    let one = deployment.place("twins-consumer").await.start(&[lines.0.address]).await;
    let other = one.twin(&[lines.1.address]).await;
    eventually("caught up", async || one.vector().await == supplier.vector().await).await;
    for round in 1..=60 {
        supplier.put_many(round * 2000..round * 2000 + 7).await;
    }
    assert_equal(&[&supplier, &one, &other]).await;
    one.live().await;
    other.live().await;
    assert_eq!((lines.0.accepted(), lines.1.accepted()), (1, 1), "no session was given up");
}
