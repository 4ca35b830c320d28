//! Status, health, reflection, and the end.

use std::time::Duration;

use bruri_wire::proto::site::v1::GetStatusRequest;
use sqlx::PgPool;
use tokio_stream::{StreamExt as _, once};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::kit::{BEGINNING, Site};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_status_tells_what_the_site_is_holds_and_hears(pool: PgPool) {
    let site = Site::start(pool).await;
    site.phone("299_16xxdata.txt", Some(b"A=1")).await;
    site.phone("299_16xxdata.txt", Some(b"A=2")).await;
    site.phone("300_16xxdata.txt", Some(b"A=1")).await;
    site.arrives_from_tokyo(0x2a, "300_16xxdata.txt", b"A=3").await;

    let status = site.site().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();

    assert_eq!((status.site.as_str(), status.deployment.as_str()), ("london", "acme"));
    assert_eq!((status.release.as_str(), status.files), ("0.1.0", 2));
    let started = status.started_at.unwrap().seconds;
    assert_eq!(started, i64::try_from(BEGINNING / 1_000_000).unwrap());
    assert!(status.database_bytes > 1_000_000, "{}", status.database_bytes);
    assert_eq!(status.peers[0].site, "tokyo");
    let logs: Vec<(&str, &str, u64)> =
        status.logs.iter().map(|log| (&*log.site, &*log.kind, log.sequence)).collect();
    assert!(logs.contains(&("london", "control", 0)), "{logs:?}");
    assert!(logs.contains(&("london", "files", 3)), "{logs:?}");
    let tokyo = status.logs.iter().find(|log| log.site == "tokyo").unwrap();
    assert_eq!((tokyo.epoch.as_str(), tokyo.sequence), ("000000000000002a", 1));
    assert_eq!(tokyo.chain.len(), 64);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn health_follows_readiness(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = HealthClient::new(site.channel().await);
    for service in [
        "",
        "bruri.history.v1.HistoryService",
        "bruri.conflict.v1.ConflictService",
        "bruri.erasure.v1.ErasureService",
        "bruri.realm.v1.RealmService",
        "bruri.site.v1.SiteService",
    ] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut stream = client.watch(request).await.unwrap().into_inner();
        let mut last = stream.next().await.unwrap().unwrap().status();
        for (ready, status) in [
            (true, ServingStatus::Serving),
            (false, ServingStatus::NotServing),
            (true, ServingStatus::Serving),
        ] {
            site.ready.send_replace(ready);
            while last != status {
                last = stream.next().await.unwrap().unwrap().status();
            }
        }
    }
    let unknown = HealthCheckRequest { service: "bruri.none.v1.NoService".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn reflection_tells_of_the_services_that_are_here(pool: PgPool) {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let site = Site::start(pool).await;
    let mut client = ServerReflectionClient::new(site.channel().await);
    let ask =
        |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let asked = once(ask(MessageRequest::ListServices(String::new())));
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert_eq!(
        names,
        [
            "bruri.history.v1.HistoryService",
            "bruri.conflict.v1.ConflictService",
            "bruri.erasure.v1.ErasureService",
            "bruri.realm.v1.RealmService",
            "bruri.site.v1.SiteService",
            "grpc.health.v1.Health"
        ]
    );

    let symbol = "bruri.history.v1.HistoryService.RestoreVersion".to_owned();
    let asked = once(ask(MessageRequest::FileContainingSymbol(symbol)));
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn older_clients_reflect_as_well(pool: PgPool) {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let site = Site::start(pool).await;
    let mut client = ServerReflectionClient::new(site.channel().await);
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(once(asked)).await.unwrap();
    assert!(answers.into_inner().next().await.unwrap().unwrap().message_response.is_some());
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_stop_ends_streams_and_takes_the_socket_away(pool: PgPool) {
    let site = Site::start(pool).await;
    let path = site.socket.clone();
    let mut client = HealthClient::new(site.channel().await);
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    site.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(2), site.ended()).await;
    ended.expect("it ends before the time for it is over").unwrap();
    assert!(!path.exists());
    // It may say that nothing is served any more, and ends.
    while let Some(Ok(told)) = stream.next().await {
        assert_eq!(told.status(), ServingStatus::NotServing);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_client_that_says_nothing_does_not_keep_the_site_from_stopping(pool: PgPool) {
    use tokio::io::AsyncReadExt as _;
    let site = Site::start(pool).await;
    // Answered after the silent one was accepted.
    let mut silent = tokio::net::UnixStream::connect(&site.socket).await.unwrap();
    site.site().await.get_status(GetStatusRequest {}).await.unwrap();
    site.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(8), site.ended()).await;
    ended.expect("it does not hang").unwrap();
    let mut rest = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(2), silent.read_to_end(&mut rest)).await;
    assert!(cut.is_ok(), "the connection is cut");
}
