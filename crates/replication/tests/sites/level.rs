//! What one site commits, all have.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::kit::{Deployment, Site, equal::assert_equal, site::file};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_site_commits_is_served_by_the_other_byte_for_byte() {
    let (london, tokyo) = Deployment::new().two(["london", "tokyo"]).await;
    let odd: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for (from, to, name) in [(&london, &tokyo, "299"), (&tokyo, &london, "300")] {
        let name = format!("{name}_16xxdata.txt");
        from.put(&name, odd.clone()).await;
        to.until_served(&name, Some(&odd)).await;
        to.put(&name, &b"Name=changed elsewhere\r\n"[..]).await;
        from.until_served(&name, Some(b"Name=changed elsewhere\r\n")).await;
        // A phone that has not seen that version would not delete it.
        from.restore(&name).await;
        from.remove(&name).await;
        to.until_served(&name, None).await;
    }
    assert_equal(&[&london, &tokyo]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_served_by_an_idle_peer_within_milliseconds() {
    let (london, tokyo) = Deployment::new().two(["london", "tokyo"]).await;
    let mut times = Vec::new();
    for number in 0..200 {
        let (name, content) = (file(number % 20), format!("Name={number}\r\n"));
        london.put(&name, content.clone()).await;
        let began = Instant::now();
        tokyo.until_served(&name, Some(content.as_bytes())).await;
        times.push(began.elapsed());
    }
    times.sort();
    println!("committed there to served here: median {:?}, 90 % {:?}", times[100], times[180]);
    assert!(times[100] < Duration::from_millis(100), "{:?}", times[100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_sites_that_write_the_same_files_end_equal() {
    let deployment = Deployment::new();
    let (a, b, c) = (
        deployment.place("london").await,
        deployment.place("tokyo").await,
        deployment.place("paris").await,
    );
    let (at_a, at_b, at_c) = (a.address, b.address, c.address);
    let (a, b, c) =
        (a.start(&[at_b, at_c]).await, b.start(&[at_a, at_c]).await, c.start(&[at_a, at_b]).await);
    let write = async |site: &Site, seed: u32| {
        for number in 0..150_u32 {
            // The same few files in another order at each site.
            let file = file((number * seed + number / 7) % 12);
            let content = format!("Name={}-{number}\r\n", site.place.name);
            match number % 11 {
                0 => site.remove(&file).await,
                _ => site.put(&file, Bytes::from(content)).await,
            };
        }
    };
    tokio::join!(write(&a, 1), write(&b, 5), write(&c, 7));
    assert_equal(&[&a, &b, &c]).await;
    assert_eq!(a.vector().await.len(), 3);
}
