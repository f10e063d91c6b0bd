//! What the agent tells systemd of itself, and how a check of its own releases reads it: which program it is, and
//! whether it has a session with its controller.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::drivers::systemd::{Bus, UnitState};
use crate::program;

/// The status text of the agent's unit (`systemctl status landfall-agent`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The version of the program.
    pub version: String,
    /// Where the program is.
    pub program: PathBuf,
    /// Whether the controller answers.
    pub session: bool,
}

impl Life {
    /// That of this process.
    #[must_use]
    pub fn own(session: bool) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), program: program::own_path(), session }
    }

    /// Tells systemd.
    pub fn tell(&self) {
        notify(&[sd_notify::NotifyState::Status(&self.to_string())]);
    }

    /// Out of the status text; what a newer agent adds is ignored.
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let (_, rest) =
                text.split_once(key).filter(|(before, _)| before.is_empty() || before.ends_with(' '))?;
            Some(rest.split(' ').next().unwrap_or_default())
        };
        Some(Self {
            version: value("version=")?.to_owned(),
            program: value("program=")?.into(),
            session: value("session=")? == "open",
        })
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = if self.session { "open" } else { "none" };
        write!(f, "version={} session={session} program={}", self.version, self.program.display())
    }
}

/// Says something to systemd, if it runs this process.
pub(crate) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Whether the agent of a unit runs this program and has a session with its controller.
///
/// # Errors
/// What is otherwise, as a sentence.
pub async fn check(unit: &str, program: &Path) -> Result<Life, String> {
    let program = program
        .canonicalize()
        .map_err(|error| format!("{} cannot be looked at: {error}", program.display()))?;
    let state = Bus::default().look(unit).await.map_err(|error| error.to_string())?;
    judge(unit, &state, &program)
}

fn judge(unit: &str, state: &UnitState, program: &Path) -> Result<Life, String> {
    if !state.is_found() {
        return Err(format!("there is no {unit} on this host"));
    }
    if state.active != "active" {
        let restarts = match state.restarts {
            0 => String::new(),
            restarts => format!(", restarted {restarts} times"),
        };
        return Err(format!("{unit} is {} ({}{restarts})", state.active, state.sub));
    }
    let Some(life) = Life::parse(&state.status) else {
        return Err(format!("{unit} does not say what it is: {:?}", state.status));
    };
    if life.program != program {
        let (runs, wanted) = (life.program.display(), program.display());
        return Err(format!("{unit} runs {runs} and not {wanted}; its journal says why"));
    }
    if !life.session {
        return Err(format!("{unit} has no session with its controller"));
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(active: &str, status: &str) -> UnitState {
        UnitState {
            load: "loaded".into(),
            active: active.into(),
            sub: if active == "active" { "running" } else { "auto-restart" }.into(),
            restarts: 3,
            status: status.into(),
            ..UnitState::default()
        }
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        let life = Life { version: "1.2.3".into(), program: "/opt/a/landfall-agent".into(), session: true };
        assert_eq!(life.to_string(), "version=1.2.3 session=open program=/opt/a/landfall-agent");
        assert_eq!(Life::parse(&life.to_string()), Some(life.clone()));
        assert_eq!(
            Life::parse("new=1 version=1.2.3 session=open program=/opt/a/landfall-agent x=y"),
            Some(life)
        );
        assert_eq!(Life::parse(""), None);
        assert_eq!(Life::parse("version=1"), None);
    }

    #[test]
    fn an_agent_is_alive_only_with_that_program_and_a_session() {
        let program = Path::new("/opt/v2/landfall-agent");
        let good = "version=2 session=open program=/opt/v2/landfall-agent";
        assert_eq!(judge("a.service", &unit("active", good), program).unwrap().version, "2");
        for (state, expected) in [
            (UnitState::default(), "there is no a.service on this host"),
            (unit("activating", good), "a.service is activating (auto-restart, restarted 3 times)"),
            (unit("active", ""), "a.service does not say what it is: \"\""),
            (
                unit("active", "version=1 session=open program=/usr/bin/landfall-agent"),
                "a.service runs /usr/bin/landfall-agent and not /opt/v2/landfall-agent; its journal says why",
            ),
            (
                unit("active", "version=2 session=none program=/opt/v2/landfall-agent"),
                "a.service has no session with its controller",
            ),
        ] {
            assert_eq!(judge("a.service", &state, program).unwrap_err(), expected);
        }
    }
}
