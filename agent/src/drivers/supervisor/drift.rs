//! What Supervisor says of a service's programs: what they are configured to be, whether they run, and out of which
//! release, as far as their processes show it.
//!
//! It tells the configuration that it has read last. What somebody wrote into a file and it has not read yet it does
//! not know; nor does it tell a program's environment to anybody.

use std::collections::BTreeMap;

use landfall_agent_core::drift::beside::program::{self, Must};
use landfall_agent_core::drift::beside::{Settings, Things, Value};
use landfall_common::manifest::Supervised;

use super::rpc::{self, RpcError, fault};
use super::{Process, Seen, State, Supervisor, evidence};

/// What is told of a program and says nothing of what it runs: its name, whether its group was added, the URL of
/// Supervisor itself,
const NO_SETTINGS: [&str; 4] = ["name", "group", "inuse", "serverurl"];

/// and where its output goes, to which Supervisor gives another name at each of its starts.
const OUTPUT: [&str; 2] = ["stdout_", "stderr_"];

/// What may hold a secret.
const SECRET: &str = "command";

impl Supervisor<'_> {
    /// In what its programs differ from what was applied.
    ///
    /// # Errors
    /// Why Supervisor cannot be asked.
    pub(super) async fn seen(&self, applied: Option<&Things>) -> Result<Seen, String> {
        let processes = match self.list().await {
            Ok(processes) => processes,
            Err(RpcError::Fault { code: fault::BAD_NAME, .. }) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let configured = self.call("supervisor.getAllConfigInfo", &[]).await.map_err(|e| e.to_string())?;
        let mut configured = self.configured(&configured);
        let mut seen: BTreeMap<String, program::Process> = BTreeMap::new();
        for process in processes {
            let settings = configured.remove(&process.name);
            let shown = (process.state == State::Running)
                .then(|| evidence::release_of(self.context, process.pid))
                .flatten();
            let state = state(&process);
            seen.insert(process.name, program::Process { settings, state, shown });
        }
        let must = Must {
            service: self.name,
            release: &self.context.identity.release,
            applied,
            may_stay: self.signal.is_some(),
        };
        let findings = program::findings(&must, &seen);
        if seen.is_empty() && findings.is_empty() {
            return Err(self.not_there());
        }
        Ok(Seen { findings, applied: program::settings(&seen) })
    }

    /// The settings of the service's own programs.
    fn configured(&self, answer: &rpc::Value) -> BTreeMap<String, Settings> {
        let rpc::Value::List(all) = answer else { return BTreeMap::new() };
        let settings = |value: &rpc::Value| {
            let rpc::Value::Table(table) = value else { return None };
            let text = |key: &str| table.get(key).and_then(rpc::Value::text);
            let (group, name) = (text("group")?, text("name")?);
            let is_setting =
                |key: &str| !NO_SETTINGS.contains(&key) && !OUTPUT.iter().any(|begin| key.starts_with(begin));
            let settings = table.iter().filter(|(key, _)| is_setting(key));
            let settings = settings.map(|(key, value)| (key.clone(), setting(key, value)));
            self.is_own(group, name).then(|| (format!("{group}:{name}"), settings.collect()))
        };
        all.iter().filter_map(settings).collect()
    }

    fn is_own(&self, group: &str, name: &str) -> bool {
        match self.target {
            Supervised::Group { name: own } => own == group,
            Supervised::Program { name: own } => match own.split_once(':') {
                Some((own_group, own_name)) => (own_group, own_name) == (group, name),
                None => own == name && own == group,
            },
        }
    }
}

fn setting(key: &str, value: &rpc::Value) -> Value {
    let text = text(value);
    if key == SECRET { Value::secret(&text) } else { Value::plain(text) }
}

fn text(value: &rpc::Value) -> String {
    match value {
        rpc::Value::Number(number) => number.to_string(),
        rpc::Value::Text(text) => text.clone(),
        rpc::Value::List(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        rpc::Value::Table(_) => String::new(),
    }
}

fn state(process: &Process) -> program::State {
    let down = |word: &str| {
        let why = if process.why.is_empty() { String::new() } else { format!(" ({})", process.why) };
        program::State::Down(format!("{word}{why}"))
    };
    match process.state {
        State::Running => program::State::Up,
        // It is tried again, and given up in the end.
        State::Starting | State::Stopping | State::Backoff => program::State::Changing,
        State::Stopped => down("STOPPED"),
        State::Exited => down("EXITED"),
        State::Fatal => down("FATAL"),
        State::Unknown => down("UNKNOWN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_program_is_kept_as_its_digest_alone() {
        let list = rpc::Value::List(vec![rpc::Value::Number(0), rpc::Value::Number(2)]);
        assert_eq!(setting("exitcodes", &list), Value::plain("0,2"));
        let command = rpc::Value::Text("serve --token=abc".to_owned());
        assert_eq!(setting("command", &command), Value::secret("serve --token=abc"));
    }
}
