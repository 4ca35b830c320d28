//! What programs read. Names of fields stay; new ones may come.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bruri_wire::proto::{
    conflict::v1 as conflict, erasure::v1 as erasure, history::v1 as history,
    history::v1::version::Standing as WireStanding, site::v1 as site,
    site::v1::peer::State as WireState,
};
use serde::Serialize;

use crate::print::exact_time;

/// A file and what a phone gets of it.
#[derive(Serialize)]
pub(crate) struct File {
    realm: String,
    name: String,
    served: Option<Version>,
    heads: u32,
    conflict: bool,
    confirmed_at: Option<String>,
}

/// A version; `body_sha256` is null for a deletion. Of one that is pruned the site has no bytes;
/// one that is suspect looks like no phone's file and supersedes nothing.
#[derive(Serialize)]
pub(crate) struct Version {
    dot: String,
    written_at: Option<String>,
    standing: &'static str,
    body_sha256: Option<String>,
    body_bytes: u64,
    phone: Option<Phone>,
    operator: Option<String>,
    restored_dot: Option<String>,
    pruned: bool,
    suspect: bool,
}

/// A conflict; `ended_at` is null while it is open.
#[derive(Serialize)]
pub(crate) struct Conflict {
    realm: String,
    name: String,
    number: u32,
    opened_at: Option<String>,
    head_dots: Vec<String>,
    ended_at: Option<String>,
    ended_by_dot: Option<String>,
}

/// A head of a conflict; `body_base64` is null for a deletion and where the body was left out.
#[derive(Serialize)]
pub(crate) struct Head {
    version: Option<Version>,
    body_base64: Option<String>,
}

/// An erasure; `lifted_at` is null while it bars its subject.
#[derive(Serialize)]
pub(crate) struct Erasure {
    id: String,
    subject_hash: String,
    generation: u64,
    ordered_at: Option<String>,
    operator: String,
    lifted_at: Option<String>,
    lifted_by: Option<String>,
    receipts: Vec<Receipt>,
    missing_sites: Vec<String>,
}

#[derive(Serialize)]
struct Receipt {
    site: String,
    given_at: Option<String>,
    versions: u64,
    bodies: u64,
}

#[derive(Serialize)]
struct Phone {
    address: String,
    mac: Option<String>,
    user_agent: String,
}

/// How a site stands to the one that was asked.
#[derive(Serialize)]
pub(crate) struct Proof {
    site: String,
    outcome: &'static str,
    files: u64,
    bodies: u64,
    repaired_files: u64,
    repaired_bodies: u64,
    damaged_bodies: u64,
    damaged_files: Vec<String>,
    text: Option<String>,
}

/// What a site is, holds and hears.
#[derive(Serialize)]
pub(crate) struct Status {
    site: String,
    deployment: Option<String>,
    release: String,
    started_at: Option<String>,
    files: u64,
    database_bytes: Option<u64>,
    logs: Vec<Log>,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Log {
    site: String,
    epoch: String,
    kind: String,
    sequence: u64,
    chain: String,
    open: bool,
    continues: Option<String>,
}

#[derive(Serialize)]
struct Peer {
    site: Option<String>,
    address: String,
    state: &'static str,
    lag_records: u64,
    last_heard_at: Option<String>,
    last_error: Option<String>,
    release: Option<String>,
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// What became of a version, in a word.
pub(crate) fn standing(standing: WireStanding) -> &'static str {
    match standing {
        WireStanding::Unspecified => "unknown",
        WireStanding::Served => "served",
        WireStanding::Concurrent => "concurrent",
        WireStanding::Superseded => "superseded",
    }
}

/// A site of the deployment; `issues` where it holds the CA.
#[derive(Serialize)]
pub(crate) struct Member {
    site: String,
    state: &'static str,
    addresses: Vec<String>,
    issues: bool,
    since: Option<String>,
}

/// A token; `expires_at` is when it is good no more.
#[derive(Serialize)]
pub(crate) struct Invitation {
    pub(crate) token: String,
    pub(crate) expires_at: String,
}

/// What a site has become.
#[derive(Serialize)]
pub(crate) struct Changed {
    pub(crate) site: String,
    pub(crate) state: &'static str,
}

/// What a site is to the others, in a word.
pub(crate) fn member_state(state: site::member::State) -> &'static str {
    match state {
        site::member::State::Joined => "joined",
        site::member::State::Retired => "retired",
        site::member::State::Unspecified => "unknown",
    }
}

impl From<site::Member> for Member {
    fn from(member: site::Member) -> Self {
        Self {
            state: member_state(member.state()),
            since: exact_time(member.since.as_ref()),
            site: member.site,
            addresses: member.addresses,
            issues: member.issues,
        }
    }
}

/// How a link is, in a word.
pub(crate) fn state(state: WireState) -> &'static str {
    match state {
        WireState::Unspecified => "unknown",
        WireState::Connecting => "connecting",
        WireState::CatchingUp => "catching-up",
        WireState::Live => "live",
        WireState::Refused => "refused",
    }
}

