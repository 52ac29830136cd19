//! What an agent says of a snapshot, read and bounded: its reasons are kept, and
//! shown to people.

use tidegate_core::document::Mistake;
use tidegate_proto::convert::{BadMessage, Version};
use tidegate_proto::v1::{self, snapshot_status::State};

use crate::model::{Applied, Outcome};

/// Reasons of a failure that are kept.
const MISTAKES: usize = 100;
/// Characters of a reason, and of its place.
const TEXT: usize = 1000;

/// Reads it.
///
/// # Errors
/// What an agent of this version does not say.
pub(super) fn read(status: v1::SnapshotStatus) -> Result<Applied, BadMessage> {
    let outcome = match status.state() {
        State::Applying => Outcome::Applying,
        State::Applied => Outcome::Applied,
        State::Failed => {
            let mistakes = status.mistakes.into_iter().take(MISTAKES);
            Outcome::Failed(mistakes.map(bounded).collect())
        }
        State::Unspecified => return Err(BadMessage::Malformed("state")),
    };
    let version = status.version.ok_or(BadMessage::Missing("version"))?;
    Ok(Applied {
        version: Version::try_from(version)?,
        outcome,
    })
}

/// One line of an agent, as it is kept: without control characters.
pub(super) fn text(said: &str) -> String {
    let shown = said.chars().filter(|c| !c.is_control());
    shown.take(TEXT).collect()
}

fn bounded(wire: v1::Mistake) -> Mistake {
    let cut = |text: String| text.chars().take(TEXT).collect::<String>();
    Mistake::new(cut(wire.pointer), cut(wire.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State) -> v1::SnapshotStatus {
        v1::SnapshotStatus {
            version: Some(v1::Version {
                epoch: uuid::Uuid::nil().to_string(),
                hash: vec![0; 32],
                ..v1::Version::default()
            }),
            state: state.into(),
            mistakes: vec![
                v1::Mistake {
                    pointer: "/listeners/edge".to_owned(),
                    message: "x".repeat(5000),
                };
                500
            ],
        }
    }

    #[test]
    fn reasons_are_bounded_in_number_and_length() {
        let read = read(status(State::Failed)).unwrap();
        let Outcome::Failed(mistakes) = read.outcome else {
            panic!("it failed");
        };
        assert_eq!(mistakes.len(), MISTAKES);
        assert_eq!(mistakes[0].pointer, "/listeners/edge");
        assert_eq!(mistakes[0].message.len(), TEXT);
    }

    #[test]
    fn a_line_is_bounded_and_holds_no_control_character() {
        assert_eq!(text("no\0t\nhere"), "nothere");
        assert_eq!(text(&"x".repeat(5000)).len(), TEXT);
    }

    #[test]
    fn what_says_nothing_or_of_nothing_is_refused() {
        assert!(read(status(State::Unspecified)).is_err());
        let mut of_nothing = status(State::Applied);
        of_nothing.version = None;
        assert!(read(of_nothing).is_err());
        assert!(read(status(State::Applied)).is_ok());
    }
}
