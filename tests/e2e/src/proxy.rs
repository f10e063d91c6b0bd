//! One HAProxy before all hosts, and how many requests it has led to each of them.
#![allow(clippy::unwrap_used, reason = "only tests use it, and it has nothing to tell but that it failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Process, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// One HAProxy before all hosts.
pub struct Proxy {
    /// Where it takes commands, of agents as well.
    pub socket: PathBuf,
    /// Where it takes requests.
    pub port: u16,
    _process: Process,
}

impl Proxy {
    /// Starts it before servers on these ports.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(directory: &Path, servers: &[(&str, u16)]) -> Self {
        fs::create_dir_all(directory).unwrap();
        let (port, socket) = (free_port().unwrap(), directory.join("admin.sock"));
        let servers: String =
            servers.iter().map(|(name, port)| format!("    server {name} 127.0.0.1:{port}\n")).collect();
        let config = format!(
            "global\n    stats socket {} mode 600 level admin\ndefaults\n    mode http\n    timeout connect 5s\n    \
             timeout client 30s\n    timeout server 30s\nfrontend front\n    bind 127.0.0.1:{port}\n    \
             default_backend site\nbackend site\n    balance roundrobin\n{servers}",
            socket.display()
        );
        let file = directory.join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
        let process = Process::spawn("haproxy", &mut command, &directory.join("log"))
            .expect("haproxy is needed: apt-get install haproxy");
        wait_until("haproxy answers", PATIENCE, || UnixStream::connect(&socket).is_ok()).unwrap();
        Self { socket, port, _process: process }
    }

    /// How many requests were led to these servers so far.
    ///
    /// # Panics
    /// If it does not answer, or has no such server.
    #[must_use]
    pub fn led_to(&self, servers: &[&str]) -> u64 {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(b"show stat\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let header: Vec<&str> = answer.lines().next().unwrap().trim_start_matches("# ").split(',').collect();
        let column = header.iter().position(|name| *name == "stot").unwrap();
        let of = |server: &&str| -> u64 {
            let line = answer.lines().find(|line| line.starts_with(&format!("site,{server},"))).unwrap();
            line.split(',').nth(column).unwrap().parse().unwrap()
        };
        servers.iter().map(of).sum()
    }

    /// Waits until so many more were led to these servers.
    ///
    /// # Panics
    /// If they are not within a minute.
    pub fn until_led_to(&self, servers: &[&str], more: u64) {
        let before = self.led_to(servers);
        wait_until("requests arrive", PATIENCE, || self.led_to(servers) >= before + more).unwrap();
    }
}