impl From<history::File> for File {
    fn from(file: history::File) -> Self {
        let id = file.id.unwrap_or_default();
        Self {
            realm: id.realm,
            name: id.name,
            served: file.served.map(Version::from),
            heads: file.heads,
            conflict: file.conflict,
            confirmed_at: exact_time(file.confirmed_at.as_ref()),
        }
    }
}

impl From<conflict::Conflict> for Conflict {
    fn from(conflict: conflict::Conflict) -> Self {
        let file = conflict.file.unwrap_or_default();
        Self {
            realm: file.realm,
            name: file.name,
            number: conflict.number,
            opened_at: exact_time(conflict.opened_at.as_ref()),
            head_dots: conflict.head_dots,
            ended_at: exact_time(conflict.ended_at.as_ref()),
            ended_by_dot: some(conflict.ended_by_dot),
        }
    }
}

impl From<conflict::Head> for Head {
    fn from(head: conflict::Head) -> Self {
        let is_deletion = head.version.as_ref().is_none_or(|v| v.body_sha256.is_empty());
        let has_body = !is_deletion && !head.body_left_out;
        Self {
            version: head.version.map(Version::from),
            body_base64: has_body.then(|| BASE64.encode(&head.body)),
        }
    }
}

impl From<erasure::Erasure> for Erasure {
    fn from(erasure: erasure::Erasure) -> Self {
        Self {
            id: hexadecimal(&erasure.id),
            subject_hash: erasure.subject_hash,
            generation: erasure.generation,
            ordered_at: exact_time(erasure.ordered_at.as_ref()),
            operator: erasure.operator,
            lifted_at: exact_time(erasure.lifted_at.as_ref()),
            lifted_by: some(erasure.lifted_by),
            receipts: erasure.receipts.into_iter().map(Receipt::from).collect(),
            missing_sites: erasure.missing_sites,
        }
    }
}

impl From<erasure::Receipt> for Receipt {
    fn from(receipt: erasure::Receipt) -> Self {
        let given_at = exact_time(receipt.given_at.as_ref());
        let erasure::Receipt { site, versions, bodies, .. } = receipt;
        Self { site, given_at, versions, bodies }
    }
}

impl From<history::Version> for Version {
    fn from(version: history::Version) -> Self {
        let phone = Phone {
            address: version.phone_address.clone(),
            mac: some(version.phone_mac.clone()),
            user_agent: version.phone_user_agent.clone(),
        };
        Self {
            standing: standing(version.standing()),
            dot: version.dot,
            written_at: exact_time(version.written_at.as_ref()),
            body_sha256: some(version.body_sha256),
            body_bytes: version.body_bytes,
            phone: (!version.phone_address.is_empty()).then_some(phone),
            operator: some(version.operator),
            restored_dot: some(version.restored_dot),
            pruned: version.pruned,
            suspect: version.suspect,
        }
    }
}

/// The word for an outcome.
pub(crate) fn outcome(outcome: site::prove_convergence_response::Outcome) -> &'static str {
    use site::prove_convergence_response::Outcome;
    match outcome {
        Outcome::Proved => "proved",
        Outcome::Damaged => "damaged",
        Outcome::Moving => "moving",
        Outcome::Unreached => "unreached",
        Outcome::Unspecified => "unknown",
    }
}

impl From<site::ProveConvergenceResponse> for Proof {
    fn from(proof: site::ProveConvergenceResponse) -> Self {
        Self {
            outcome: outcome(proof.outcome()),
            site: proof.site,
            files: proof.files,
            bodies: proof.bodies,
            repaired_files: proof.repaired_files,
            repaired_bodies: proof.repaired_bodies,
            damaged_bodies: proof.damaged_bodies,
            damaged_files: proof.damaged_files,
            text: some(proof.text),
        }
    }
}

impl From<site::GetStatusResponse> for Status {
    fn from(status: site::GetStatusResponse) -> Self {
        Self {
            site: status.site,
            deployment: some(status.deployment),
            release: status.release,
            started_at: exact_time(status.started_at.as_ref()),
            files: status.files,
            database_bytes: (status.database_bytes > 0).then_some(status.database_bytes),
            logs: status.logs.into_iter().map(Log::from).collect(),
            peers: status.peers.into_iter().map(Peer::from).collect(),
        }
    }
}

impl From<site::Log> for Log {
    fn from(log: site::Log) -> Self {
        let site::Log { site, epoch, kind, sequence, chain, open, continues } = log;
        Self { site, epoch, kind, sequence, chain, open, continues: some(continues) }
    }
}

impl From<site::Peer> for Peer {
    fn from(peer: site::Peer) -> Self {
        Self {
            state: state(peer.state()),
            site: some(peer.site),
            address: peer.address,
            lag_records: peer.lag_records,
            last_heard_at: exact_time(peer.last_heard_at.as_ref()),
            last_error: some(peer.last_error),
            release: some(peer.release),
        }
    }
}
