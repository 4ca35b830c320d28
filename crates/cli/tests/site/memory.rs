//! A site in memory: as many files as asked for, two versions of each.

use std::{path::PathBuf, process::Output};

use bruri_wire::{
    Timestamp,
    proto::{
        history::v1::{
            DeleteFileRequest, DeleteFileResponse, File, FileId, GetVersionRequest,
            GetVersionResponse, ListFilesRequest, ListFilesResponse, ListVersionsRequest,
            ListVersionsResponse, RestoreVersionRequest, RestoreVersionResponse, Version,
            history_service_server::{HistoryService, HistoryServiceServer},
            version::Standing,
        },
        site::v1::{
            AdmitSiteRequest, AdmitSiteResponse, GetStatusRequest, GetStatusResponse,
            InviteSiteRequest, InviteSiteResponse, ListMembersRequest, ListMembersResponse,
            ProveConvergenceRequest, ProveConvergenceResponse, RetireSiteRequest,
            RetireSiteResponse,
            site_service_server::{SiteService, SiteServiceServer},
        },
    },
};
use tempfile::TempDir;
use tokio::{net::UnixListener, process::Command, task::JoinSet};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// `A=1` as a phone writes it.
pub(crate) const BODY: &[u8] = b"\xff\xfeA\0=\x001\0\r\0\n\0";

/// Of each file; the last one is served.
const VERSIONS: u64 = 2;

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    _tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Site {
    pub(crate) fn with_files(count: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("ops.sock")).unwrap();
        let server = Server::builder()
            .add_service(HistoryServiceServer::new(Memory { count }))
            .add_service(SiteServiceServer::new(Memory { count }))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(server);
        Self { dir, _tasks: tasks }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("ops.sock")
    }

    pub(crate) async fn bruri(&self, args: &[&str]) -> Output {
        bruri()
            .current_dir(self.dir.path())
            .env("BRURI_SITE", self.socket())
            .args(args)
            .output()
            .await
            .unwrap()
    }

    /// What a command prints that works.
    pub(crate) async fn works(&self, args: &[&str]) -> String {
        let output = self.bruri(args).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        text(&output.stdout)
    }

    pub(crate) async fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.works(&[args, &["--json"]].concat()).await).unwrap()
    }
}

/// The command in an environment of its own.
pub(crate) fn bruri() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bruri"));
    command.env_clear().env("HOME", "/nowhere");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

struct Memory {
    count: u32,
}

fn version(sequence: u64) -> Version {
    let standing = if sequence == VERSIONS { Standing::Served } else { Standing::Superseded };
    Version {
        dot: format!("london/9f3a61c2d04b77e1/{sequence}"),
        written_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 1000 }),
        standing: standing.into(),
        body_sha256: "ab".repeat(32),
        body_bytes: BODY.len() as u64,
        phone_address: "192.0.2.1".to_owned(),
        phone_user_agent: "AVAYA".to_owned(),
        ..Version::default()
    }
}

fn file(number: u32) -> File {
    let id = FileId { realm: "default".to_owned(), name: format!("{number:04}_16xxdata.txt") };
    File { id: Some(id), served: Some(version(VERSIONS)), heads: 1, ..File::default() }
}

#[tonic::async_trait]
impl HistoryService for Memory {
    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let ListFilesRequest { name_prefix, page_size, after } = request.into_inner();
        if !(1..=1000).contains(&page_size) {
            return Err(Status::invalid_argument("a page has at most 1000 rows"));
        }
        let after = after.map(|id| id.name).unwrap_or_default();
        let fits = |file: &File| {
            let name = &file.id.as_ref().unwrap().name;
            name.starts_with(&name_prefix) && *name > after
        };
        let mut rest = (0..self.count).map(file).filter(fits);
        let files = rest.by_ref().take(usize::try_from(page_size).unwrap()).collect();
        Ok(Response::new(ListFilesResponse { files, more: rest.next().is_some() }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let ListVersionsRequest { file, after_dot, .. } = request.into_inner();
        known(file)?;
        // One a page, to see that they are joined.
        let (versions, more) = match after_dot.as_str() {
            "" => (vec![version(2)], true),
            "london/9f3a61c2d04b77e1/2" => (vec![version(1)], false),
            _ => return Err(Status::not_found("no such version")),
        };
        Ok(Response::new(ListVersionsResponse { versions, more }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { file, dot } = request.into_inner();
        known(file)?;
        let (version, body) = match dot.as_str() {
            "" => (version(2), BODY.to_vec()),
            "london/9f/1" => (version(1), b"\x80\x00".to_vec()),
            "london/9f/3" => (Version { body_sha256: String::new(), ..version(3) }, vec![]),
            _ => return Err(Status::not_found("file 0000_16xxdata.txt has no such version here")),
        };
        Ok(Response::new(GetVersionResponse { version: Some(version), body }))
    }

    async fn restore_version(
        &self,
        request: Request<RestoreVersionRequest>,
    ) -> Result<Response<RestoreVersionResponse>, Status> {
        let RestoreVersionRequest { file, dot } = request.into_inner();
        known(file)?;
        let appended = dot != "london/9f/2";
        let restored_dot = if appended { version(1).dot } else { String::new() };
        let sequence = if appended { 3 } else { 2 };
        let version = Some(Version { restored_dot, ..version(sequence) });
        Ok(Response::new(RestoreVersionResponse { version, appended }))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> Result<Response<DeleteFileResponse>, Status> {
        known(request.into_inner().file)?;
        let dot = "london/9f3a61c2d04b77e1/3".to_owned();
        Ok(Response::new(DeleteFileResponse { appended: true, dot }))
    }
}

fn known(file: Option<FileId>) -> Result<(), Status> {
    match file.unwrap_or_default().name.as_str() {
        "0000_16xxdata.txt" => Ok(()),
        "9999_16xxdata.txt" => Err(Status::unavailable("the database did not answer; try again")),
        name => Err(Status::not_found(format!("nothing is known of file default/{name}"))),
    }
}

#[tonic::async_trait]
impl SiteService for Memory {
    type ProveConvergenceStream = tokio_stream::Empty<Result<ProveConvergenceResponse, Status>>;

    async fn prove_convergence(
        &self,
        _request: Request<ProveConvergenceRequest>,
    ) -> Result<Response<Self::ProveConvergenceStream>, Status> {
        Err(Status::unavailable("the database did not answer; try again"))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let started_at = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let (site, release) = ("london".to_owned(), "0.1.0".to_owned());
        let files = self.count.into();
        Ok(Response::new(GetStatusResponse {
            site,
            release,
            started_at,
            files,
            ..Default::default()
        }))
    }

    async fn list_members(
        &self,
        _request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Err(Status::failed_precondition("this site has no certificates yet"))
    }

    async fn invite_site(
        &self,
        _request: Request<InviteSiteRequest>,
    ) -> Result<Response<InviteSiteResponse>, Status> {
        Err(Status::failed_precondition("this site has no certificates yet"))
    }

    async fn admit_site(
        &self,
        _request: Request<AdmitSiteRequest>,
    ) -> Result<Response<AdmitSiteResponse>, Status> {
        Err(Status::failed_precondition("this site has no certificates yet"))
    }

    async fn retire_site(
        &self,
        _request: Request<RetireSiteRequest>,
    ) -> Result<Response<RetireSiteResponse>, Status> {
        Err(Status::failed_precondition("this site has no certificates yet"))
    }
}
