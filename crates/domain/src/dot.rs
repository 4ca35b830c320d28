//! Where a record is: logs, epochs, sequences, dots and cursors.

use std::{fmt, str::FromStr};

use crate::{Chain, SiteName};

/// Names one continuous log of a site: random, never ordered. Printed as 16 lower-case digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which of a site's two logs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LogKind {
    /// Realms, credentials, membership and erasures; small, never pruned.
    Control,
    /// Everything else.
    Files,
}

impl fmt::Display for LogKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Files => "files",
        })
    }
}

/// Names a log among those of all sites; the order is only there to have one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogId {
    /// The site that writes it.
    pub site: SiteName,
    /// Which of its logs.
    pub epoch: Epoch,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.epoch)
    }
}

/// A log with what must be known to read it from its beginning.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Log {
    /// Its name.
    pub id: LogId,
    /// What it holds.
    pub kind: LogKind,
    /// The log that it continues; none for a site's first.
    pub predecessor: Option<Predecessor>,
}

/// The end of a log as its site knew it when it opened the next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Predecessor {
    /// Its epoch; the site is the same.
    pub epoch: Epoch,
    /// Its last sequence.
    pub sequence: u64,
    /// Its chain there.
    pub chain: Chain,
}

/// How far a site has applied a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The log.
    pub log: Log,
    /// The last sequence applied; 0 where none is.
    pub sequence: u64,
    /// The chain there.
    pub chain: Chain,
}

impl Cursor {
    /// The place before the first record.
    pub fn at_beginning(log: Log) -> Self {
        let chain = Chain::begin(&log);
        Self { log, sequence: 0, chain }
    }
}

/// A record's address. Printed `london/9f3a61c2d04b77e1/118`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dot {
    /// The log it is in.
    pub log: LogId,
    /// Its place there, from 1.
    pub sequence: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.sequence)
    }
}

impl FromStr for Dot {
    type Err = InvalidDot;

    /// Reads a dot as it is printed, with its whole epoch.
    fn from_str(text: &str) -> Result<Self, InvalidDot> {
        let DotRef { site, epoch_prefix, sequence } = text.parse()?;
        let epoch = (epoch_prefix.len() == 16)
            .then(|| u64::from_str_radix(&epoch_prefix, 16).ok())
            .flatten()
            .ok_or(InvalidDot)?;
        Ok(Self { log: LogId { site, epoch: Epoch(epoch) }, sequence })
    }
}

/// A dot as a person writes it, with any prefix of the epoch: `london/9f3a/118`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DotRef {
    /// The site.
    pub site: SiteName,
    /// 1 to 16 lower-case hexadecimal digits.
    pub epoch_prefix: String,
    /// The place in the log.
    pub sequence: u64,
}

/// Why a text is no dot.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a dot: expected site/epoch/sequence, for example london/9f3a61c2d04b77e1/118; a unique \
     prefix of the epoch will do"
)]
pub struct InvalidDot;

impl FromStr for DotRef {
    type Err = InvalidDot;

    fn from_str(text: &str) -> Result<Self, InvalidDot> {
        let mut parts = text.split('/');
        let (Some(site), Some(epoch), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidDot);
        };
        let epoch_fits =
            (1..=16).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_hexdigit());
        let sequence_fits = sequence.bytes().all(|b| b.is_ascii_digit());
        if !epoch_fits || !sequence_fits {
            return Err(InvalidDot);
        }
        Ok(Self {
            site: SiteName::parse(site).map_err(|_| InvalidDot)?,
            epoch_prefix: epoch.to_ascii_lowercase(),
            sequence: sequence.parse().ok().filter(|n| *n > 0).ok_or(InvalidDot)?,
        })
    }
}

impl fmt::Display for DotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.epoch_prefix, self.sequence)
    }
}

impl From<&Dot> for DotRef {
    /// Means that very dot.
    fn from(dot: &Dot) -> Self {
        Self {
            site: dot.log.site.clone(),
            epoch_prefix: dot.log.epoch.to_string(),
            sequence: dot.sequence,
        }
    }
}

impl DotRef {
    /// Whether this may stand for a record of that log.
    pub fn matches(&self, log: &LogId) -> bool {
        self.site == log.site && log.epoch.to_string().starts_with(&self.epoch_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_is_read_as_it_is_printed_and_by_any_prefix_of_its_epoch() {
        let log =
            LogId { site: SiteName::parse("london").unwrap(), epoch: Epoch(0x9f3a_61c2_d04b_77e1) };
        let dot = Dot { log: log.clone(), sequence: 118 };
        assert_eq!(dot.to_string(), "london/9f3a61c2d04b77e1/118");
        for text in ["london/9f3a61c2d04b77e1/118", "london/9F3A/118", "london/9/118"] {
            let read: DotRef = text.parse().unwrap();
            assert!(read.matches(&log) && read.sequence == 118, "{text}");
        }
        assert!(!"london/f/118".parse::<DotRef>().unwrap().matches(&log));
        assert_eq!(dot.to_string().parse(), Ok(dot));
        assert_eq!("london/9f3a/118".parse::<Dot>(), Err(InvalidDot));
    }

    #[test]
    fn every_other_text_is_no_dot() {
        for text in [
            "",
            "london",
            "london/9f3a",
            "london/9f3a/0",
            "london/9f3a/-1",
            "london//1",
            "London/9f3a/1",
            "london/xyz/1",
            "london/9f3a/1/2",
            "london/9f3a/+1",
            "london/9f3a61c2d04b77e1a/1",
            "london/9f3a/99999999999999999999",
            "london/9f3a/",
        ] {
            assert_eq!(text.parse::<DotRef>(), Err(InvalidDot), "{text:?}");
        }
    }
}
