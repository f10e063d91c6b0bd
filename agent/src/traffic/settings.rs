//! `[traffic.…]` of `agent.toml`: what the host's administrator says of the proxies on this host.

use std::path::PathBuf;

use serde::Deserialize;

/// The part of `agent.toml` with every key at its default.
pub const TEMPLATE: &str = r#"
# nginx in front of an application with slots: the agent writes DIRECTORY/APPLICATION.conf, which nginx.conf
# has to `include` in its http block. It holds the upstream, and a server on `answer` by which the agent sees
# that nginx has taken it up. An empty `test` leaves the test to the reload.
[traffic.nginx]
directory = "/var/lib/landfall/nginx"
answer = "127.0.0.1:7480"
test = ["nginx", "-t", "-q"]
reload = ["systemctl", "reload", "nginx"]
directives = []

# HAProxy: its runtime socket (level admin), a path or HOST:PORT; and the file of its
# `load-server-state-from-file global`, without which a reload of HAProxy forgets what the agent has set.
[traffic.haproxy]
socket = "/run/haproxy/admin.sock"
# state_file = "/var/lib/landfall/haproxy/state"
"#;

/// What the proxies of this host are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// nginx.
    pub nginx: Nginx,
    /// HAProxy.
    pub haproxy: Haproxy,
}

/// How nginx is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nginx {
    /// Where the agent writes its file.
    pub directory: PathBuf,
    /// Where nginx answers with the number of the file that it has taken up: an address of this host only.
    pub answer: String,
    /// Checks the whole configuration; not run if it is empty.
    pub test: Vec<String>,
    /// Makes nginx take it up.
    pub reload: Vec<String>,
    /// More lines for the upstream, such as `keepalive 16`.
    pub directives: Vec<String>,
}

impl Default for Nginx {
    fn default() -> Self {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        Self {
            directory: "/var/lib/landfall/nginx".into(),
            answer: "127.0.0.1:7480".into(),
            test: words("nginx -t -q"),
            reload: words("systemctl reload nginx"),
            directives: Vec::new(),
        }
    }
}

/// How HAProxy is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Haproxy {
    /// Its runtime socket: a path, or `HOST:PORT`.
    pub socket: String,
    /// The file from which it takes the state of its servers when it is reloaded.
    pub state_file: Option<PathBuf>,
}

impl Default for Haproxy {
    fn default() -> Self {
        Self { socket: "/run/haproxy/admin.sock".into(), state_file: None }
    }
}

impl Settings {
    /// What cannot be meant.
    ///
    /// # Errors
    /// A sentence with the key and its value.
    pub fn check(&self) -> Result<(), String> {
        let files = [
            ("traffic.nginx.directory", Some(&self.nginx.directory)),
            ("traffic.haproxy.state_file", self.haproxy.state_file.as_ref()),
        ];
        for (key, path) in files.into_iter().filter_map(|(key, path)| path.map(|path| (key, path))) {
            let plain = path.to_str().is_some_and(|text| !text.contains(['\n', ';', '"', '\'', '{', '}']));
            if !path.is_absolute() || !plain {
                return Err(format!(
                    "{key} = {path:?} is not an absolute path without quotes and semicolons"
                ));
            }
        }
        if self.nginx.answer.parse::<std::net::SocketAddr>().is_err() {
            let answer = &self.nginx.answer;
            return Err(format!("traffic.nginx.answer = {answer:?} is not IP:PORT, such as 127.0.0.1:7480"));
        }
        if self.nginx.reload.is_empty() {
            return Err("traffic.nginx.reload is empty: nginx would never take the file up".to_owned());
        }
        if let Some(line) = self.nginx.directives.iter().find(|line| line.contains(['\n', '{', '}', ';'])) {
            return Err(format!(
                "traffic.nginx.directives: {line:?} is not one directive without its semicolon"
            ));
        }
        Ok(())
    }
}
