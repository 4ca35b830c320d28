//! The sites of the deployment: listed, invited, admitted, retired.

use bruri_wire::proto::site::v1::{
    AdmitSiteRequest, InviteSiteRequest, ListMembersRequest, Member, RetireSiteRequest,
    member::State, site_service_client::SiteServiceClient,
};
use tonic::transport::Channel;

use crate::{
    connect::{SiteAddress, connect},
    failure::Failure,
    json,
    print::{self, Column, Output},
};

async fn client(site: Option<&SiteAddress>) -> anyhow::Result<SiteServiceClient<Channel>> {
    Ok(SiteServiceClient::new(connect(site).await?))
}

pub(super) async fn list(
    site: Option<&SiteAddress>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let answer = client(site).await?.list_members(ListMembersRequest {}).await;
    let members = answer.map_err(Failure::from)?.into_inner().members;
    if output.json {
        let members: Vec<json::Member> = members.into_iter().map(Into::into).collect();
        return output.json(&members);
    }
    output.text(&told(&members))
}

fn told(members: &[Member]) -> String {
    if members.is_empty() {
        return "no members: whoever has a certificate of the deployment is let in\n".to_owned();
    }
    let columns = [
        Column::Left("SITE"),
        Column::Left("STATE"),
        Column::Left("CA"),
        Column::Left("SINCE"),
        Column::Left("ADDRESSES"),
    ];
    let rows = members.iter().map(|member| {
        vec![
            member.site.clone(),
            json::member_state(member.state()).to_owned(),
            if member.issues { "here" } else { "" }.to_owned(),
            print::time(member.since.as_ref()),
            print::or_nothing(&member.addresses.join(", ")),
        ]
    });
    print::table(&columns, rows)
}

pub(super) async fn invite(
    site: Option<&SiteAddress>,
    name: &str,
    valid_seconds: u64,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let asked = InviteSiteRequest { site: name.to_owned(), valid_seconds };
    let made = client(site).await?.invite_site(asked).await.map_err(Failure::from)?.into_inner();
    let expires_at = print::time(made.expires_at.as_ref());
    if output.json {
        return output.json(&json::Invitation { token: made.token, expires_at });
    }
    output.text(&format!(
        "{}\n\nWith this token, once and until {expires_at}, a machine becomes site {name}:\n\n  \
         brurid join TOKEN\n\nIt is a secret. `brurid join -` reads it from the standard input.\n",
        made.token
    ))
}

pub(super) async fn admit(
    site: Option<&SiteAddress>,
    name: &str,
    addresses: &[String],
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let asked = AdmitSiteRequest { site: name.to_owned(), addresses: addresses.to_vec() };
    client(site).await?.admit_site(asked).await.map_err(Failure::from)?;
    done(name, State::Joined, &format!("site {name} is a member\n"), output)
}

pub(super) async fn retire(
    site: Option<&SiteAddress>,
    name: &str,
    yes: bool,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    if !yes {
        let text = format!(
            "every site will refuse {name}, and the name never comes back; to do it: bruri site retire {name} --yes"
        );
        return Err(Failure::Usage(text).into());
    }
    let asked = RetireSiteRequest { site: name.to_owned() };
    client(site).await?.retire_site(asked).await.map_err(Failure::from)?;
    let text =
        format!("site {name} is retired: refused here, and elsewhere once they have heard\n");
    done(name, State::Retired, &text, output)
}

fn done(name: &str, is: State, text: &str, output: &mut Output<'_>) -> anyhow::Result<()> {
    if output.json {
        return output
            .json(&json::Changed { site: name.to_owned(), state: json::member_state(is) });
    }
    output.text(text)
}

#[cfg(test)]
mod tests {
    use bruri_wire::Timestamp;

    use super::*;

    #[test]
    fn members_are_a_table() {
        let member = |site: &str, state: State, issues| Member {
            site: site.to_owned(),
            state: state.into(),
            addresses: vec![format!("{site}.example:7440")],
            issues,
            since: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        };
        let members =
            [member("london", State::Joined, true), member("tokyo", State::Retired, false)];
        let expected = "\
SITE    STATE    CA    SINCE                 ADDRESSES
london  joined   here  2023-11-14T22:13:20Z  london.example:7440
tokyo   retired        2023-11-14T22:13:20Z  tokyo.example:7440
";
        assert_eq!(told(&members), expected);
        assert!(told(&[]).starts_with("no members"));
    }
}
