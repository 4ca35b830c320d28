//! Answers, from what the store and the daemon know.

use bruri_domain::{Author, Cursor, Dot, FileId, LogId, SiteName};
use bruri_store::{
    ConflictEntry, ConflictHead, ErasureEntry, FileEntry, ReceiptEntry, Standing, Store,
    VersionEntry,
};
use bruri_wire::{
    Timestamp,
    proto::{
        conflict::v1 as conflict, erasure::v1 as erasure, history::v1 as history, site::v1 as site,
    },
};

use crate::{Ops, facts::Facts};

/// A time in microseconds since 1970, as the operators' services tell it.
pub fn timestamp(micros: u64) -> Timestamp {
    let whole = std::time::Duration::from_micros(micros);
    Timestamp {
        seconds: i64::try_from(whole.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(whole.subsec_nanos()).unwrap_or(0),
    }
}

pub(crate) fn file(entry: FileEntry) -> history::File {
    let heads = entry.state.heads().len();
    history::File {
        conflict: entry.state.is_conflict(),
        heads: u32::try_from(heads).unwrap_or(u32::MAX),
        id: Some(file_id(&entry.file)),
        served: entry.served.map(version),
        confirmed_at: entry.confirmed_micros.map(timestamp),
    }
}

fn file_id(file: &FileId) -> history::FileId {
    history::FileId { realm: file.realm.to_string(), name: file.name.to_string() }
}

pub(crate) fn conflict(entry: ConflictEntry) -> conflict::Conflict {
    conflict::Conflict {
        file: Some(file_id(&entry.file)),
        number: entry.number,
        opened_at: Some(timestamp(entry.opened_micros)),
        head_dots: entry.heads.iter().map(Dot::to_string).collect(),
        ended_at: entry.end.as_ref().map(|end| timestamp(end.micros)),
        ended_by_dot: entry.end.map(|end| end.by.to_string()).unwrap_or_default(),
    }
}

pub(crate) fn head(head: ConflictHead) -> conflict::Head {
    let has_body = head.version.version.body.is_some();
    conflict::Head {
        body_left_out: has_body && head.content.is_none(),
        body: head.content.map(Into::into).unwrap_or_default(),
        version: Some(version(head.version)),
    }
}

pub(crate) fn erasure(entry: ErasureEntry) -> erasure::Erasure {
    let (lifted_at, lifted_by) = entry.lifted.unzip();
    erasure::Erasure {
        id: entry.random.to_vec(),
        subject_hash: entry.subject.to_string(),
        generation: entry.generation,
        ordered_at: Some(timestamp(entry.stamp_micros)),
        operator: entry.operator,
        lifted_at: lifted_at.map(timestamp),
        lifted_by: lifted_by.unwrap_or_default(),
        receipts: entry.receipts.iter().map(receipt).collect(),
        missing_sites: entry.missing.iter().map(SiteName::to_string).collect(),
    }
}

fn receipt(entry: &ReceiptEntry) -> erasure::Receipt {
    erasure::Receipt {
        site: entry.site.to_string(),
        given_at: Some(timestamp(entry.stamp_micros)),
        versions: entry.versions,
        bodies: entry.bodies,
    }
}

pub(crate) fn version(entry: VersionEntry) -> history::Version {
    let body = entry.version.body;
    let mut version = history::Version {
        dot: entry.dot.to_string(),
        written_at: Some(timestamp(entry.version.stamp.micros)),
        standing: standing(entry.standing).into(),
        body_sha256: body.map(|body| body.sha256.to_string()).unwrap_or_default(),
        body_bytes: body.map_or(0, |body| body.bytes),
        pruned: entry.pruned,
        suspect: entry.version.suspect,
        ..history::Version::default()
    };
    match entry.version.author {
        Author::Phone(phone) => {
            version.phone_address = phone.address.to_string();
            version.phone_mac = phone.mac.unwrap_or_default();
            version.phone_user_agent = phone.user_agent;
        }
        Author::Operator { name, restored } => {
            version.operator = name;
            version.restored_dot = restored.map(|dot| dot.to_string()).unwrap_or_default();
        }
        Author::Merge { operator, .. } => version.operator = operator,
        Author::Unknown => {}
    }
    version
}

fn standing(standing: Standing) -> history::version::Standing {
    match standing {
        Standing::Served => history::version::Standing::Served,
        Standing::Concurrent => history::version::Standing::Concurrent,
        Standing::Superseded => history::version::Standing::Superseded,
    }
}

pub(crate) fn site_status(ops: &Ops, facts: Facts) -> site::GetStatusResponse {
    site::GetStatusResponse {
        site: ops.store.site().to_string(),
        deployment: ops.about.deployment.clone(),
        release: ops.about.release.clone(),
        started_at: Some(timestamp(ops.about.started_micros)),
        logs: facts.vector.iter().map(|cursor| log(cursor, &ops.store)).collect(),
        peers: facts.peers,
        files: facts.counts.files,
        database_bytes: facts.counts.database_bytes.unwrap_or(0),
    }
}

fn log(cursor: &Cursor, store: &Store) -> site::Log {
    let id = &cursor.log.id;
    let continues = cursor.log.predecessor.map(|end| {
        let log = LogId { site: id.site.clone(), epoch: end.epoch };
        Dot { log, sequence: end.sequence }.to_string()
    });
    site::Log {
        open: store.appends_to(id),
        continues: continues.unwrap_or_default(),
        site: cursor.log.id.site.to_string(),
        epoch: cursor.log.id.epoch.to_string(),
        kind: cursor.log.kind.to_string(),
        sequence: cursor.sequence,
        chain: cursor.chain.0.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_to_the_microsecond() {
        let told = timestamp(1_700_000_000_000_001);
        assert_eq!((told.seconds, told.nanos), (1_700_000_000, 1_000));
    }
}
