//! nginx: one upstream in a file that the agent owns, taken up by a reload.
//!
//! The file also holds a server on an address of this host alone, which answers with the number of the file.
//! A reload returns before the new workers serve; a fresh connection that gets the new number proves that
//! they do. It proves as well, at any later time, that nginx runs with this very file, so that leading
//! requests where they go already reloads nothing: each reload closes idle connections of clients.
//!
//! The old workers finish their requests, however long those take, unless `worker_shutdown_timeout` of
//! nginx.conf bounds them; the slot that they lead to is kept, and drained before it is ended.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use landfall_agent_core::drift::Kind;
use landfall_common::StepName;
use landfall_common::manifest::{Headers, Step};
use landfall_common::report::Failure;
use tokio::time::Instant;

use super::settings::Nginx as Settings;
use super::{Goal, Proxy, ask, failure, replace};
use crate::steps::{self, StepContext};

/// A test or a reload that takes longer is stuck.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// New workers of a large configuration are there within seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often they are asked.
const POLL: Duration = Duration::from_millis(20);

/// nginx on this host.
pub(super) struct Nginx<'a> {
    pub settings: &'a Settings,
    pub upstream: &'a str,
    pub context: &'a StepContext,
}

#[async_trait]
impl Proxy for Nginx<'_> {
    async fn lead(&self, to: &Goal) -> Result<(), Failure> {
        let Goal::At { address, label, .. } = to else {
            return Err(failure("nginx leads to slots; it cannot take a host out"));
        };
        super::check(self.upstream)?;
        let path = self.path();
        let before = std::fs::read_to_string(&path).ok();
        if let Some(number) = before.as_deref().and_then(number_of)
            && before.as_deref() == Some(&self.render(address, label, number))
            && self.answers().await.as_deref() == Ok(number)
        {
            return Ok(());
        }
        let number = new_number();
        replace(&path, self.render(address, label, &number).as_bytes()).map_err(failure)?;
        let Err(failed) = self.take_up(&number).await else { return Ok(()) };
        // Whoever reloads nginx next must not stumble over it, nor lead requests by it.
        let restored = match &before {
            Some(before) => replace(&path, before.as_bytes()),
            None => std::fs::remove_file(&path).map_err(|error| error.to_string()),
        };
        if let Err(reason) = restored {
            return Err(Failure {
                reason: format!("{}; and it stays there: {reason}", failed.reason),
                ..failed
            });
        }
        if let Some(number) = before.as_deref().and_then(number_of)
            && self.answers().await.as_deref() != Ok(number)
            && let Err(again) = self.take_up(number).await
        {
            let reason = format!(
                "{}; whether nginx is back at its file from before is not known: {}",
                failed.reason, again.reason
            );
            return Err(Failure { reason, ..failed });
        }
        Err(failed)
    }
}

impl Nginx<'_> {
    /// Its file, and in what way it is not the one that leads requests to this address; nothing is asked of nginx.
    pub fn differs(&self, address: &str, label: &str) -> Option<(PathBuf, Kind, String)> {
        let path = self.path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Some((path, Kind::Missing, String::new()));
            }
            Err(error) => return Some((path, Kind::Unreadable, error.to_string())),
        };
        let number = number_of(&text).unwrap_or_default();
        if text == self.render(address, label, number) {
            return None;
        }
        Some((path, Kind::Changed, format!("it is not what the agent wrote to lead requests to {label}")))
    }

    fn path(&self) -> PathBuf {
        self.settings.directory.join(format!("{}.conf", self.context.identity.application))
    }

    /// The file. Everything in it comes from names that were checked, addresses, and `agent.toml`.
    fn render(&self, address: &str, label: &str, number: &str) -> String {
        let directives: String =
            self.settings.directives.iter().map(|line| format!("    {line};\n")).collect();
        format!(
            "# Written by landfall-agent; what is changed here is lost.\n\
             {NUMBER}{number}\n\
             # {label}\n\
             upstream {} {{\n    server {address};\n{directives}}}\n\
             server {{\n    listen {};\n    access_log off;\n    default_type text/plain;\n    \
             location / {{\n        return 200 \"{number}\";\n    }}\n}}\n",
            self.upstream, self.settings.answer,
        )
    }

    /// Has the file tested and taken up, and waits until new connections are served by it.
    async fn take_up(&self, number: &str) -> Result<(), Failure> {
        if !self.settings.test.is_empty() {
            self.run("nginx-test", &self.settings.test).await?;
        }
        self.run("nginx-reload", &self.settings.reload).await?;
        let until = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answer = self.answers().await;
            if answer.as_deref() == Ok(number) {
                return Ok(());
            }
            if Instant::now() >= until {
                let said = answer.map_or_else(|reason| reason, |other| format!("it says {other:?}"));
                return Err(failure(format!(
                    "nginx was reloaded and does not answer by {} on {} within {} s: {said}; does its http \
                     block `include {}/*.conf`, and is that address free? See its error log",
                    self.path().display(),
                    self.settings.answer,
                    ANSWER_TIMEOUT.as_secs(),
                    self.settings.directory.display(),
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The number of the file by which a new connection is served.
    async fn answers(&self) -> Result<String, String> {
        let (status, body) = ask::get(&self.settings.answer, "/", &Headers::default()).await?;
        if status == 200 { Ok(body) } else { Err(format!("it answers {status}")) }
    }

    async fn run(&self, name: &str, command: &[String]) -> Result<(), Failure> {
        let step = Step {
            name: StepName::new(name).expect("a literal that is a valid name"),
            command: command.to_vec(),
            environment: Default::default(),
            timeout: COMMAND_TIMEOUT,
            network: None,
        };
        steps::run(&step, self.context).await.map(drop).map_err(Failure::from)
    }
}

/// Begins the line with the number.
const NUMBER: &str = "# number ";

fn number_of(file: &str) -> Option<&str> {
    file.lines().find_map(|line| line.strip_prefix(NUMBER))
}

/// Never the same again on this host: the answer of an earlier file must not be taken for this one's.
fn new_number() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_nanos(), rand::random::<u32>())
}
