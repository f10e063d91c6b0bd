//! What a test does on a host: commands, files, the journal, waiting for something.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use landfall_e2e::process::wait_until;
use landfall_e2e::stage::Said;

use super::{Host, PATIENCE};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Host {
    /// A command for root on the host, ready to be started.
    ///
    /// # Errors
    /// If the host is off.
    pub fn command(&self, words: &[&str]) -> io::Result<Command> {
        let init = self.init()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
        command.args(["env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8", "NO_COLOR=1"]).args(words);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command for root on the host to its end.
    ///
    /// # Errors
    /// If the host is off. A command that fails is no error: it is in what it [`Said`].
    pub fn exec(&self, words: &[&str]) -> io::Result<Said> {
        Ok(self.command(words)?.output()?.into())
    }

    /// Runs lines of bash for root on the host, up to the first that fails, and gives what they printed.
    ///
    /// # Errors
    /// If the host is off, or one fails: everything that was said.
    pub fn sh(&self, script: &str) -> io::Result<String> {
        let said = self.exec(&["bash", "-e", "-c", script])?.expect_code(0);
        Ok(said.map_err(|error| io::Error::other(format!("{}: {script}\n{error}", self.name)))?.out)
    }

    /// Writes a file with the directories above it.
    ///
    /// # Errors
    /// If the host is off, or the file cannot be written.
    pub fn put(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let script = "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1\" && chmod \"$2\" \"$1\"";
        let mut command = self.command(&["sh", "-c", script, "put", path, &format!("{mode:o}")])?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(content));
        Said::from(child.wait_with_output()?)
            .expect_code(0)
            .and(written)
            .map_err(|error| io::Error::other(format!("{}: cannot write {path}: {error}", self.name)))
    }

    /// The content of a file.
    ///
    /// # Errors
    /// If the host is off, or there is no such file.
    pub fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let output = self.command(&["cat", "--", path])?.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = Said::from(output);
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: {}", self.name, said.err.trim())))
    }

    /// What a unit wrote to the journal, of all boots; patterns such as `landfall-*` may be given.
    ///
    /// # Errors
    /// If the host is off.
    pub fn journal(&self, unit: &str) -> io::Result<String> {
        let said =
            self.exec(&["journalctl", "--no-pager", "-o", "short-precise", "-n", "400", "-u", unit])?;
        Ok(said.expect_code(0)?.out)
    }

    /// What systemd says of one property of a unit, such as `MainPID`.
    ///
    /// # Errors
    /// If the host is off, or systemd knows no such unit.
    pub fn property(&self, unit: &str, name: &str) -> io::Result<String> {
        let said = self.exec(&["systemctl", "show", "--value", "-p", name, unit])?;
        Ok(said.expect_code(0)?.out.trim().to_owned())
    }

    /// Waits until `condition` holds; a host that does not answer does not fulfil it.
    ///
    /// # Errors
    /// What was waited for, with the end of the host's journal.
    pub fn wait_until(
        &self,
        what: &str,
        mut condition: impl FnMut(&Self) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut last = None;
        let what = format!("{}: {what}", self.name);
        wait_until(&what, PATIENCE, || match condition(self) {
            Ok(holds) => holds,
            Err(error) => {
                last = Some(error);
                false
            }
        })
        .map_err(|error| {
            let last = last.map(|error| format!("\n{error}")).unwrap_or_default();
            io::Error::other(format!("{error}{last}\n{}", self.last_words()))
        })
    }

    /// What happened on the host last, for a test that fails.
    #[must_use]
    pub fn last_words(&self) -> String {
        let journal = self
            .exec(&["journalctl", "--no-pager", "-o", "short-precise", "-n", "60"])
            .map_or_else(|error| error.to_string(), |said| said.out);
        format!("--- {}\n{journal}{}", self.name, self.console_tail())
    }
}
