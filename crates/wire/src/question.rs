//! What sites ask each other while a phone waits.

use std::time::Duration;

use bruri_domain::{
    Context, FileId, FileName, FileState, RealmId, SiteName,
    limits::{ANSWER_MILLIS_MAX, ANSWER_STATE_BYTES_MAX, ASK_FORWARDS_MAX},
};
use prost::bytes::Bytes;

use crate::{
    proto::replication::v1::{self as proto, have_newer_response::Outcome},
    record::{decode_context, decode_state, encode_context, encode_state},
    replication::{InvalidMessage, invalid},
};

/// A question about a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The file.
    pub file: FileId,
    /// In which generation the asker knows it.
    pub generation: u64,
    /// What the asker has seen of it, within the bounds of a record.
    pub context: Context,
    /// Sites to ask in the asker's place.
    pub forward: Vec<SiteName>,
    /// For how long the asker waits; at most [`ANSWER_MILLIS_MAX`].
    pub within: Duration,
}

/// What a site tells of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Nothing that the asker does not know.
    NothingNewer,
    /// All that is known, and the bodies of heads that the asker does not know.
    Newer {
        /// What is known.
        state: FileState,
        /// Bodies, each once.
        bodies: Vec<Bytes>,
    },
    /// Its database does not answer, or the answer would be too large.
    CannotTell,
}

impl From<&Question> for proto::HaveNewerRequest {
    fn from(question: &Question) -> Self {
        Self {
            realm: question.file.realm.to_string(),
            file_name: question.file.name.to_string(),
            generation: question.generation,
            context: encode_context(&question.context),
            forward: question.forward.iter().map(ToString::to_string).collect(),
            within_millis: u32::try_from(question.within.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<proto::HaveNewerRequest> for Question {
    type Error = InvalidMessage;

    fn try_from(request: proto::HaveNewerRequest) -> Result<Self, InvalidMessage> {
        let name = FileName::parse(&request.file_name).ok();
        // Another spelling would be another file.
        let name = name.filter(|name| name.as_str() == request.file_name);
        let millis = u64::from(request.within_millis).min(ANSWER_MILLIS_MAX);
        Ok(Self {
            file: FileId {
                realm: RealmId::parse(&request.realm).map_err(|_| invalid("realm"))?,
                name: name.ok_or(invalid("file_name"))?,
            },
            generation: request.generation,
            context: decode_context(&request.context).map_err(|_| invalid("context"))?,
            forward: sites(&request.forward, "forward")?,
            within: Duration::from_millis(millis),
        })
    }
}

/// An answer as it is sent, with the sites for which it speaks too.
pub fn encode_answer(answer: Answer, spoken_for: &[SiteName]) -> proto::HaveNewerResponse {
    let (outcome, state, bodies) = match answer {
        Answer::NothingNewer => (Outcome::NothingNewer, Vec::new(), Vec::new()),
        Answer::CannotTell => (Outcome::CannotTell, Vec::new(), Vec::new()),
        Answer::Newer { state, bodies } => match encode_state(&state) {
            state if state.len() > ANSWER_STATE_BYTES_MAX => {
                (Outcome::CannotTell, Vec::new(), Vec::new())
            }
            state => (Outcome::Newer, state, bodies),
        },
    };
    let speaks = outcome != Outcome::CannotTell;
    let spoken_for = spoken_for.iter().filter(|_| speaks).map(ToString::to_string).collect();
    proto::HaveNewerResponse { outcome: outcome.into(), state, bodies, spoken_for }
}

/// Reads an answer and the sites for which it speaks too.
///
/// # Errors
/// Where it is out of bounds or no answer at all.
pub fn decode_answer(
    response: proto::HaveNewerResponse,
) -> Result<(Answer, Vec<SiteName>), InvalidMessage> {
    let spoken_for = sites(&response.spoken_for, "spoken_for")?;
    let answer = match response.outcome() {
        Outcome::NothingNewer => Answer::NothingNewer,
        // What a later release may say is not understood, so it tells nothing.
        Outcome::CannotTell | Outcome::Unspecified => return Ok((Answer::CannotTell, Vec::new())),
        Outcome::Newer if response.state.len() > ANSWER_STATE_BYTES_MAX => {
            return Err(invalid("state"));
        }
        Outcome::Newer => Answer::Newer {
            state: decode_state(&response.state).map_err(|_| invalid("state"))?,
            bodies: response.bodies,
        },
    };
    Ok((answer, spoken_for))
}

fn sites(names: &[String], field: &'static str) -> Result<Vec<SiteName>, InvalidMessage> {
    if names.len() > ASK_FORWARDS_MAX {
        return Err(invalid(field));
    }
    names.iter().map(|name| SiteName::parse(name).map_err(|_| invalid(field))).collect()
}

#[cfg(test)]
mod tests {
    use bruri_domain::limits::PAYLOAD_BYTES_MAX;

    use super::*;

    fn question() -> Question {
        let name = FileName::parse("299_16xxdata.txt").unwrap();
        Question {
            file: FileId { realm: RealmId::built_in(), name },
            generation: 3,
            context: Context::default(),
            forward: vec![SiteName::parse("tokyo").unwrap()],
            within: Duration::from_millis(150),
        }
    }

    #[test]
    fn a_question_comes_back_as_it_was_asked() {
        let message = proto::HaveNewerRequest::from(&question());
        assert_eq!(Question::try_from(message).unwrap(), question());
    }

    #[test]
    fn a_question_out_of_bounds_is_refused_by_its_field() {
        let good = proto::HaveNewerRequest::from(&question());
        let refused = |change: &dyn Fn(&mut proto::HaveNewerRequest)| {
            let mut message = good.clone();
            change(&mut message);
            Question::try_from(message).unwrap_err().field
        };
        assert_eq!(refused(&|m| m.realm = "../x".into()), "realm");
        assert_eq!(refused(&|m| m.file_name = "299_16XXdata.txt".into()), "file_name");
        assert_eq!(refused(&|m| m.context = vec![0; PAYLOAD_BYTES_MAX + 1]), "context");
        let many = vec!["tokyo".to_owned(); ASK_FORWARDS_MAX + 1];
        assert_eq!(refused(&|m| m.forward.clone_from(&many)), "forward");
    }

    #[test]
    fn nobody_is_asked_to_work_for_longer_than_the_bound() {
        let message = proto::HaveNewerRequest { within_millis: u32::MAX, ..(&question()).into() };
        let within = Question::try_from(message).unwrap().within;
        assert_eq!(within, Duration::from_millis(ANSWER_MILLIS_MAX));
    }

    #[test]
    fn an_answer_comes_back_and_one_of_a_later_release_tells_nothing() {
        let tokyo = vec![SiteName::parse("tokyo").unwrap()];
        let newer = Answer::Newer {
            state: FileState::default(),
            bodies: vec![Bytes::from_static(b"Name=x")],
        };
        for answer in [Answer::NothingNewer, newer] {
            let message = encode_answer(answer.clone(), &tokyo);
            assert_eq!(decode_answer(message).unwrap(), (answer, tokyo.clone()));
        }
        let later = proto::HaveNewerResponse { outcome: 77, ..Default::default() };
        assert_eq!(decode_answer(later).unwrap(), (Answer::CannotTell, Vec::new()));
    }

    #[test]
    fn who_cannot_tell_speaks_for_nobody() {
        let message = encode_answer(Answer::CannotTell, &question().forward);
        assert_eq!(decode_answer(message).unwrap(), (Answer::CannotTell, Vec::new()));
    }
}
