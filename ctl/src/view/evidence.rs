//! What CI has said of a commit.

use landfall_common::Timestamp;
use landfall_common::evidence::Statement;
use landfall_common::printable;
use landfall_proto::v1;
use landfall_trust::evidence;
use serde::Serialize;

/// A statement that the controller has, verified here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What is said; signed by the key that it names.
    #[serde(flatten)]
    pub statement: Statement,
    /// Who has handed it in, as the controller says.
    pub by: String,
    /// When, as the controller says.
    pub handed_in_at: Timestamp,
}

impl Evidence {
    /// Verifies what the controller shows.
    ///
    /// # Errors
    /// A sentence, where it shows what its key has not signed.
    pub fn verify(shown: v1::Evidence) -> Result<Self, String> {
        let verified = evidence::Evidence::parse(&shown.document)
            .map_err(|error| format!("it shows evidence that is none: {error}"))?;
        let by = printable::line(&shown.by);
        Ok(Self { statement: verified.statement, by, handed_in_at: Timestamp::from_ms(shown.at_ms) })
    }
}

/// Evidence that a release needs to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedEvidence {
    /// What of, such as `tests`.
    pub name: String,
    /// The run that has passed; none if it lacks.
    pub run: Option<u64>,
    /// The key that has signed it; empty if it lacks.
    pub key: String,
    /// Where it can be read; may be empty.
    pub url: String,
    /// Why it lacks; empty if it does not.
    pub why_not: String,
}

impl From<v1::PlannedEvidence> for PlannedEvidence {
    fn from(piece: v1::PlannedEvidence) -> Self {
        Self {
            name: printable::line(&piece.name),
            run: (piece.run > 0).then_some(piece.run),
            key: printable::line(&piece.key),
            url: printable::line(&piece.url),
            why_not: printable::line(&piece.why_not),
        }
    }
}
