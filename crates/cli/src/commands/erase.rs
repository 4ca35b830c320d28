//! `bruri erase`: what is known of an extension goes, everywhere and for good; which sites have done so.

mod tables;

use bruri_wire::proto::erasure::v1::{
    EraseRequest, LiftRequest, ListErasuresRequest, Subject,
    erasure_service_client::ErasureServiceClient, subject::Subject as Named,
};
use clap::{Args, Subcommand};
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    commands::history::{Rows, left, note_more},
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::{Output, plain},
};

const BUILT_IN_REALM: &str = "default";

type Client = ErasureServiceClient<Channel>;

/// Whom to erase, or what else to do about erasures.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct EraseArgs {
    #[command(subcommand)]
    command: Option<EraseCommand>,
    /// The extension, e.g. `299`, with all its files; or a file that has none: `9610data.txt`
    #[arg(value_name = "EXTENSION", required = true)]
    named: Option<String>,
    /// The realm it is in
    #[arg(long, default_value = BUILT_IN_REALM)]
    realm: String,
    /// Yes, erase it: nothing brings it back
    #[arg(long)]
    yes: bool,
}

/// What else to do about erasures.
#[derive(Debug, Subcommand)]
enum EraseCommand {
    /// Let an erased extension in again: phones may back it up from now on
    Lift {
        #[command(flatten)]
        subject: SubjectArg,
    },
    /// List erasures, with the sites that have done so and those that have not yet
    Status {
        /// Only of this extension, or file that has none
        #[arg(value_name = "EXTENSION")]
        named: Option<String>,
        /// The realm it is in
        #[arg(long, default_value = BUILT_IN_REALM)]
        realm: String,
        #[command(flatten)]
        rows: Rows,
    },
}

/// An extension, or a file that has none.
#[derive(Args, Debug)]
struct SubjectArg {
    /// The extension, e.g. `299`, with all its files; or a file that has none: `9610data.txt`
    #[arg(value_name = "EXTENSION")]
    named: String,
    /// The realm it is in
    #[arg(long, default_value = BUILT_IN_REALM)]
    realm: String,
}

/// The site judges what is an extension and what a file.
fn message(named: &str, realm: &str) -> Subject {
    let subject = if named.contains('.') { Named::FileName } else { Named::Extension };
    Subject { realm: realm.to_owned(), subject: Some(subject(named.to_owned())) }
}

/// Does it.
pub(crate) async fn run(
    args: &EraseArgs,
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    match (&args.command, &args.named) {
        (Some(EraseCommand::Lift { subject }), _) => lift(site, subject, output).await,
        (Some(EraseCommand::Status { named, realm, rows }), _) => {
            let subject = named.as_ref().map(|named| message(named, realm));
            status(site, subject, rows.limit, output).await
        }
        (None, Some(named)) if args.yes => {
            erase(site, named, message(named, &args.realm), output).await
        }
        (None, named) => {
            let named = plain(named.as_deref().unwrap_or_default());
            let text = format!(
                "this erases every version of {named} at every site, and nothing brings it back: \
                 say --yes"
            );
            Err(Failure::Usage(text).into())
        }
    }
}

async fn erase(
    site: Option<&SiteAddress>,
    named: &str,
    subject: Subject,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut client = Client::new(connect(site).await?);
    let request = EraseRequest { subject: Some(subject), id: Vec::new() };
    let answer = client.erase(request).await.map_err(Failure::from)?.into_inner();
    let erasure = answer.erasure.unwrap_or_default();
    if output.json {
        return output.json(&json!({ "erasure": json::Erasure::from(erasure) }));
    }
    output.text(&tables::erased(named, &erasure))
}

async fn lift(
    site: Option<&SiteAddress>,
    subject: &SubjectArg,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut client = Client::new(connect(site).await?);
    let request = LiftRequest { subject: Some(message(&subject.named, &subject.realm)) };
    client.lift(request).await.map_err(Failure::from)?;
    if output.json {
        return output.json(&json!({ "lifted": true }));
    }
    output.text(&tables::lifted(&subject.named))
}

async fn status(
    site: Option<&SiteAddress>,
    subject: Option<Subject>,
    limit: u32,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut client = Client::new(connect(site).await?);
    let request = ListErasuresRequest { subject, page_size: left(limit, 0) };
    let answer = client.list_erasures(request).await.map_err(Failure::from)?.into_inner();
    let (erasures, more) = (answer.erasures, answer.more);
    if output.json {
        let erasures: Vec<_> = erasures.into_iter().map(json::Erasure::from).collect();
        return output.json(&json!({ "erasures": erasures, "more": more }));
    }
    output.text(&tables::erasures(&erasures))?;
    note_more(more, erasures.len());
    Ok(())
}
