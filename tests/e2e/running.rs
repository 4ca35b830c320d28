//! A site under the hands of whoever runs it: stopped, refused, checked, told to read again.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use bruri_tests::agreement::database_has;
use bruri_tests::load::Counts;
use bruri_tests::site::STOP;
use bruri_tests::{
    Bodies, Book, Deployment, Load, Phone, Settings, Site, deployment, level, tell, tls,
};

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::turn;

const FILE: &str = "299_16xxdata.txt";

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_with_0_in_time_and_loses_nothing() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start_alone("london").await.unwrap();
    let site = &mut deployment.sites[0];
    let book = Book::default();
    let load = Load::start(site.phones(), 16, 1, &book);
    load.reaches(Counts { acknowledged: 200, unanswered: 8 }).await.unwrap();
    let began = Instant::now();

    site.stop().await.unwrap();

    let took = began.elapsed();
    let ended = load.broken().await.unwrap();
    site.start().await.unwrap();
    let entries = book.entries();
    tell(&format!("a stop took {took:?}; {} acknowledged, then {ended:?}", entries.len()));
    database_has(site, &entries).await.unwrap();
    site.database().await.unwrap().logs_are_whole().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_on_its_way_at_the_stop_is_still_acknowledged_and_kept() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start_alone("london").await.unwrap();
    let site = &mut deployment.sites[0];
    let body = Bodies::new(1).next(4000);
    let mut stream = TcpStream::connect(site.phones()).await.unwrap();
    let head = format!(
        "PUT /{FILE} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // It waits for the body from now on.
    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(&body[..1000]).await.unwrap();

    site.signal(Signal::SIGTERM).unwrap();
    site.says("stopping: SIGTERM").await.unwrap();
    stream.write_all(&body[1000..]).await.unwrap();

    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 201 "));
    assert_eq!(site.ended(STOP).await.unwrap().code(), Some(0));
    site.start().await.unwrap();
    assert_eq!(Phone::new(site.phones()).restore(FILE).await.unwrap(), Some(body));
}

async fn heard(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 1024];
    let count = timeout(STOP, stream.read(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_by_check_and_by_a_start_which_fails() {
    let _turn = turn::shared().await;
    let folder = deployment::open_folder().unwrap();
    let mut site = Site::make(folder.path(), Settings::alone("london")).unwrap();
    let (is_well, said) = site.check().await.unwrap();
    assert!(is_well, "{said}");
    let _holder = TcpListener::bind(site.phones()).unwrap();
    let expected =
        format!("another process uses {}; see `ss -ltnp`, or set edge.http", site.phones());

    let (is_well, said) = site.check().await.unwrap();
    assert!(!is_well && said.contains(&expected), "{said}");

    site.spawn().unwrap();
    assert_eq!(site.ended(STOP).await.unwrap().code(), Some(1));
    assert!(site.said().contains(&expected), "{}", site.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_makes_it_read_certificates_and_the_log_level_again() {
    let _turn = turn::shared().await;
    let mut deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let pki = deployment.folder().join("london-pki");
    let renewed = deployment.folder().join("renewed");
    deployment.pki().issue("london", &renewed).await.unwrap();
    let london = &mut deployment.sites[0];
    let before = tls::presented(london.peers()).await.unwrap();
    assert_eq!(before, tls::certificate(&pki).unwrap());

    for name in ["site.crt", "site.key"] {
        fs::copy(renewed.join(name), pki.join(name)).unwrap();
    }
    london.settings_mut().log = "info,bruri_edge=warn".to_owned();
    london.hang_up().unwrap();
    london.says("certificates reloaded").await.unwrap();

    let after = tls::presented(london.peers()).await.unwrap();
    assert_eq!(after, tls::certificate(&renewed).unwrap());
    assert_ne!(after, before);
    let (mut phone, body) = (Phone::new(london.phones()), Bodies::new(1).next(500));
    phone.back_up(FILE, &body, &Book::default()).await.unwrap();
    level(&deployment.sites).await.unwrap();
    assert!(!deployment.sites[0].said().contains("phone request"));
    let mut phone = Phone::new(deployment.sites[1].phones());
    assert_eq!(phone.restore(FILE).await.unwrap(), Some(body));
    deployment.sites[1].says("phone request").await.unwrap();
}
