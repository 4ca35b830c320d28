//! Our own certificate: renewed when two thirds of its life are over, and an alarm where that does not work.

use std::time::Duration;

use anyhow::Context as _;
use bruri_pki::{
    Certificate, SiteKey, certificate,
    files::{self, CA_CERT, NewFile, SITE_CERT, SITE_KEY},
};
use bruri_replication::tls::Validity;
use bruri_wire::proto::membership::v1::{RenewRequest, RenewResponse};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Members, now};

/// The certificate may be replaced by hand, and the clock set: it is looked at so often.
const LOOK_AT_MOST: Duration = Duration::from_hours(1);
/// And no more often than this where renewing fails.
const LOOK_AT_LEAST: Duration = Duration::from_secs(10);
const SECONDS_A_DAY: i64 = 24 * 60 * 60;
/// Days before the end at which an alarm is raised.
const ALARM_DAYS: [i64; 3] = [1, 7, 30];

impl Members {
    /// Keeps the certificate valid until `stop`.
    pub(super) async fn keep_certificate(&self, stop: CancellationToken) {
        let mut alarmed = None;
        loop {
            let validity = self.0.tls.validity();
            let is_due = self.0.renews && now().unix_timestamp() >= renewed_at(validity);
            if is_due && let Err(error) = self.renew_ours().await {
                tracing::warn!("the certificate is not renewed yet; trying on: {error:#}");
            }
            let validity = self.0.tls.validity();
            let alarm = alarm(validity, now().unix_timestamp());
            if let Some(days) = alarm.filter(|_| alarm != alarmed) {
                tracing::error!(
                    days,
                    "this site's certificate ends within so many days, and with it replication"
                );
            }
            alarmed = alarm;
            tokio::select! {
                () = stop.cancelled() => return,
                // Time is what is waited for.
                () = sleep(next_look(validity, now().unix_timestamp())) => {}
            }
        }
    }

    async fn renew_ours(&self) -> anyhow::Result<()> {
        let pki = &self.0.pki;
        let read = |name: &str| {
            let path = pki.join(name);
            files::read(&path)?.with_context(|| format!("{} is missing", path.display()))
        };
        let key = SiteKey::read(&read(SITE_KEY)?).context("read this site's key")?;
        let asked = RenewRequest {
            certificate: read(SITE_CERT)?,
            certificate_request: key.request()?,
            forwarded: false,
        };
        let renewed = if let Some(authority) = self.authority()? {
            self.renew(&authority, &asked).await?
        } else {
            let members = self.store().membership().await?;
            self.ask_for_renewal(&self.whom_to_ask(&members), &asked).await?
        };
        self.install(&key, &renewed).context("use the new certificate")
    }

    /// Puts the new files into the place of the old ones, if they are what was asked for.
    fn install(&self, key: &SiteKey, renewed: &RenewResponse) -> anyhow::Result<()> {
        let chain = certificate::parse(&renewed.certificate)?;
        let trusted = certificate::parse(&renewed.authorities)?;
        let leaf = chain.first().context("there is none")?;
        anyhow::ensure!(key.fits(leaf), "it is not for this site's key");
        let ours = self.0.tls.ours();
        let named = Some((ours.deployment.clone(), Some(ours.site.to_string())));
        anyhow::ensure!(leaf.name == named, "it is not for this site");
        let is_signed = |ca: &Certificate| ca.is_ca && leaf.is_signed_by(ca);
        anyhow::ensure!(
            trusted.iter().any(is_signed),
            "it is of none of the CAs that came with it"
        );
        let not_after = leaf.not_after.unix_timestamp();
        anyhow::ensure!(
            not_after > self.0.tls.validity().not_after,
            "it ends no later than the present one: the CA itself ends soon"
        );
        if !self.holds_ca() {
            files::replace(&self.0.pki, &NewFile::public(CA_CERT, &renewed.authorities))?;
        }
        files::replace(&self.0.pki, &NewFile::public(SITE_CERT, &renewed.certificate))?;
        self.0.tls.reload()?;
        tracing::info!(valid_until = %leaf.not_after.date(), "this site's certificate was renewed");
        Ok(())
    }
}

/// When two thirds of its life are over, in seconds since 1970.
fn renewed_at(validity: Validity) -> i64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    validity.not_before.saturating_add(life.saturating_div(3).saturating_mul(2))
}

/// Within how many days it ends, where that is short of its life: one that never lasts long is no alarm.
fn alarm(validity: Validity, now: i64) -> Option<i64> {
    let life = validity.not_after.saturating_sub(validity.not_before);
    let left = validity.not_after.saturating_sub(now);
    let is_near = |days: &i64| {
        let near = days.saturating_mul(SECONDS_A_DAY);
        left <= near && near.saturating_mul(3) <= life
    };
    ALARM_DAYS.into_iter().find(is_near)
}

fn next_look(validity: Validity, now: i64) -> Duration {
    let seconds = |s: i64| Duration::from_secs(u64::try_from(s).unwrap_or(0));
    let due = renewed_at(validity).saturating_sub(now);
    if due > 0 {
        return seconds(due).clamp(LOOK_AT_LEAST, LOOK_AT_MOST);
    }
    let left = validity.not_after.saturating_sub(now);
    seconds(left.saturating_div(50)).clamp(LOOK_AT_LEAST, LOOK_AT_MOST)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use super::*;

    const DAY: i64 = SECONDS_A_DAY;

    fn of_days(days: i64) -> Validity {
        Validity { not_before: 0, not_after: days * DAY }
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        assert_eq!(renewed_at(of_days(366)), 244 * DAY);
        assert_eq!(next_look(of_days(366), 0), LOOK_AT_MOST);
        assert_eq!(next_look(of_days(366), 244 * DAY - 60), Duration::from_mins(1));
        // Past that it is tried again and again, the more often the less is left.
        assert_eq!(next_look(of_days(366), 250 * DAY), LOOK_AT_MOST);
        assert_eq!(next_look(of_days(366), 366 * DAY), LOOK_AT_LEAST);
    }

    #[test]
    fn an_alarm_is_raised_at_30_7_and_1_days_unless_the_certificate_never_lasts_long() {
        for (left, expected) in
            [(31, None), (30, Some(30)), (8, Some(30)), (7, Some(7)), (1, Some(1)), (-1, Some(1))]
        {
            assert_eq!(alarm(of_days(365), (365 - left) * DAY), expected, "{left}");
        }
        assert_eq!(alarm(of_days(30), 5 * DAY), None);
        assert_eq!(alarm(of_days(30), 24 * DAY), Some(7));
        assert_eq!(alarm(of_days(1), DAY), None);
    }
}
