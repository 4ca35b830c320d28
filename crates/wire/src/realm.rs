//! What realms want, between its bytes and the domain.

use std::time::Duration;

use bruri_domain::{
    Freshness, RealmChange, RealmId, RealmSettings, Retention,
    limits::{FRESHNESS_MILLIS_MAX, PAYLOAD_BYTES_MAX, REALM_SETTINGS_BYTES_MAX},
};
use prost::Message as _;

use crate::{
    control::{random, stamp},
    proto::record::v1 as proto,
    record::{InvalidRecord, OF_A_RECORD, bounded_name, context, decode, field},
};

/// Encodes what a realm wants.
pub fn encode_settings(settings: &RealmSettings) -> Vec<u8> {
    let millis = match settings.freshness {
        Freshness::Strict => 0,
        Freshness::Within(bound) => u32::try_from(bound.as_millis()).unwrap_or(u32::MAX),
    };
    let Retention { all, days, weeks, months, thins } = settings.retention;
    let seconds = |span: Option<Duration>| span.map(|span| span.as_secs());
    let retention = proto::Retention {
        all_seconds: seconds(all),
        days_seconds: seconds(days),
        weeks_seconds: seconds(weeks),
        months_seconds: seconds(months),
        thins,
    };
    proto::RealmSettings { freshness_millis: millis, retention: Some(retention) }.encode_to_vec()
}

/// Reads what a realm wants. What a later release allows beyond this one's bounds is brought within them, so that a record
/// of it stops no log.
///
/// # Errors
/// Where the bytes are too many or nothing of the kind.
pub fn decode_settings(bytes: &[u8]) -> Result<RealmSettings, InvalidRecord> {
    let settings: proto::RealmSettings = decode(bytes, "realm settings", REALM_SETTINGS_BYTES_MAX)?;
    let freshness = match u64::from(settings.freshness_millis).min(FRESHNESS_MILLIS_MAX) {
        0 => Freshness::Strict,
        millis => Freshness::Within(Duration::from_millis(millis)),
    };
    let seconds = |span: Option<u64>| span.map(Duration::from_secs);
    let retention = settings.retention.map_or(Retention::default(), |it| Retention {
        all: seconds(it.all_seconds),
        days: seconds(it.days_seconds),
        weeks: seconds(it.weeks_seconds),
        months: seconds(it.months_seconds),
        thins: it.thins,
    });
    Ok(RealmSettings { freshness, retention })
}

pub(crate) fn decode_change(payload: &[u8]) -> Result<RealmChange, InvalidRecord> {
    decode::<proto::RealmChange>(payload, "realm change", PAYLOAD_BYTES_MAX)?.try_into()
}

impl From<&RealmChange> for proto::RealmChange {
    fn from(change: &RealmChange) -> Self {
        Self {
            random: change.random.to_vec(),
            stamp: Some(change.stamp.into()),
            operator: change.operator.clone(),
            realm: change.realm.to_string(),
            context: Some((&change.context).into()),
            settings: change.settings.clone(),
        }
    }
}

impl TryFrom<proto::RealmChange> for RealmChange {
    type Error = InvalidRecord;

    fn try_from(change: proto::RealmChange) -> Result<Self, InvalidRecord> {
        decode_settings(&change.settings)?;
        Ok(Self {
            random: random(&change.random, "realm_change.random")?,
            stamp: stamp(change.stamp, "realm_change.stamp")?,
            operator: bounded_name(change.operator, "realm_change.operator")?,
            realm: RealmId::parse(&change.realm).map_err(|_| field("realm_change.realm"))?,
            context: context(change.context.unwrap_or_default(), OF_A_RECORD)?,
            settings: change.settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Context, Control, Envelope, RecordKind, Sha256, Stamp};

    use super::*;
    use crate::control::{decode_control, encode_control};

    #[test]
    fn what_a_realm_wants_comes_back_as_it_was_written() {
        let retention = Retention::parse("all=30d,days=365d,months=forever,thin").unwrap();
        for freshness in [Freshness::Strict, Freshness::default()] {
            let settings = RealmSettings { freshness, retention };
            assert_eq!(decode_settings(&encode_settings(&settings)).unwrap(), settings);
        }
        let wider = proto::RealmSettings { freshness_millis: u32::MAX, retention: None };
        let read = decode_settings(&wider.encode_to_vec()).unwrap();
        let most = Freshness::Within(Duration::from_millis(FRESHNESS_MILLIS_MAX));
        assert_eq!(read, RealmSettings { freshness: most, ..RealmSettings::default() });
    }

    #[test]
    fn a_change_of_a_realm_comes_back_and_one_out_of_bounds_is_refused() {
        let mut change = RealmChange {
            random: [3; 16],
            stamp: Stamp { trusted: true, micros: 7 },
            operator: "uid 0".to_owned(),
            realm: RealmId::built_in(),
            context: Context::default(),
            settings: encode_settings(&RealmSettings::default()),
        };
        let read = |change: &RealmChange| {
            let raw = encode_control(&Control::Realm(change.clone()), None, 0);
            let payload = raw.payload.unwrap();
            let (kind, sha256) = (RecordKind::Realm, Sha256::of(&payload));
            let envelope = Envelope { kind, subject: None, generation: 0, payload: sha256 };
            decode_control(&envelope, &payload)
        };
        assert_eq!(read(&change).unwrap(), Some(Control::Realm(change.clone())));
        change.settings = vec![0; REALM_SETTINGS_BYTES_MAX + 1];
        assert!(read(&change).is_err());
    }
}
