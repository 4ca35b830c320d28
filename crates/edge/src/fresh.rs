//! How fresh an answer is: whether this site's own database does, or the peers are asked first.

use std::{collections::BTreeMap, fmt, pin::Pin, time::Duration};

use bruri_domain::{
    FileId, FileState, Freshness, Remembered, Sha256,
    limits::{ASK_MILLIS_MAX, ASK_NOTHING_MILLIS_MAX},
};
use bruri_store::{Found, Served, StoreError};
use bytes::Bytes;
use http::HeaderValue;
use tokio::time::{Instant, timeout};

use crate::{
    Edge, EdgeError,
    damage::{self, Mended},
    metrics,
};

const ASK: Duration = Duration::from_millis(ASK_MILLIS_MAX);
/// The same where there is nothing here, or nothing that can be used.
pub(crate) const ASK_NOTHING: Duration = Duration::from_millis(ASK_NOTHING_MILLIS_MAX);

/// The peers of a site, as its reads see them; a site without any is alone ([`Alone`]).
pub trait Peers: Send + Sync {
    /// A phone reads. What is read from the database after this call is as fresh as it says.
    fn read(&self) -> Standing;

    /// Asks all sites that are not away what they know of a file beyond what is known here, for so long at most.
    fn ask<'a>(
        &'a self,
        file: &'a FileId,
        known: &'a FileState,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Told> + Send + 'a>>;
}

/// How a site stands to the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Until when it has all that every site had which is not away; none where it does not know.
    pub until: Option<Instant>,
    /// Sites that are away.
    pub away: usize,
}

/// What the peers told of a file.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What they know.
    pub state: FileState,
    /// Bodies of its heads; one that has yet to arrive there is lacking.
    pub bodies: BTreeMap<Sha256, Bytes>,
    /// Every site that is not away has told.
    pub is_complete: bool,
    /// Some of them through another.
    pub via_hub: bool,
    /// Sites that are away.
    pub away: usize,
    /// Not all files are known here yet, and nobody was there who knows them.
    pub is_in_the_dark: bool,
}

/// No peers: what is here is all there is.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Peers for Alone {
    fn read(&self) -> Standing {
        Standing { until: Some(Instant::now()), away: 0 }
    }

    fn ask<'a>(
        &'a self,
        _: &'a FileId,
        _: &'a FileState,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = Told> + Send + 'a>> {
        Box::pin(async { Told { is_complete: true, ..Told::default() } })
    }
}

/// How an answer came about; written as the header `Bruri-Freshness`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    how: How,
    away: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    /// It holds all that was anywhere then.
    Bounded(Instant),
    /// It holds all that was anywhere when the phone asked.
    Asked { via_hub: bool },
    /// Nobody knows what may be elsewhere.
    Local,
}

impl Origin {
    /// Of what peers told.
    pub(crate) fn told(told: &Told) -> Self {
        let how = if told.is_complete { How::Asked { via_hub: told.via_hub } } else { How::Local };
        Self { how, away: told.away }
    }

    /// The header's value, with ages as of now.
    pub(crate) fn header(self) -> HeaderValue {
        // Words and numbers are always a header's value.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static("local"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Bounded(until) => {
                write!(f, "bounded={}", until.elapsed().as_micros().div_ceil(1000))?;
            }
            How::Asked { .. } => f.write_str("asked")?,
            How::Local => f.write_str("local")?,
        }
        if self.away > 0 {
            write!(f, "; away={}", self.away)?;
        }
        if self.how == (How::Asked { via_hub: true }) {
            f.write_str("; via=hub")?;
        }
        Ok(())
    }
}

/// Reads what a phone gets, as fresh as its realm wants it.
pub(crate) async fn read(edge: &Edge, file: &FileId) -> Result<(Served, Origin), EdgeError> {
    let freshness = edge.freshness();
    let standing = edge.inner.peers.read();
    let fresh = standing.until.filter(|until| freshness.is_met_by(until.elapsed()));
    let within = edge.inner.limits.store;
    let served = timeout(within, edge.inner.lookup.served(file)).await;
    let served = match served.map_err(|_| EdgeError::Late)? {
        Err(error) if error.is_damage() => {
            let mended = timeout(within, damage::mended(edge, file, &error)).await;
            match mended.map_err(|_| EdgeError::Late)?? {
                Mended::Here(served) => served,
                Mended::There(served, origin) => return Ok((served, origin)),
            }
        }
        served => served?,
    };
    let (served, origin) = match fresh {
        Some(until) => (served, Origin { how: How::Bounded(until), away: standing.away }),
        None => timeout(within, asked(edge, file, served)).await.map_err(|_| EdgeError::Late)??,
    };
    metrics::read(match origin.how {
        How::Bounded(_) => "bounded",
        How::Asked { .. } => "asked",
        How::Local => "local",
    });
    Ok((served, origin))
}

/// Joins what is here with what the peers tell; that serves this answer only, since the log brings it.
async fn asked(edge: &Edge, file: &FileId, here: Served) -> Result<(Served, Origin), EdgeError> {
    let within = if here.state.heads().is_empty() { ASK_NOTHING } else { ASK };
    let told = edge.inner.peers.ask(file, &here.state, within).await;
    if told.is_in_the_dark && here.state.heads().is_empty() {
        // It may be on its way here.
        return Err(StoreError::StatesIncomplete.into());
    }
    let origin = Origin::told(&told);
    let state = here.state.joined(&told.state);
    if state == here.state {
        return Ok((here, origin));
    }
    match version(edge, &here, &state, &told).await? {
        Some(version) => {
            let remembered = Remembered::served(&state);
            edge.inner.store.note_told(state.context());
            Ok((Served { version, remembered, state }, origin))
        }
        // The bytes are nowhere to be had in time: what is here is served, and no more is said of it.
        None => Ok((here, Origin { how: How::Local, ..origin })),
    }
}

/// The served version of a joined state: none where there is nothing to get, and nothing where its body is nowhere.
async fn version(
    edge: &Edge,
    here: &Served,
    state: &FileState,
    told: &Told,
) -> Result<Option<Option<Found>>, EdgeError> {
    let Some((head, body)) = state.served().and_then(|head| Some((head, head.body?))) else {
        return Ok(Some(None));
    };
    let served_here = here.version.as_ref().filter(|found| found.head.body == head.body);
    let content = match served_here.map(|found| &found.content).or(told.bodies.get(&body.sha256)) {
        Some(content) => Some(content.clone()),
        None => edge.inner.store.contents(&[body]).await?.remove(&body.sha256),
    };
    Ok(content.map(|content| Some(Found { head: head.clone(), content })))
}

impl Edge {
    /// What the realm wants.
    fn freshness(&self) -> Freshness {
        self.inner.store.realm(&self.inner.realm).freshness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_how_old_how_many_away_and_through_whom() {
        let before = Instant::now() - Duration::from_micros(37_001);
        let bounded = Origin { how: How::Bounded(before), away: 0 }.to_string();
        let millis: u64 = bounded.strip_prefix("bounded=").unwrap().parse().unwrap();
        assert!(millis >= 38, "{bounded}");
        let header = |how, away| Origin { how, away }.to_string();
        assert_eq!(header(How::Asked { via_hub: false }, 0), "asked");
        assert_eq!(header(How::Asked { via_hub: true }, 2), "asked; away=2; via=hub");
        assert_eq!(header(How::Local, 1), "local; away=1");
    }
}
