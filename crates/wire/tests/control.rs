//! Records that concern no file: what goes in comes out, and what is missing or too much is refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests; a test may panic")]

use bruri_domain::{
    Control, Envelope, Erasure, Lift, Receipt, RecordKind, Sha256, Stamp,
    limits::{BARS_MAX, OPERATOR_BYTES_MAX, PAYLOAD_BYTES_MAX},
};
use bruri_wire::{
    control::{decode_control, encode_control},
    proto::record::v1 as proto,
    record::{InvalidRecord, decode_envelope},
};
use prost::Message as _;

const STAMP: Stamp = Stamp { trusted: true, micros: 17 };

fn erasure(operator: &str) -> Control {
    Control::Erasure(Erasure { random: [1; 16], stamp: STAMP, operator: operator.to_owned() })
}

fn lift(count: usize) -> Control {
    let (operator, erasures) = ("uid 0".to_owned(), vec![[1; 16]; count]);
    Control::Lift(Lift { random: [2; 16], stamp: STAMP, operator, erasures })
}

fn receipt() -> Control {
    let (versions, bodies) = (u64::MAX, 3);
    let erasure = [1; 16];
    Control::Receipt(Receipt { random: [3; 16], stamp: STAMP, erasure, versions, bodies })
}

const SUBJECT: Option<Sha256> = Some(Sha256([9; 32]));

fn read(control: &Control) -> Result<Option<Control>, InvalidRecord> {
    let raw = encode_control(control, SUBJECT, 4);
    let envelope = decode_envelope(&raw.envelope).unwrap();
    assert_eq!((envelope.subject, envelope.generation), (SUBJECT, 4));
    let payload = raw.payload.unwrap();
    assert_eq!(envelope.payload, Sha256::of(&payload));
    assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    decode_control(&envelope, &payload)
}

#[test]
fn a_record_that_concerns_no_file_comes_back_as_it_was() {
    let name = "n".repeat(OPERATOR_BYTES_MAX);
    for control in [erasure(&name), erasure(""), lift(0), lift(BARS_MAX), receipt()] {
        assert_eq!(read(&control), Ok(Some(control)));
    }
}

#[test]
fn what_is_missing_or_out_of_bounds_is_refused() {
    let long = erasure(&"n".repeat(OPERATOR_BYTES_MAX.saturating_add(1)));
    let field = |field| Err(InvalidRecord::Field { field });
    assert_eq!(read(&long), field("erasure.operator"));
    assert_eq!(read(&lift(BARS_MAX.saturating_add(1))), field("lift.erasures"));
    let envelope = |kind, subject, generation| {
        let payload = Sha256::of(b"");
        Envelope { kind, subject, generation, payload }
    };
    let payload = proto::Erasure { random: vec![1; 16], ..Default::default() }.encode_to_vec();
    let known = envelope(RecordKind::Erasure, SUBJECT, 0);
    assert_eq!(decode_control(&known, &payload), field("erasure.stamp"));
    assert_eq!(decode_control(&known, b""), field("erasure.random"));
    let raw = encode_control(&erasure(""), SUBJECT, 0);
    let whole = raw.payload.unwrap();
    let nobody = envelope(RecordKind::Erasure, None, 0);
    assert_eq!(decode_control(&nobody, &whole), field("envelope.subject"));
    let last = envelope(RecordKind::Erasure, SUBJECT, i64::MAX.unsigned_abs());
    assert_eq!(decode_control(&last, &whole), field("envelope.generation"));
    let unreadable = InvalidRecord::Undecodable { message: "erasure" };
    assert_eq!(decode_control(&known, &[0xff; 9]), Err(unreadable));
}

#[test]
fn a_version_or_a_kind_of_a_later_release_is_none_of_them() {
    for kind in [RecordKind::Backup, RecordKind::Deletion, RecordKind::Unknown(99)] {
        let envelope = Envelope { kind, subject: None, generation: 0, payload: Sha256([0; 32]) };
        assert_eq!(decode_control(&envelope, b"anything"), Ok(None));
    }
}
