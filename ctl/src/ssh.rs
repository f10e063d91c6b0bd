//! Commands on other machines, by the system's own OpenSSH client: the operator's configuration, keys, agent and known
//! hosts are used as they are. Nothing is ever asked for.
//!
//! What is run there is a script on standard input, so that neither the shell of the other side has anything to quote,
//! nor its list of processes anything to show.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// With what `ssh` ends when it is its own failure, and not that of the command.
const OWN_FAILURE: i32 = 255;
/// So much is kept of what a command writes, its end.
const KEPT_BYTES: usize = 64 * 1024;
/// After the command has ended, so long a master connection that outlives it may still hold its streams open.
const DRAIN: Duration = Duration::from_secs(2);

/// How to reach other machines.
#[derive(Debug, Clone)]
pub struct Ssh {
    options: Vec<String>,
}

/// What goes to the standard input of a command.
#[derive(Debug, Clone, Copy)]
pub enum Input<'i> {
    /// A text.
    Text(&'i str),
    /// A file.
    File(&'i Path),
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub ended: Ended,
    /// The end of its output.
    pub out: String,
    /// The end of its complaints.
    pub err: String,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    With(i32),
    /// It was not run, or the connection broke: `err` says why.
    Unconnected,
    /// It was given up after this time.
    Late(Duration),
}

impl Ssh {
    /// With settings of ssh_config(5) such as `Port=2222`, which go before all others.
    #[must_use]
    pub fn new(options: &[String]) -> Self {
        // A setting counts as it is said first.
        let own = ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"];
        let all = options.iter().cloned().chain(own.map(str::to_owned));
        Self { options: all.flat_map(|option| ["-o".to_owned(), option]).collect() }
    }

    /// The command line, after `ssh`.
    #[must_use]
    pub fn arguments(&self, destination: &str, command: &str) -> Vec<String> {
        let fixed = ["-T"].map(str::to_owned).into_iter();
        let rest = ["--", destination, command].map(str::to_owned);
        fixed.chain(self.options.iter().cloned()).chain(rest).collect()
    }

    /// Runs a command there to its end.
    ///
    /// # Errors
    /// If `ssh` cannot be started, or the input not be read.
    pub async fn run(
        &self,
        destination: &str,
        command: &str,
        input: Input<'_>,
        limit: Duration,
    ) -> io::Result<Said> {
        let stdin = match input {
            Input::Text(_) => Stdio::piped(),
            Input::File(path) => File::open(path)?.into(),
        };
        let mut child = Command::new("ssh")
            .args(self.arguments(destination, command))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let write = async move {
            if let (Input::Text(text), Some(mut stdin)) = (input, stdin) {
                // Who reads no further has ended, and how is told by that.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let to_its_end = async {
            let streams = async {
                tokio::join!(write, keep_end(stdout, &mut out), keep_end(stderr, &mut err));
            };
            tokio::pin!(streams);
            let mut open = true;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut streams, if open => open = false,
                }
            };
            if open {
                let _ = tokio::time::timeout(DRAIN, streams).await;
            }
            status
        };
        let status = tokio::time::timeout(limit, to_its_end).await;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (out, err) = (text(out), text(err));
        let Ok(status) = status else { return Ok(Said { ended: Ended::Late(limit), out, err }) };
        let ended = match status?.code() {
            None | Some(OWN_FAILURE) => Ended::Unconnected,
            Some(code) => Ended::With(code),
        };
        Ok(Said { ended, out, err })
    }
}

/// Keeps the last of what a stream brings.
async fn keep_end(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(KEPT_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_says_goes_before_what_is_fixed() {
        let ssh = Ssh::new(&["Port=2222".to_owned(), "ConnectTimeout=3".to_owned()]);
        let line = ssh.arguments("root@web-1", "exec sh -s").join(" ");
        insta::assert_snapshot!(line, @"-T -o Port=2222 -o ConnectTimeout=3 -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -- root@web-1 exec sh -s");
    }

    #[tokio::test]
    async fn the_end_of_a_flood_is_kept() {
        let flood = [b"x".repeat(3 * KEPT_BYTES), b"the end".to_vec()].concat();
        let mut kept = Vec::new();
        keep_end(Some(&flood[..]), &mut kept).await;
        assert!(kept.len() == KEPT_BYTES && kept.ends_with(b"xthe end"), "{}", kept.len());
    }
}
