//! `bruri history`: who backed up what and when; put an older version back.

pub(super) mod tables;

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bruri_wire::{
    limits::{CLI_ROWS_DEFAULT, CLI_ROWS_MAX, PAGE_ROWS_MAX},
    proto::history::v1::{
        DeleteFileRequest, File, FileId, GetVersionRequest, GetVersionResponse, ListFilesRequest,
        ListVersionsRequest, RestoreVersionRequest, Version,
        history_service_client::HistoryServiceClient,
    },
};
use clap::{Args, Subcommand};
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::{self, Output, plain},
    text::Text,
};

type Client = HistoryServiceClient<Channel>;

/// What to do with the history.
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// List files, with what a phone gets of each
    Files {
        /// Only files whose name begins so, e.g. `299_`
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        #[command(flatten)]
        rows: Rows,
    },
    /// List the versions of a file, newest first
    #[command(visible_alias = "versions")]
    List {
        /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
        file: FileArg,
        #[command(flatten)]
        rows: Rows,
    },
    /// Get the bytes of a version, exactly as the phone sent them
    Get {
        #[command(flatten)]
        version: VersionArg,
        /// Where to put them; `-` for standard output
        #[arg(long, value_name = "PATH", default_value = "-")]
        out: PathBuf,
    },
    /// Show a version as text
    Show {
        #[command(flatten)]
        version: VersionArg,
    },
    /// Put an older version back: phones get its bytes again, as a new version
    Restore {
        /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
        file: FileArg,
        /// The version to put back, e.g. `london/9f3a61c2d04b77e1/118`; part of the epoch will do
        dot: String,
    },
    /// Delete a file: phones get nothing, its versions are kept and can be put back
    Delete {
        /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
        file: FileArg,
    },
}

/// How much to list.
#[derive(Args, Debug)]
pub(crate) struct Rows {
    /// At most so many
    #[arg(long, value_name = "ROWS", default_value_t = CLI_ROWS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CLI_ROWS_MAX)))]
    pub(super) limit: u32,
}

/// A version of a file.
#[derive(Args, Debug)]
pub(crate) struct VersionArg {
    /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
    file: FileArg,
    /// The version, e.g. `london/9f3a61c2d04b77e1/118`; part of the epoch will do [default: what phones
    /// get]
    dot: Option<String>,
}

/// A file as a person names it: `299_16xxdata.txt`, or `guests/299_16xxdata.txt`.
#[derive(Clone, Debug)]
pub(crate) struct FileArg(pub(super) FileId);

impl FromStr for FileArg {
    type Err = std::convert::Infallible;

    /// The site judges what is a realm and what is a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (realm, name) = text.split_once('/').unwrap_or(("", text));
        Ok(Self(FileId { realm: realm.to_owned(), name: name.to_owned() }))
    }
}

impl fmt::Display for FileArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tables::file_name(&self.0))
    }
}

/// Does it.
pub(crate) async fn run(
    command: &HistoryCommand,
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    if let HistoryCommand::Get { out, .. } = command {
        spare_the_terminal(out, output)?;
    }
    let client = Client::new(connect(site).await?);
    match command {
        HistoryCommand::Files { prefix, rows } => files(client, prefix, rows.limit, output).await,
        HistoryCommand::List { file, rows } => list(client, file, rows.limit, output).await,
        HistoryCommand::Get { version, out } => get(client, version, out, output).await,
        HistoryCommand::Show { version } => show(client, version, output).await,
        HistoryCommand::Restore { file, dot } => restore(client, file, dot, output).await,
        HistoryCommand::Delete { file } => delete(client, file, output).await,
    }
}

async fn files(
    mut client: Client,
    prefix: &str,
    limit: u32,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let (mut files, mut after) = (Vec::<File>::new(), None);
    let more = loop {
        let page_size = left(limit, files.len());
        let request = ListFilesRequest { name_prefix: prefix.to_owned(), page_size, after };
        let page = client.list_files(request).await.map_err(Failure::from)?.into_inner();
        let more = page.more && !page.files.is_empty();
        files.extend(page.files);
        if !more || left(limit, files.len()) == 0 {
            break more;
        }
        after = files.last().and_then(|file| file.id.clone());
    };
    if output.json {
        let files: Vec<json::File> = files.into_iter().map(json::File::from).collect();
        return output.json(&json!({ "files": files, "more": more }));
    }
    output.text(&tables::files(&files))?;
    note_more(more, files.len());
    Ok(())
}

