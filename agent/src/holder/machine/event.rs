//! What a holder's machine is told, and what it wants done.

use super::Serial;
use crate::holder::spec::{ChildSpec, EndNote, Reply, Request};

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The agent asks.
    Request(Request),
    /// A process was started.
    Started {
        /// Which.
        serial: Serial,
        /// Its id.
        pid: u32,
    },
    /// A process shows that it is ready.
    Ready {
        /// Which.
        serial: Serial,
    },
    /// A process has ended, or could not be started.
    Ended {
        /// Which.
        serial: Serial,
        /// How.
        note: EndNote,
    },
    /// The last lines of a process whose failure was decided here.
    Tail {
        /// Which handover.
        attempt: String,
        /// The lines.
        lines: Vec<String>,
        /// What it did instead of showing that it is ready, as a sentence.
        instead: Option<String>,
    },
    /// Time has passed.
    Tick,
    /// End everything and come back after the next start of the host.
    Terminate,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an effect that is not carried out leaves the machine waiting for what never happens"]
pub enum Effect {
    /// Start a process, and report [`Event::Started`] or [`Event::Ended`].
    Start {
        /// Its number.
        serial: Serial,
        /// What it runs.
        child: ChildSpec,
    },
    /// Ask a process and its group to end.
    Terminate {
        /// Which.
        serial: Serial,
    },
    /// End it at once.
    Kill {
        /// Which.
        serial: Serial,
    },
    /// Report [`Event::Tail`].
    ReadTail {
        /// Of which process.
        serial: Serial,
        /// For which handover.
        attempt: String,
    },
    /// Answer the request.
    Answer(Reply),
    /// Refuse the connections to an address until [`Effect::Admit`]: those that wait, and those to come.
    Refuse {
        /// Which.
        address: String,
    },
    /// Leave them to whoever accepts them.
    Admit,
    /// End the holder.
    Exit {
        /// Whether its record is removed too.
        forget: bool,
    },
}
