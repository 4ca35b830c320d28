use bruri_domain::{
    Author, Body, Context, Epoch, FileId, FileName, Log, LogId, LogKind, RealmId, SiteName, Stamp,
};
use bruri_wire::record::{encode_envelope, encode_version};

use super::*;

fn key() -> DeploymentKey {
    DeploymentKey::new([7; 32])
}

fn beginning() -> Cursor {
    let id = LogId { site: SiteName::parse("london").unwrap(), epoch: Epoch(1) };
    Cursor::at_beginning(Log { id, kind: LogKind::Files, predecessor: None })
}

fn version(content: Option<&[u8]>) -> Version {
    let (realm, name) = ("default", "299_16xxdata.txt");
    Version {
        random: [1; 16],
        stamp: Stamp { micros: 1, trusted: true },
        file: FileId {
            realm: RealmId::parse(realm).unwrap(),
            name: FileName::parse(name).unwrap(),
        },
        context: Context::default(),
        body: content.map(Body::of),
        suspect: false,
        author: Author::Unknown,
    }
}

fn backup(content: &[u8]) -> RawRecord {
    encode_version(&version(Some(content)), 0, &key())
}

/// A record around any payload, whose envelope tells the truth but for its kind.
fn record_of(kind: RecordKind, payload: &[u8]) -> RawRecord {
    let subject = Some(key().subject_hash(version(None).file.subject()));
    let envelope = Envelope { kind, subject, generation: 0, payload: Sha256::of(payload) };
    let payload = Some(Bytes::copy_from_slice(payload));
    RawRecord { envelope: encode_envelope(&envelope), payload }
}

/// An honest batch after `from`.
fn batch(from: &Cursor, records: &[RawRecord], bodies: &[&[u8]]) -> proto::Batch {
    let chain = records.iter().fold(from.chain, |chain, record| chain.next(&record.envelope));
    let entry = |record: &RawRecord| proto::Entry {
        envelope: record.envelope.clone(),
        payload: record.payload.clone(),
    };
    proto::Batch {
        log: Some((&from.log).into()),
        first_sequence: from.sequence.saturating_add(1),
        entries: records.iter().map(entry).collect(),
        bodies: bodies.iter().map(|body| Bytes::copy_from_slice(body)).collect(),
        chain: chain.0.as_bytes().to_vec(),
        absent_bodies: Vec::new(),
    }
}

fn refusal(batch: proto::Batch) -> String {
    check(batch, &beginning(), &key()).unwrap_err().to_string()
}

#[test]
fn an_honest_batch_is_believed_as_it_is() {
    let deletion = encode_version(&version(None), 3, &key());
    let unknown = record_of(RecordKind::Unknown(99), b"later");
    let records = [backup(b"a"), deletion, unknown, backup(b"a")];
    let checked = check(batch(&beginning(), &records, &[b"a"]), &beginning(), &key()).unwrap();
    assert_eq!((checked.from.clone(), checked.to.sequence), (beginning(), 4));
    let raw: Vec<RawRecord> = checked.records.iter().map(|record| record.raw.clone()).collect();
    assert_eq!(raw, records);
    let kinds: Vec<bool> = checked.records.iter().map(|r| r.version.is_some()).collect();
    assert_eq!(kinds, [true, true, false, true]);
    assert_eq!(checked.records[1].envelope.generation, 3);
    assert_eq!(checked.bodies.into_values().collect::<Vec<_>>(), [&b"a"[..]]);
}

#[test]
fn what_is_known_of_a_batch_is_passed_over_if_it_is_the_same() {
    let records = [backup(b"a"), backup(b"b"), backup(b"c")];
    let bodies: &[&[u8]] = &[b"a", b"b", b"c"];
    let all = batch(&beginning(), &records, bodies);
    let two = check(batch(&beginning(), &records[..2], &bodies[..2]), &beginning(), &key());
    let two = two.unwrap().to;
    let checked = check(all.clone(), &two, &key()).unwrap();
    assert_eq!((checked.from.sequence, checked.to.sequence), (2, 3));
    assert_eq!(checked.records.len(), 1);
    assert_eq!(checked.bodies.into_values().collect::<Vec<_>>(), [&b"c"[..]]);

    let mut forked = two;
    forked.chain = forked.chain.next(b"another");
    let error = check(all, &forked, &key()).unwrap_err();
    assert!(matches!(error, InvalidBatch::Chain(3)), "{error}");
}

#[test]
fn a_batch_must_follow_the_cursor_within_bounds() {
    let mut late = batch(&beginning(), &[backup(b"a")], &[b"a"]);
    late.first_sequence = 2;
    assert_eq!(refusal(late), "the batch begins at 2, expected 1");
    let empty = batch(&beginning(), &[], &[]);
    assert_eq!(refusal(empty), "the batch has 0 records, expected 1 to 512");
    let many = vec![record_of(RecordKind::Unknown(99), b""); 513];
    let many = batch(&beginning(), &many, &[]);
    assert_eq!(refusal(many), "the batch has 513 records, expected 1 to 512");
    let bodies = batch(&beginning(), &[backup(b"a")], &[b"a", b"b"]);
    assert_eq!(refusal(bodies), "the batch has or lacks 2 bodies for 1 records");
    let large = vec![0; FILE_BYTES_MAX + 1];
    let large = batch(&beginning(), &[backup(b"a")], &[&large]);
    assert_eq!(refusal(large), "a body has more than 1048576 bytes");
}

