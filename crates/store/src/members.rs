//! Tables `member` and `invite`: the sites of the deployment, and who may become one.

use std::time::Duration;

use bruri_domain::{
    Control, Member, MemberState, Membership, Random, Sha256, SiteName, Stamp,
    limits::{INVITES_MAX, MEMBERS_MAX},
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, signed},
    control::Draft,
};

/// What a site is told to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// The site.
    pub site: SiteName,
    /// What it is to the others.
    pub state: MemberState,
    /// Where it is reached, `host:port` each.
    pub addresses: Vec<String>,
    /// It holds the deployment's CA.
    pub issues: bool,
    /// Who says so.
    pub operator: String,
}

impl Store {
    /// All that is known of the sites of the deployment.
    pub async fn membership(&self) -> Result<Membership, StoreError> {
        let rows = sqlx::query!(
            "select site, is_retired, addresses, issues, operator, is_trusted, stamp_micros, random
               from member"
        )
        .fetch_all(self.pool())
        .await?;
        let mut members = Vec::with_capacity(rows.len());
        for found in rows {
            let row = Row { table: "member", key: &found.site };
            let site = SiteName::parse(&found.site).map_err(|_| row.corrupt("site"))?;
            let micros = row.number("stamp_micros", found.stamp_micros)?;
            members.push(Member {
                random: found.random.try_into().map_err(|_| row.corrupt("random"))?,
                stamp: Stamp { micros, trusted: found.is_trusted },
                site,
                state: if found.is_retired { MemberState::Retired } else { MemberState::Joined },
                addresses: found.addresses,
                issues: found.issues,
                operator: found.operator,
            });
        }
        Ok(members.into_iter().collect())
    }

    /// Tells all sites what these are.
    ///
    /// # Errors
    /// [`StoreError::TooManyMembers`] where there would be more than 4096.
    pub async fn tell_members(&self, news: Vec<News>) -> Result<(), StoreError> {
        let drafts: Vec<Draft> =
            news.into_iter().map(|news| self.member_draft(news, rand::random())).collect();
        let mut transaction = self.begin_append().await?;
        bound(&mut transaction, drafts.len()).await?;
        let appended = self.append_control(&mut transaction, &drafts).await?;
        transaction.commit().await?;
        self.appended(appended);
        Ok(())
    }

    /// Notes an invitation for a site, of whose secret this is the hash; good for so long by the
    /// database's clock.
    ///
    /// # Errors
    /// [`StoreError::TooManyInvites`] where 1000 are open.
    pub async fn invite(
        &self,
        secret: &[u8; 32],
        site: &SiteName,
        valid: Duration,
    ) -> Result<(), StoreError> {
        sqlx::query!("delete from invite where expires_at <= now()").execute(self.pool()).await?;
        let noted = sqlx::query!(
            "insert into invite (secret_sha256, site, expires_at)
             select $1, $2, now() + make_interval(secs => $3)
              where (select count(*) from invite) < $4",
            secret.as_slice(),
            site.as_str(),
            valid.as_secs_f64(),
            i64::from(INVITES_MAX),
        )
        .execute(self.pool())
        .await?;
        if noted.rows_affected() == 0 {
            return Err(StoreError::TooManyInvites);
        }
        Ok(())
    }

    /// The site for which an invitation is good, if it is and was not redeemed for another key.
    pub async fn invited(
        &self,
        secret: &[u8; 32],
        key: &[u8; 32],
    ) -> Result<Option<SiteName>, StoreError> {
        let found = sqlx::query_scalar!(
            "select site from invite
              where secret_sha256 = $1 and expires_at > now()
                and coalesce(key_sha256 = $2, true)",
            secret.as_slice(),
            key.as_slice(),
        )
        .fetch_optional(self.pool())
        .await?;
        found.map(|site| site_of(&site)).transpose()
    }

    /// Redeems an invitation for a key and makes its site a member, in one transaction. The same key may ask
    /// again and changes nothing. `false` where the invitation is not good any more.
    pub async fn redeem(
        &self,
        secret: &[u8; 32],
        key: &[u8; 32],
        news: News,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_append().await?;
        let redeemed = sqlx::query!(
            "update invite set key_sha256 = $2
              where secret_sha256 = $1 and site = $3 and expires_at > now()
                and coalesce(key_sha256 = $2, true)
                and not exists (select from member where site = $3 and is_retired)",
            secret.as_slice(),
            key.as_slice(),
            news.site.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        if redeemed.rows_affected() == 0 {
            return Ok(false);
        }
        bound(&mut transaction, 1).await?;
        // Of the invitation's own bits, so that it is one record however often it is asked for.
        let draft = self.member_draft(news, random_of(secret, key));
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        self.appended(appended);
        Ok(true)
    }

    fn member_draft(&self, news: News, random: Random) -> Draft {
        let News { site, state, addresses, issues, operator } = news;
        let stamp = self.stamp();
        let member = Member { random, stamp, site, state, addresses, issues, operator };
        Draft { control: Control::Member(member), subject: None, generation: 0 }
    }
}

async fn bound(transaction: &mut PgConnection, more: usize) -> Result<(), StoreError> {
    let known = sqlx::query_scalar!(r#"select count(*) as "count!" from member"#)
        .fetch_one(transaction)
        .await?;
    let known = usize::try_from(known).unwrap_or(usize::MAX);
    if known.saturating_add(more) > MEMBERS_MAX {
        return Err(StoreError::TooManyMembers);
    }
    Ok(())
}

fn random_of(secret: &[u8; 32], key: &[u8; 32]) -> Random {
    let hash = Sha256::of(&[secret.as_slice(), key].concat());
    let mut random = [0; 16];
    random.copy_from_slice(&hash.as_bytes()[..16]);
    random
}

fn site_of(text: &str) -> Result<SiteName, StoreError> {
    SiteName::parse(text).map_err(|_| Row { table: "invite", key: &text }.corrupt("site"))
}

/// Takes in what a record tells of a site, if it outranks what is known: see [`Member::outranks`].
pub(crate) async fn apply(
    transaction: &mut PgConnection,
    member: &Member,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into member as known
                (site, is_retired, addresses, issues, operator, is_trusted, stamp_micros, random)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (site) do update
            set is_retired = excluded.is_retired, addresses = excluded.addresses,
                issues = excluded.issues, operator = excluded.operator,
                is_trusted = excluded.is_trusted, stamp_micros = excluded.stamp_micros,
                random = excluded.random
          where (excluded.is_retired, excluded.is_trusted, excluded.stamp_micros, excluded.random)
              > (known.is_retired, known.is_trusted, known.stamp_micros, known.random)",
        member.site.as_str(),
        member.state == MemberState::Retired,
        &member.addresses,
        member.issues,
        member.operator,
        member.stamp.trusted,
        signed(member.stamp.micros),
        member.random.as_slice(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
