//! The services for operators, as any gRPC client sees them.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use bruri_wire::proto::history::v1::history_service_client::HistoryServiceClient;
use bruri_wire::proto::history::v1::{FileId, GetVersionRequest, ListVersionsRequest, Version};
use bruri_wire::proto::site::v1::site_service_client::SiteServiceClient;
use bruri_wire::proto::site::v1::{GetStatusRequest, GetStatusResponse};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Versions of one page; the most there may be.
const PAGE: u32 = 1000;

/// A connection to a site's socket; clones share it.
#[derive(Clone, Debug)]
pub struct Ops {
    /// The history.
    pub history: HistoryServiceClient<Channel>,
    /// The site.
    pub site: SiteServiceClient<Channel>,
}

impl Ops {
    /// Connects to the socket of a site.
    pub async fn connect(socket: PathBuf) -> anyhow::Result<Self> {
        let connector = service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The name is never looked up.
        let endpoint = Endpoint::from_static("http://site");
        let channel =
            endpoint.connect_with_connector(connector).await.context("connect as an operator")?;
        let (history, site) = (channel.clone(), channel);
        Ok(Self { history: HistoryServiceClient::new(history), site: SiteServiceClient::new(site) })
    }

    /// What the site is, holds and hears.
    pub async fn status(&mut self) -> anyhow::Result<GetStatusResponse> {
        let answer = self.site.get_status(GetStatusRequest {}).await;
        Ok(answer.context("ask for the status")?.into_inner())
    }

    /// Records of all logs of this kind that the site has applied.
    pub async fn records(&mut self, kind: &str) -> anyhow::Result<u64> {
        let logs = self.status().await?.logs;
        Ok(logs.iter().filter(|log| log.kind == kind).map(|log| log.sequence).sum())
    }

    /// Every version of a file.
    pub async fn versions(&mut self, name: &str) -> anyhow::Result<Vec<Version>> {
        let mut versions: Vec<Version> = Vec::new();
        loop {
            let after_dot = versions.last().map(|version| version.dot.clone()).unwrap_or_default();
            let request =
                ListVersionsRequest { file: Some(file(name)), page_size: PAGE, after_dot };
            let answer = self.history.list_versions(request).await.context("list versions")?;
            let page = answer.into_inner();
            ensure!(!page.more || !page.versions.is_empty(), "an empty page with more after it");
            versions.extend(page.versions);
            if !page.more {
                return Ok(versions);
            }
        }
    }

    /// The body of one version.
    pub async fn body(&mut self, name: &str, dot: &str) -> anyhow::Result<Vec<u8>> {
        let request = GetVersionRequest { file: Some(file(name)), dot: dot.to_owned() };
        let answer = self.history.get_version(request).await;
        let answer = answer.with_context(|| format!("get version {dot} of {name}"))?;
        Ok(answer.into_inner().body)
    }
}

fn file(name: &str) -> FileId {
    FileId { realm: String::new(), name: name.to_owned() }
}