async fn list(
    mut client: Client,
    file: &FileArg,
    limit: u32,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let (mut versions, mut after_dot) = (Vec::<Version>::new(), String::new());
    let more = loop {
        let page_size = left(limit, versions.len());
        let request = ListVersionsRequest { file: Some(file.0.clone()), page_size, after_dot };
        let page = client.list_versions(request).await.map_err(Failure::from)?.into_inner();
        let more = page.more && !page.versions.is_empty();
        versions.extend(page.versions);
        if !more || left(limit, versions.len()) == 0 {
            break more;
        }
        after_dot = versions.last().map(|version| version.dot.clone()).unwrap_or_default();
    };
    if output.json {
        let versions: Vec<json::Version> = versions.into_iter().map(json::Version::from).collect();
        return output.json(&json!({ "versions": versions, "more": more }));
    }
    output.text(&tables::versions(&versions))?;
    note_more(more, versions.len());
    Ok(())
}

/// Rows of the next page; 0 where there are enough.
pub(super) fn left(limit: u32, have: usize) -> u32 {
    let have = u32::try_from(have).unwrap_or(u32::MAX);
    limit.saturating_sub(have).min(PAGE_ROWS_MAX)
}

pub(super) fn note_more(more: bool, shown: usize) {
    if more {
        print::note(&format!(
            "there are more than these {}: --limit shows more",
            print::number(shown as u64)
        ));
    }
}

async fn version(client: &mut Client, asked: &VersionArg) -> Result<GetVersionResponse, Failure> {
    let dot = asked.dot.clone().unwrap_or_default();
    let request = GetVersionRequest { file: Some(asked.file.0.clone()), dot };
    Ok(client.get_version(request).await?.into_inner())
}

async fn get(
    mut client: Client,
    asked: &VersionArg,
    out: &Path,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let GetVersionResponse { version, body } = version(&mut client, asked).await?;
    let version = version.unwrap_or_default();
    if version.body_sha256.is_empty() {
        return Err(Failure::Refused(deletion(&version)).into());
    }
    let (dot, to_file) = (version.dot.clone(), out != Path::new("-"));
    if to_file {
        write(out, &body)?;
    }
    let version = json::Version::from(version);
    match (output.json, to_file) {
        (true, true) => output.json(&json!({ "version": version, "out": out })),
        (true, false) => {
            output.json(&json!({ "version": version, "body_base64": BASE64.encode(&body) }))
        }
        (false, true) => {
            let bytes = print::number(body.len() as u64);
            output.text(&format!("{bytes} bytes of {dot} are in {}\n", out.display()))
        }
        (false, false) => Ok(output.out.write_all(&body)?),
    }
}

fn deletion(version: &Version) -> String {
    format!("{} is a deletion: it has no body", plain(&version.dot))
}

/// Bytes of a phone's file would confuse a terminal.
fn spare_the_terminal(out: &Path, output: &Output<'_>) -> Result<(), Failure> {
    if out == Path::new("-") && !output.json && io::stdout().is_terminal() {
        let text =
            "the bytes are not for a terminal: use --out PATH, a pipe, or bruri history show";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(())
}

/// What phones save are people's contacts, so a file that is made is its owner's only.
fn write(path: &Path, body: &[u8]) -> anyhow::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(body))
        .with_context(|| format!("cannot write {}", path.display()))
}

async fn show(
    mut client: Client,
    asked: &VersionArg,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let GetVersionResponse { version, body } = version(&mut client, asked).await?;
    let version = version.unwrap_or_default();
    if version.body_sha256.is_empty() {
        return Err(Failure::Refused(deletion(&version)).into());
    }
    let text = Text::of(&body);
    if output.json {
        let encoding = text.encoding();
        let version = json::Version::from(version);
        return output
            .json(&json!({ "version": version, "encoding": encoding, "text": text.text() }));
    }
    output.text(&tables::body(&body, &text))
}

async fn restore(
    mut client: Client,
    file: &FileArg,
    dot: &str,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let request = RestoreVersionRequest { file: Some(file.0.clone()), dot: dot.to_owned() };
    let answer = client.restore_version(request).await.map_err(Failure::from)?.into_inner();
    let version = answer.version.unwrap_or_default();
    if output.json {
        let version = json::Version::from(version);
        return output.json(&json!({ "appended": answer.appended, "version": version }));
    }
    output.text(&tables::restored(&file.0, &version, answer.appended))
}

async fn delete(mut client: Client, file: &FileArg, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = DeleteFileRequest { file: Some(file.0.clone()) };
    let answer = client.delete_file(request).await.map_err(Failure::from)?.into_inner();
    if output.json {
        let dot = answer.appended.then_some(answer.dot);
        return output.json(&json!({ "appended": answer.appended, "dot": dot }));
    }
    output.text(&tables::deleted(&file.0, &answer))
}