#[test]
fn a_chain_must_be_that_of_the_envelopes() {
    let mut short = batch(&beginning(), &[backup(b"a")], &[b"a"]);
    short.chain.pop();
    assert_eq!(refusal(short), "field batch.chain is missing or out of bounds");
    let mut other = batch(&beginning(), &[backup(b"a")], &[b"a"]);
    other.chain[0] ^= 1;
    assert_eq!(refusal(other), "the chain after record 1 is not what the peer says");
}

#[test]
fn a_record_must_hold_what_its_envelope_says() {
    let honest = version(Some(b"a"));
    let payload = encode_version(&honest, 0, &key()).payload.unwrap();
    // No record of a user: an erasure takes none of those.
    let missing = record_of(RecordKind::Realm, b"later");
    let missing = RawRecord { payload: None, ..missing };
    let swapped = RawRecord { payload: backup(b"b").payload, ..backup(b"a") };
    let foreign = encode_version(&honest, 0, &DeploymentKey::new([8; 32]));
    let unreadable = record_of(RecordKind::Backup, &[0xff; 9]);
    let large = record_of(RecordKind::Unknown(99), &vec![0; PAYLOAD_BYTES_MAX + 1]);
    for (record, text) in [
        (missing, "the payload is missing, and no erasure is known here that took it"),
        (swapped, "the payload's hash is not the one in the envelope"),
        (foreign, "the subject in the envelope is not that of the file"),
        (record_of(RecordKind::Deletion, &payload), "the kind in the envelope does not fit"),
        (unreadable, "payload cannot be decoded"),
        (large, "payload has more than 65536 bytes"),
        (backup(b"b"), "no body in the batch has the hash and size that it names"),
    ] {
        let error = refusal(batch(&beginning(), &[backup(b"a"), record], &[b"a"]));
        assert!(error.starts_with(&format!("record 2: {text}")), "{error}");
    }
}

#[test]
fn credit_counts_envelopes_payloads_and_bodies() {
    let record = backup(b"four");
    let bytes = record.envelope.len() + record.payload.as_ref().unwrap().len() + 4;
    let batch = batch(&beginning(), &[record], &[b"four"]);
    assert_eq!(credit_bytes(&batch), bytes as u64);
}

fn without_bodies(records: &[RawRecord], absent: &[&[u8]]) -> proto::Batch {
    let absent = absent.iter().map(|body| Sha256::of(body).as_bytes().to_vec()).collect();
    proto::Batch { absent_bodies: absent, ..batch(&beginning(), records, &[]) }
}

#[test]
fn a_body_may_be_missing_only_where_the_supplier_says_that_it_has_it_no_more() {
    let records = [backup(b"a"), backup(b"b")];
    let both = without_bodies(&records, &[b"b", b"a"]);
    let checked = check(both, &beginning(), &key()).unwrap();
    assert_eq!(checked.absent, [Sha256::of(b"a"), Sha256::of(b"b")].into());
    assert!(checked.bodies.is_empty());

    let one = without_bodies(&records, &[b"a"]);
    let text = "record 2: no body in the batch has the hash and size that it names";
    assert_eq!(refusal(one), text);
    let mut other = without_bodies(&records, &[b"a", b"c"]);
    assert_eq!(refusal(other.clone()), text);
    other.absent_bodies.push(vec![0; 32]);
    assert_eq!(refusal(other), "the batch has or lacks 3 bodies for 2 records");
    let mut short = without_bodies(&records, &[b"a", b"b"]);
    short.absent_bodies[0].pop();
    assert_eq!(refusal(short), "field batch.absent_bodies is missing or out of bounds");
}

#[test]
fn a_body_that_came_is_not_absent_and_one_that_nobody_names_is_passed_over() {
    let mut mixed = batch(&beginning(), &[backup(b"a"), backup(b"b")], &[b"a"]);
    mixed.absent_bodies.push(Sha256::of(b"b").as_bytes().to_vec());
    let checked = check(mixed, &beginning(), &key()).unwrap();
    assert_eq!((checked.bodies.len(), checked.absent), (1, [Sha256::of(b"b")].into()));

    let mut named = batch(&beginning(), &[backup(b"a"), backup(b"a")], &[b"a"]);
    named.absent_bodies.push(Sha256::of(b"a").as_bytes().to_vec());
    assert!(check(named.clone(), &beginning(), &key()).unwrap().absent.is_empty());
    named.absent_bodies[0] = vec![0; 32];
    assert!(check(named, &beginning(), &key()).unwrap().absent.is_empty());
}

#[test]
fn a_record_without_payload_is_believed_only_under_an_erasure_that_is_known_here() {
    let bare = RawRecord { payload: None, ..backup(b"a") };
    let records = [deletion_under(1), bare];
    let checked = check(batch(&beginning(), &records, &[]), &beginning(), &key()).unwrap();
    let subjects = subjects_without_payload(&checked);
    let subject = key().subject_hash(version(None).file.subject());
    assert_eq!(subjects, BTreeSet::from([subject]));
    let refused = |generations: &[(Sha256, u64)]| {
        let known = generations.iter().copied().collect();
        unerased(&checked, &known).map(|error| error.to_string())
    };
    let why = "record 2: the payload is missing, and no erasure is known here that took it";
    assert_eq!(refused(&[]).as_deref(), Some(why));
    assert_eq!(refused(&[(subject, 0)]).as_deref(), Some(why), "nothing is older");
    assert_eq!(refused(&[(Sha256([0; 32]), 1)]).as_deref(), Some(why), "of another subject");
    assert_eq!(refused(&[(subject, 1)]), None);
}

fn deletion_under(generation: u64) -> RawRecord {
    encode_version(&version(None), generation, &key())
}
