//! Which sites belong to the deployment: what records tell of each, and who is let in.

use std::collections::BTreeMap;

use crate::{
    SiteName, Stamp,
    limits::{HOST_AND_PORT_CHARS_MAX, MEMBER_ADDRESSES_MAX},
};

/// The payload of a membership record: what one site tells of another, or of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Unique within the log.
    pub random: [u8; 16],
    /// The origin's time.
    pub stamp: Stamp,
    /// The site that it is about.
    pub site: SiteName,
    /// What the site is to the others.
    pub state: MemberState,
    /// Where it is reached, `host:port` each.
    pub addresses: Vec<String>,
    /// It holds the deployment's CA.
    pub issues: bool,
    /// Who caused it.
    pub operator: String,
}

/// What a site is to the others; a retirement outranks all else, for ever.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemberState {
    /// One of the deployment.
    Joined,
    /// Refused everywhere.
    Retired,
}

impl Member {
    /// Whether this counts and not the other, of two about one site. A total order, so that the outcome of
    /// many does not depend on the order in which they came.
    pub fn outranks(&self, other: &Self) -> bool {
        let rank = |m: &Self| (m.state, m.stamp.trusted, m.stamp.micros, m.random);
        rank(self) > rank(other)
    }
}

/// Whether a text is the address of a site: a host, a colon, a port.
pub fn is_address(text: &str) -> bool {
    let fits = |host: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        // An IPv6 address stands in brackets, so that its colons are none of the port.
        !host.is_empty() && host.bytes().all(valid) && host.starts_with('[') == host.contains(':')
    };
    text.len() <= HOST_AND_PORT_CHARS_MAX
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            fits(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Whether these may stand in a record.
pub fn are_addresses(texts: &[String]) -> bool {
    texts.len() <= MEMBER_ADDRESSES_MAX && texts.iter().all(|text| is_address(text))
}

/// All that is known of the sites of the deployment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Membership(BTreeMap<SiteName, Member>);

/// Why a site is refused though its certificate is good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAdmitted {
    /// It was a member.
    #[error(
        "site {0} was retired: a retired name never comes back, invite the site under another one"
    )]
    Retired(SiteName),
    /// The deployment has members, and this is none.
    #[error(
        "site {0} is no member: invite it with `bruri site invite {0}`, or admit it with its own certificate \
         by `bruri site admit {0}`"
    )]
    Unknown(SiteName),
}

impl Membership {
    /// Takes in what one record tells.
    pub fn apply(&mut self, member: Member) {
        match self.0.get(&member.site) {
            Some(known) if !member.outranks(known) => {}
            _ => drop(self.0.insert(member.site.clone(), member)),
        }
    }

    /// What is known of a site.
    pub fn get(&self, site: &SiteName) -> Option<&Member> {
        self.0.get(site)
    }

    /// All, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.0.values()
    }

    /// Those that were not retired.
    pub fn joined(&self) -> impl Iterator<Item = &Member> {
        self.all().filter(|member| member.state == MemberState::Joined)
    }

    /// Whether the deployment has members, so that a certificate alone lets nobody in.
    pub fn is_closed(&self) -> bool {
        self.joined().next().is_some()
    }

    /// Whether a site whose certificate is good is let in. While nobody ever joined, the certificate alone
    /// counts: such a deployment makes its certificates by hand.
    pub fn admits(&self, site: &SiteName) -> Result<(), NotAdmitted> {
        match self.get(site).map(|member| member.state) {
            Some(MemberState::Retired) => Err(NotAdmitted::Retired(site.clone())),
            None if self.is_closed() => Err(NotAdmitted::Unknown(site.clone())),
            Some(MemberState::Joined) | None => Ok(()),
        }
    }
}

impl FromIterator<Member> for Membership {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut membership = Self::default();
        members.into_iter().for_each(|member| membership.apply(member));
        membership
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site(name: &str) -> SiteName {
        SiteName::parse(name).unwrap()
    }

    fn member(name: &str, micros: u64, state: MemberState) -> Member {
        Member {
            random: [0; 16],
            stamp: Stamp { micros, trusted: true },
            site: site(name),
            state,
            addresses: vec![format!("{name}.example:7{micros}")],
            issues: false,
            operator: String::new(),
        }
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let sites = prop::sample::select(vec!["london", "tokyo", "paris"]);
        (sites, 0..4_u64, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
            |(name, micros, retired, trusted, random)| {
                let state = if retired { MemberState::Retired } else { MemberState::Joined };
                let stamp = Stamp { trusted, micros };
                // Records of equal random bits are one record.
                let addresses = vec![format!("{name}:{}", u16::from(random).saturating_add(1))];
                Member { stamp, random: [random; 16], addresses, ..member(name, micros, state) }
            },
        )
    }

    proptest! {
        #[test]
        fn every_order_of_the_records_ends_in_the_same_membership(
            (members, shuffled) in prop::collection::vec(any_member(), 0..12)
                .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle()))
        ) {
            let once: Membership = members.clone().into_iter().collect();
            let other: Membership = shuffled.into_iter().chain(members).collect();
            prop_assert_eq!(once, other);
        }

        #[test]
        fn a_retirement_outranks_all_else_for_ever(members in prop::collection::vec(any_member(), 0..12)) {
            let all: Membership = members.iter().cloned().collect();
            for retired in members.iter().filter(|m| m.state == MemberState::Retired) {
                let refused = Err(NotAdmitted::Retired(retired.site.clone()));
                prop_assert_eq!(all.admits(&retired.site), refused);
            }
        }
    }

    #[test]
    fn of_two_that_tell_of_a_site_the_later_one_counts() {
        let members = [1, 3, 2].map(|micros| member("tokyo", micros, MemberState::Joined));
        let all: Membership = members.into_iter().collect();
        assert_eq!(all.get(&site("tokyo")).unwrap().addresses, ["tokyo.example:73"]);
    }

    #[test]
    fn while_nobody_joined_a_certificate_is_enough_and_then_no_more() {
        let mut all = Membership::default();
        assert_eq!(all.admits(&site("paris")), Ok(()));
        all.apply(member("berlin", 1, MemberState::Retired));
        assert_eq!(all.admits(&site("paris")), Ok(()));
        assert!(all.admits(&site("berlin")).is_err());
        all.apply(member("tokyo", 1, MemberState::Joined));
        assert_eq!(all.admits(&site("tokyo")), Ok(()));
        assert_eq!(all.admits(&site("paris")), Err(NotAdmitted::Unknown(site("paris"))));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["london.example:7440", "192.0.2.1:1", "[2001:db8::1]:7440"] {
            assert!(is_address(text), "{text}");
        }
        for text in
            ["", "london", "london:", ":7440", "london:0", "london:70000", "2001::1:7440", "a b:1"]
        {
            assert!(!is_address(text), "{text}");
        }
        assert!(!are_addresses(&vec!["a:1".to_owned(); MEMBER_ADDRESSES_MAX + 1]));
    }
}
