//! Records between bytes and the domain: what goes in comes out, what is not known does no harm, and every
//! bound refuses.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests; a test may panic"
)]

use bruri_domain::{
    Author, Body, Context, DeploymentKey, Dot, Epoch, FileId, FileName, FileState, Head, LogId,
    Phone, RealmId, RecordKind, Sha256, SiteName, Stamp, Version,
    limits::{
        CONTEXT_DOTS_MAX, CONTEXT_LOGS_MAX, ENVELOPE_BYTES_MAX, FILE_BYTES_MAX, OPERATOR_BYTES_MAX,
        PAYLOAD_BYTES_MAX,
    },
};
use bruri_wire::{
    proto::record::v1 as proto,
    record::{
        InvalidRecord, decode_envelope, decode_state, decode_version, encode_state, encode_version,
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

fn site_name() -> impl Strategy<Value = SiteName> {
    prop::sample::select(vec!["london", "tokyo", "a", "new-york-2"])
        .prop_map(|name| SiteName::parse(name).unwrap())
}

fn log_id() -> impl Strategy<Value = LogId> {
    (site_name(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()])
        .prop_map(|(site, epoch)| LogId { site, epoch: Epoch(epoch) })
}

fn dot() -> impl Strategy<Value = Dot> {
    (log_id(), prop_oneof![1..20_u64, Just(u64::MAX)])
        .prop_map(|(log, sequence)| Dot { log, sequence })
}

fn context() -> impl Strategy<Value = Context> {
    vec((dot(), any::<bool>()), 0..12).prop_map(|steps| {
        let mut context = Context::default();
        for (dot, all_below) in steps {
            if all_below {
                context.raise_to(&dot);
            } else {
                context.add(&dot);
            }
        }
        context
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<bool>(), any::<u64>()).prop_map(|(trusted, micros)| Stamp { trusted, micros })
}

fn body() -> impl Strategy<Value = Body> {
    (any::<[u8; 32]>(), 0..=FILE_BYTES_MAX as u64)
        .prop_map(|(sha256, bytes)| Body { sha256: Sha256(sha256), bytes })
}

fn author() -> impl Strategy<Value = Author> {
    let operator = "[a-zA-Z0-9 é]{0,80}";
    prop_oneof![
        (any::<std::net::IpAddr>(), vec(any::<u8>(), 0..300))
            .prop_map(|(address, agent)| Author::Phone(Phone::new(address, &agent))),
        (operator, option::of(dot()))
            .prop_map(|(name, restored)| Author::Operator { name, restored }),
        (operator, vec(dot(), 0..4))
            .prop_map(|(operator, heads)| Author::Merge { operator, heads }),
        Just(Author::Unknown),
    ]
}

fn file() -> impl Strategy<Value = FileId> {
    let name = prop_oneof!["[0-9]{1,32}_[a-z0-9]{1,16}data\\.txt", Just("9610data.txt".to_owned())];
    ("[a-z0-9-]{1,32}", name).prop_map(|(realm, name)| FileId {
        realm: RealmId::parse(&realm).unwrap(),
        name: FileName::parse(&name).unwrap(),
    })
}

prop_compose! {
    fn version()(
        random in any::<[u8; 16]>(), stamp in stamp(), file in file(), context in context(),
        body in option::of(body()), suspect in any::<bool>(), author in author(),
    ) -> Version {
        Version { random, stamp, file, context, body, suspect, author }
    }
}

fn head() -> impl Strategy<Value = Head> {
    (dot(), stamp(), option::of(body()), any::<bool>())
        .prop_map(|(dot, stamp, body, suspect)| Head { dot, stamp, body, suspect })
}

fn key() -> DeploymentKey {
    DeploymentKey::new([7; 32])
}

/// Fields that a later release may have added: a number and a text.
fn with_unknown_fields(bytes: &[u8]) -> Vec<u8> {
    let field_900_is_5 = [0xa0, 0x38, 5];
    let field_901_is_hi = [0xaa, 0x38, 2, b'h', b'i'];
    [&field_900_is_5[..], bytes, &field_901_is_hi[..]].concat()
}

proptest! {
    #[test]
    fn a_version_comes_out_as_it_went_in(version in version(), generation in any::<u64>()) {
        let raw = encode_version(&version, generation, &key());
        let payload = raw.payload.unwrap();
        prop_assert_eq!(decode_version(&payload), Ok(version.clone()));
        prop_assert_eq!(decode_version(&with_unknown_fields(&payload)), Ok(version));
    }

    #[test]
    fn an_envelope_tells_kind_subject_generation_and_payload(
        version in version(), generation in any::<u64>(),
    ) {
        let raw = encode_version(&version, generation, &key());
        let envelope = decode_envelope(&raw.envelope).unwrap();
        let kind = if version.body.is_some() { RecordKind::Backup } else { RecordKind::Deletion };
        prop_assert_eq!(envelope.kind, kind);
        prop_assert_eq!(envelope.subject, Some(key().subject_hash(version.file.subject())));
        prop_assert_eq!(envelope.generation, generation);
        prop_assert_eq!(envelope.payload, Sha256::of(&raw.payload.unwrap()));
        prop_assert_eq!(decode_envelope(&with_unknown_fields(&raw.envelope)), Ok(envelope));
    }

    #[test]
    fn a_state_comes_out_as_it_went_in(
        generation in any::<u64>(), heads in vec(head(), 0..4), context in context(),
    ) {
        let state = FileState::from_parts(generation, heads, context);
        let bytes = encode_state(&state);
        prop_assert_eq!(decode_state(&bytes), Ok(state.clone()));
        prop_assert_eq!(decode_state(&with_unknown_fields(&bytes)), Ok(state));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = (decode_envelope(&bytes), decode_version(&bytes), decode_state(&bytes));
    }
}

fn sample() -> proto::Version {
    let body = proto::Body { sha256: vec![3; 32], bytes: 10 };
    let phone = proto::Phone {
        address: "192.0.2.1".into(),
        mac: String::new(),
        user_agent: "AVAYA/J179-4.0.7.0 (MAC:64C3549e5334)".into(),
    };
    proto::Version {
        random: vec![1; 16],
        stamp: Some(proto::Stamp { micros: 5, trusted: true }),
        realm: "default".into(),
        file_name: "299_16xxdata.txt".into(),
        context: Some(proto::Context { logs: vec![log_context("london", 1, 4)] }),
        body: Some(body),
        suspect: false,
        author: Some(proto::version::Author::Phone(phone)),
    }
}

fn log_context(site: &str, epoch: u64, upto: u64) -> proto::LogContext {
    proto::LogContext { site: site.into(), epoch, upto, dots: Vec::new() }
}

/// Reads the sample after a change.
fn changed(change: impl FnOnce(&mut proto::Version)) -> Result<Version, InvalidRecord> {
    let mut version = sample();
    change(&mut version);
    decode_version(&version.encode_to_vec())
}

fn refused(field: &'static str) -> Result<Version, InvalidRecord> {
    Err(InvalidRecord::Field { field })
}

fn envelope(change: impl FnOnce(&mut proto::Envelope)) -> Vec<u8> {
    let mut envelope = proto::Envelope {
        kind: 1,
        subject: vec![1; 32],
        generation: 0,
        payload_sha256: vec![2; 32],
    };
    change(&mut envelope);
    envelope.encode_to_vec()
}

fn kind_of(bytes: &[u8]) -> Result<RecordKind, InvalidRecord> {
    decode_envelope(bytes).map(|envelope| envelope.kind)
}

#[test]
fn a_kind_of_a_later_release_is_kept_as_unknown() {
    for number in [76, 77, i32::MAX, -1] {
        let bytes = envelope(|e| e.kind = number);
        assert_eq!(kind_of(&bytes), Ok(RecordKind::Unknown(number)));
    }
}

#[test]
fn an_envelope_out_of_bounds_is_refused() {
    let refused = |field| Err(InvalidRecord::Field { field });
    assert_eq!(kind_of(&envelope(|e| e.kind = 0)), refused("envelope.kind"));
    for length in [1, 31, 33] {
        let bytes = envelope(|e| e.subject = vec![1; length]);
        assert_eq!(kind_of(&bytes), refused("envelope.subject"));
    }
    for length in [0, 31, 33] {
        let bytes = envelope(|e| e.payload_sha256 = vec![1; length]);
        assert_eq!(kind_of(&bytes), refused("envelope.payload_sha256"));
    }
    assert_eq!(kind_of(&[]), refused("envelope.kind"));
    let undecodable = Err(InvalidRecord::Undecodable { message: "envelope" });
    assert_eq!(kind_of(b"\xff\xff"), undecodable);
}

#[test]
fn an_envelope_without_a_subject_concerns_nobody() {
    let read = decode_envelope(&envelope(|e| e.subject.clear())).unwrap();
    assert_eq!(read.subject, None);
}

/// Grows a message to exactly so many bytes by a field that no release knows.
fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    // Field 901 as bytes; its length in the longest form, so that any padding fits.
    let rest = length - bytes.len() - 5;
    let low = u8::try_from(rest & 0x7f).unwrap() | 0x80;
    let middle = u8::try_from((rest >> 7) & 0x7f).unwrap() | 0x80;
    bytes.extend([0xaa, 0x38, low, middle, u8::try_from(rest >> 14).unwrap()]);
    bytes.resize(length, 0);
    bytes
}

#[test]
fn an_envelope_of_1024_bytes_is_read_and_one_of_1025_is_not() {
    let longest = padded(envelope(|_| ()), ENVELOPE_BYTES_MAX);
    assert_eq!(kind_of(&longest), Ok(RecordKind::Backup));
    let longer = padded(envelope(|_| ()), ENVELOPE_BYTES_MAX + 1);
    let message = "envelope";
    let bytes_max = ENVELOPE_BYTES_MAX;
    assert_eq!(kind_of(&longer), Err(InvalidRecord::TooLarge { message, bytes_max }));
}

#[test]
fn a_payload_of_64_kib_is_read_and_a_larger_one_is_not() {
    let longest = padded(sample().encode_to_vec(), PAYLOAD_BYTES_MAX);
    assert_eq!(decode_version(&longest), changed(|_| ()));
    let longer = padded(sample().encode_to_vec(), PAYLOAD_BYTES_MAX + 1);
    let message = "payload";
    let bytes_max = PAYLOAD_BYTES_MAX;
    assert_eq!(decode_version(&longer), Err(InvalidRecord::TooLarge { message, bytes_max }));
}

#[test]
fn a_version_needs_16_random_bytes_a_stamp_and_a_canonical_name() {
    assert!(changed(|_| ()).is_ok());
    for length in [0, 15, 17] {
        assert_eq!(changed(|v| v.random = vec![1; length]), refused("version.random"));
    }
    assert_eq!(changed(|v| v.stamp = None), refused("version.stamp"));
    for realm in ["", "Default", "a/b", "a\0", &"a".repeat(33)] {
        assert_eq!(changed(|v| v.realm = realm.into()), refused("version.realm"), "{realm:?}");
    }
    for name in ["", "299_16XXdata.txt", "9610Data.txt", "../299_16xxdata.txt", "x.php"] {
        assert_eq!(changed(|v| v.file_name = name.into()), refused("version.file_name"), "{name}");
    }
}

#[test]
fn a_body_of_1_mib_is_the_largest() {
    let with_bytes = |bytes| changed(|v| v.body.as_mut().unwrap().bytes = bytes);
    assert!(with_bytes(FILE_BYTES_MAX as u64).is_ok());
    assert_eq!(with_bytes(FILE_BYTES_MAX as u64 + 1), refused("body.bytes"));
    assert_eq!(with_bytes(u64::MAX), refused("body.bytes"));
    for length in [0, 31, 33] {
        let short = changed(|v| v.body.as_mut().unwrap().sha256 = vec![1; length]);
        assert_eq!(short, refused("body.sha256"));
    }
}

#[test]
fn a_context_of_256_logs_is_the_largest() {
    let logs = |count: usize| {
        let logs = (0..count).map(|n| log_context("london", n as u64, 1)).collect();
        changed(|v| v.context = Some(proto::Context { logs }))
    };
    assert_eq!(logs(CONTEXT_LOGS_MAX).unwrap().context.logs().len(), 256);
    assert_eq!(logs(CONTEXT_LOGS_MAX + 1), refused("context.logs"));
}

#[test]
fn a_context_of_4096_single_dots_is_the_largest() {
    let dots = |count: u64| {
        let (mut one, mut other) = (log_context("london", 1, 1), log_context("tokyo", 1, 1));
        one.dots = (1..=count).map(|n| n * 2 + 1).collect();
        other.dots = one.dots.split_off(1000);
        changed(|v| v.context = Some(proto::Context { logs: vec![one, other] }))
    };
    let whole = dots(CONTEXT_DOTS_MAX as u64).unwrap();
    let counts: Vec<_> = whole.context.logs().map(|(_, seen)| seen.dots().count()).collect();
    assert_eq!(counts, [1000, 3096]);
    assert_eq!(dots(CONTEXT_DOTS_MAX as u64 + 1), refused("context.dots"));
}

#[test]
fn the_largest_context_with_the_longest_names_and_numbers_fits_a_payload() {
    let mut version = changed(|v| v.context = None).unwrap();
    for n in 0..CONTEXT_LOGS_MAX as u64 {
        let site = SiteName::parse(&"z".repeat(32)).unwrap();
        let log = LogId { site, epoch: Epoch(n) };
        version.context.raise_to(&Dot { log: log.clone(), sequence: 1 << 63 });
        for dot in 0..(CONTEXT_DOTS_MAX / CONTEXT_LOGS_MAX) as u64 {
            version.context.add(&Dot { log: log.clone(), sequence: u64::MAX - 2 * dot });
        }
    }
    let payload = encode_version(&version, u64::MAX, &key()).payload.unwrap();
    assert!(decode_version(&payload).is_ok());
    assert!(payload.len() < PAYLOAD_BYTES_MAX - 2048, "{} bytes", payload.len());
}

#[test]
fn knowledge_that_is_written_in_another_form_is_read_as_the_same() {
    let normal =
        changed(|v| v.context = Some(proto::Context { logs: vec![log_context("a", 1, 4)] }));
    let mut scattered = log_context("a", 1, 1);
    scattered.dots = vec![4, 3, 0, 1, 2, 3];
    let nothing = log_context("b", 9, 0);
    let again = log_context("a", 1, 2);
    let logs = vec![scattered, nothing, again];
    assert_eq!(changed(|v| v.context = Some(proto::Context { logs })), normal);
}

#[test]
fn a_log_in_a_context_needs_a_site_that_could_exist() {
    for site in ["", "London", "a/b", &"a".repeat(33)] {
        let logs = vec![log_context(site, 1, 1)];
        assert_eq!(changed(|v| v.context = Some(proto::Context { logs })), refused("site"));
    }
}

fn by_operator(name: &str, restored: Option<(&str, u64)>) -> Result<Version, InvalidRecord> {
    let restored =
        restored.map(|(site, sequence)| proto::Dot { site: site.into(), epoch: 1, sequence });
    let operator = proto::Operator { name: name.into(), restored };
    changed(|v| v.author = Some(proto::version::Author::Operator(operator)))
}

#[test]
fn an_operator_has_a_name_of_256_bytes_at_most_and_restores_a_version_that_could_exist() {
    assert!(by_operator(&"a".repeat(OPERATOR_BYTES_MAX), Some(("london", 1))).is_ok());
    let long = "a".repeat(OPERATOR_BYTES_MAX + 1);
    assert_eq!(by_operator(&long, None), refused("operator.name"));
    assert_eq!(by_operator("a", Some(("london", 0))), refused("dot.sequence"));
    assert_eq!(by_operator("a", Some(("London", 1))), refused("site"));
    let merge = proto::Merge { operator: long, heads: Vec::new() };
    let merged = changed(|v| v.author = Some(proto::version::Author::Merge(merge)));
    assert_eq!(merged, refused("merge.operator"));
}

#[test]
fn a_phone_needs_an_address_and_its_user_agent_is_cut() {
    let phone = |address: &str, user_agent: String| {
        let mac = "not what the User-Agent says".into();
        let phone = proto::Phone { address: address.into(), mac, user_agent };
        changed(|v| v.author = Some(proto::version::Author::Phone(phone)))
    };
    assert_eq!(phone("london", String::new()), refused("phone.address"));
    let Ok(Version { author: Author::Phone(read), .. }) = phone("::1", "x\n".repeat(400)) else {
        panic!("not read");
    };
    assert_eq!((read.user_agent, read.mac), ("x".repeat(256), None));
}

#[test]
fn an_author_of_a_later_release_is_unknown() {
    let mut bytes = changed_bytes(|v| v.author = None);
    bytes.extend([0x7a, 1, b'x']); // field 15
    assert_eq!(decode_version(&bytes).unwrap().author, Author::Unknown);
}

fn changed_bytes(change: impl FnOnce(&mut proto::Version)) -> Vec<u8> {
    let mut version = sample();
    change(&mut version);
    version.encode_to_vec()
}

#[test]
fn garbage_is_undecodable() {
    let undecodable = |message| InvalidRecord::Undecodable { message };
    assert_eq!(decode_version(b"\xff\xff"), Err(undecodable("payload")));
    assert_eq!(decode_state(b"\xff\xff"), Err(undecodable("file state")));
    let cut = &changed_bytes(|_| ())[..40];
    assert_eq!(decode_version(cut), Err(undecodable("payload")));
}

#[test]
fn a_state_with_a_head_that_could_not_exist_is_refused() {
    let head = |change: fn(&mut proto::Head)| {
        let mut head = proto::Head {
            suspect: false,
            dot: Some(proto::Dot { site: "london".into(), epoch: 1, sequence: 1 }),
            stamp: Some(proto::Stamp { micros: 1, trusted: true }),
            body: None,
        };
        change(&mut head);
        let state = proto::FileState { generation: 0, heads: vec![head], context: None };
        decode_state(&state.encode_to_vec()).map(|_| ())
    };
    let refused = |field| Err(InvalidRecord::Field { field });
    assert_eq!(head(|_| ()), Ok(()));
    assert_eq!(head(|h| h.dot = None), refused("head.dot"));
    assert_eq!(head(|h| h.stamp = None), refused("head.stamp"));
}

/// Records are hashed and kept for ever: a release that encodes the same version otherwise would give one
/// record two addresses.
#[test]
fn the_bytes_of_a_version_are_the_same_in_every_release() {
    let version = changed(|_| ()).unwrap();
    let raw = encode_version(&version, 1, &key());
    let payload = Sha256::of(&raw.payload.unwrap()).to_string();
    assert_eq!(payload, "34db05721c51bfb54a5c329732be5144d7020351486aa50ab0ce8aa17255540a");
    assert_eq!(
        Sha256::of(&raw.envelope).to_string(),
        "712ed6401bb07efaacc2cecb5ea20caee1c5f8249aab4cc6cb2887416d61e066"
    );
}
