//! `bruri conflict`: versions that were written without knowledge of each other; choose what phones get.

mod tables;

use bruri_wire::proto::conflict::v1::{
    ChooseHeadRequest, Conflict, GetConflictRequest, GetConflictResponse, ListConflictsRequest,
    conflict_service_client::ConflictServiceClient,
};
use clap::Subcommand;
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    commands::history::{FileArg, Rows, left, note_more},
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::Output,
};

type Client = ConflictServiceClient<Channel>;

/// What to do about conflicts.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictCommand {
    /// List files of which versions were written without knowledge of each other
    List {
        /// Also conflicts that have ended
        #[arg(long)]
        ended: bool,
        #[command(flatten)]
        rows: Rows,
    },
    /// Show the newest conflict of a file: its versions, and each as text
    Show {
        /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
        file: FileArg,
    },
    /// Have phones get one of the versions, here and at every other site; that ends the conflict
    Choose {
        /// The file, e.g. `299_16xxdata.txt`; REALM/NAME in another realm than `default`
        file: FileArg,
        /// The version, e.g. `london/9f3a61c2d04b77e1/118`; part of the epoch will do
        dot: String,
    },
}

/// Does it.
pub(crate) async fn run(
    command: &ConflictCommand,
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let client = Client::new(connect(site).await?);
    match command {
        ConflictCommand::List { ended, rows } => list(client, *ended, rows.limit, output).await,
        ConflictCommand::Show { file } => show(client, file, output).await,
        ConflictCommand::Choose { file, dot } => choose(client, file, dot, output).await,
    }
}

async fn list(
    mut client: Client,
    ended: bool,
    limit: u32,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut conflicts = Vec::<Conflict>::new();
    let more = loop {
        let last = conflicts.last();
        let request = ListConflictsRequest {
            ended,
            page_size: left(limit, conflicts.len()),
            after_file: last.and_then(|conflict| conflict.file.clone()),
            after_number: last.map_or(0, |conflict| conflict.number),
        };
        let page = client.list_conflicts(request).await.map_err(Failure::from)?.into_inner();
        let more = page.more && !page.conflicts.is_empty();
        conflicts.extend(page.conflicts);
        if !more || left(limit, conflicts.len()) == 0 {
            break more;
        }
    };
    if output.json {
        let conflicts: Vec<_> = conflicts.into_iter().map(json::Conflict::from).collect();
        return output.json(&json!({ "conflicts": conflicts, "more": more }));
    }
    output.text(&tables::conflicts(&conflicts))?;
    note_more(more, conflicts.len());
    Ok(())
}

async fn show(mut client: Client, file: &FileArg, output: &mut Output<'_>) -> anyhow::Result<()> {
    let request = GetConflictRequest { file: Some(file.0.clone()), number: 0 };
    let answer = client.get_conflict(request).await.map_err(Failure::from)?.into_inner();
    let GetConflictResponse { conflict, heads } = answer;
    let conflict = conflict.unwrap_or_default();
    if output.json {
        let heads: Vec<_> = heads.into_iter().map(json::Head::from).collect();
        let conflict = json::Conflict::from(conflict);
        return output.json(&json!({ "conflict": conflict, "heads": heads }));
    }
    output.text(&tables::conflict(&conflict, &heads))
}

async fn choose(
    mut client: Client,
    file: &FileArg,
    dot: &str,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let request = ChooseHeadRequest { file: Some(file.0.clone()), dot: dot.to_owned() };
    let answer = client.choose_head(request).await.map_err(Failure::from)?.into_inner();
    let version = answer.version.unwrap_or_default();
    if output.json {
        return output.json(&json!({ "version": json::Version::from(version) }));
    }
    output.text(&tables::chosen(&file.0, &version))
}
