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
        // The path comes last, for it may hold spaces.
        let (words, program) = text.split_once("program=")?;
        let value = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key));
        Some(Self {
            version: value("version=")?.to_owned(),
            // What has been replaced since it was started; the kernel says so behind the path.
            program: program.trim_end_matches(" (deleted)").into(),
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

/// Whether the agent of a unit runs this program and has a session with its controller, by its own word. Where the agent
/// of the unit `beside` has none either, the controller is away, and nothing is known against the other.
///
/// # Errors
/// What is otherwise, as a sentence.
pub async fn check(unit: &str, program: &Path, beside: Option<&str>) -> Result<Life, String> {
    let program = program
        .canonicalize()
        .map_err(|error| format!("{} cannot be looked at: {error}", program.display()))?;
    let bus = Bus::default();
    let look = async |unit: &str| bus.look(unit).await.map_err(|error| error.to_string());
    let beside = match beside {
        Some(unit) => Life::parse(&look(unit).await?.status),
        None => None,
    };
    judge(unit, &look(unit).await?, &program, beside.as_ref())
}

fn judge(unit: &str, state: &UnitState, program: &Path, beside: Option<&Life>) -> Result<Life, String> {
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
        return Err(format!(
            "{unit} runs {runs} and not {wanted}; its journal says why (`program` in its agent.toml has to name \
             what the release brings)"
        ));
    }
    if !life.session && beside.is_none_or(|beside| beside.session) {
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
            Life::parse("new=1 version=1.2.3 session=open program=/opt/a/landfall-agent (deleted)"),
            Some(life)
        );
        let life = Life { program: "/opt/my apps/landfall-agent".into(), ..Life::own(false) };
        assert_eq!(Life::parse(&life.to_string()), Some(life));
        assert_eq!(Life::parse(""), None);
        assert_eq!(Life::parse("version=1"), None);
    }

    #[test]
    fn an_agent_is_alive_only_with_that_program_and_a_session() {
        let program = Path::new("/opt/v2/landfall-agent");
        let good = "version=2 session=open program=/opt/v2/landfall-agent";
        assert_eq!(judge("a.service", &unit("active", good), program, None).unwrap().version, "2");
        for (state, expected) in [
            (UnitState::default(), "there is no a.service on this host"),
            (unit("activating", good), "a.service is activating (auto-restart, restarted 3 times)"),
            (unit("active", ""), "a.service does not say what it is: \"\""),
            (
                unit("active", "version=1 session=open program=/usr/bin/landfall-agent"),
                "a.service runs /usr/bin/landfall-agent and not /opt/v2/landfall-agent; its journal says why (`program` in its \
                 agent.toml has to name what the release brings)",
            ),
            (
                unit("active", "version=2 session=none program=/opt/v2/landfall-agent"),
                "a.service has no session with its controller",
            ),
        ] {
            assert_eq!(judge("a.service", &state, program, None).unwrap_err(), expected);
        }
        let silent = unit("active", "version=2 session=none program=/opt/v2/landfall-agent");
        let judge = |session| judge("a.service", &silent, program, Some(&Life::own(session)));
        assert!(judge(true).is_err(), "the controller answers others");
        assert!(judge(false).is_ok(), "it answers nobody");
    }
}
