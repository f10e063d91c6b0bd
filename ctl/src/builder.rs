//! Runs the build commands in the clean tree: output shown and kept, a deadline each, nothing left behind.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use landfall_common::Timestamp;
use landfall_common::manifest::{MAX_MIGRATION_NAMES, Step};
use landfall_common::report::TAIL_LINES;
use landfall_common::time::human;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::error::Error;

/// A build that writes more than this goes on, but what it writes is not kept any more.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// A longer line is cut for the tail; the log has it whole.
const MAX_LINE_CHARS: usize = 500;
/// After the command has ended, so long its descendants may still hold the output open.
const DRAIN: Duration = Duration::from_secs(2);

/// What a build tells while it runs.
pub trait Listener {
    /// A step begins.
    fn step(&mut self, name: &str, command: &[String]);
    /// It wrote a line.
    fn line(&mut self, line: &str);
}

/// Runs a step that names something on its standard output, one a line, and returns what it named. Empty lines name
/// nothing, and neither does what stands on standard error.
///
/// # Errors
/// As [`run`].
pub async fn list(
    step: &Step,
    tree: &Path,
    committed_at: Timestamp,
    log: &Path,
    listener: &mut impl Listener,
) -> Result<Vec<String>, Error> {
    let _handled = crate::interrupt::handled_here();
    let mut kept = Log::create(log)?;
    listener.step(step.name.as_str(), &step.command);
    kept.write(format!("== {}: {}\n", step.name, step.command.join(" ")).as_bytes())?;
    let mut named = Vec::new();
    run_step(step, tree, committed_at, &mut kept, listener, &mut |name| {
        // One more than there may be is enough to be refused.
        if !name.is_empty() && named.len() <= MAX_MIGRATION_NAMES {
            named.push(name.to_owned());
        }
    })
    .await?;
    Ok(named)
}

/// Runs the steps in order in `tree`, with everything they write kept in `log`.
///
/// # Errors
/// [`Error::Build`] for the first step that fails, [`Error::Interrupted`] on Ctrl-C, [`Error::Io`].
pub async fn run(
    steps: &[Step],
    tree: &Path,
    committed_at: Timestamp,
    log: &Path,
    listener: &mut impl Listener,
) -> Result<(), Error> {
    let _handled = crate::interrupt::handled_here();
    let mut kept = Log::create(log)?;
    for step in steps {
        listener.step(step.name.as_str(), &step.command);
        kept.write(format!("== {}: {}\n", step.name, step.command.join(" ")).as_bytes())?;
        run_step(step, tree, committed_at, &mut kept, listener, &mut |_| {}).await?;
    }
    Ok(())
}

async fn run_step(
    step: &Step,
    tree: &Path,
    committed_at: Timestamp,
    log: &mut Log,
    listener: &mut impl Listener,
    written: &mut (dyn FnMut(&str) + Send),
) -> Result<(), Error> {
    let mut tail: VecDeque<String> = VecDeque::new();
    let failed = |reason: String, tail: VecDeque<String>, log: &Log| Error::Build {
        step: step.name.to_string(),
        reason,
        tail: tail.into(),
        log: log.path.clone(),
    };
    let (program, arguments) = step.command.split_first().expect("the definition refuses empty commands");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(tree)
        .envs(&step.environment)
        .env("SOURCE_DATE_EPOCH", (committed_at.ms() / 1000).to_string())
        // A build must not find the repository that the operator stands in.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Err(failed(format!("{program:?} cannot be started: {error}"), tail, log)),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    // Bounded: a step that floods waits for us, and not our memory for it.
    let (sender, mut lines) = mpsc::channel(256);
    let stdout = child.stdout.take().expect("stdout was asked to be piped");
    let stderr = child.stderr.take().expect("stderr was asked to be piped");
    let readers =
        [tokio::spawn(read(stdout, true, sender.clone())), tokio::spawn(read(stderr, false, sender))];

    let mut take = |(is_output, line): Line, log: &mut Log| -> Result<(), Error> {
        log.write(&line)?;
        let text = String::from_utf8_lossy(&line);
        if is_output {
            written(text.trim());
        }
        let text: String = text.trim_end().chars().take(MAX_LINE_CHARS).collect();
        listener.line(&text);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
        Ok(())
    };
    let deadline = tokio::time::sleep(step.timeout);
    tokio::pin!(deadline);
    let mut open = true;
    let ended = loop {
        tokio::select! {
            line = lines.recv(), if open => match line {
                Some(line) => take(line, log)?,
                None => open = false,
            },
            status = child.wait() => break Ok(status),
            () = &mut deadline => break Err(None),
            () = crate::interrupt::next() => break Err(Some(())),
        }
    };
    if let Some(group) = group {
        // What the step started and left behind is ended with it.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let drain = async {
        while let Some(line) = lines.recv().await {
            take(line, log)?;
        }
        Ok::<(), Error>(())
    };
    if let Ok(drained) = tokio::time::timeout(DRAIN, drain).await {
        drained?;
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    match ended {
        Err(Some(_)) => Err(Error::Interrupted),
        Err(None) => {
            let limit = human::format(step.timeout);
            Err(failed(format!("it did not end within its timeout of {limit}"), tail, log))
        }
        Ok(Err(error)) => Err(failed(format!("its end cannot be learnt: {error}"), tail, log)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(words(status), tail, log)),
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended in an unknown way".to_owned(),
    }
}

/// Whether it was written to standard output, and what.
type Line = (bool, Vec<u8>);

async fn read(stream: impl AsyncRead + Unpin, is_output: bool, lines: mpsc::Sender<Line>) {
    use tokio::io::AsyncReadExt as _;
    /// A "line" without end is passed on in pieces of this size.
    const PIECE_BYTES: u64 = 64 * 1024;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(PIECE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if lines.send((is_output, line)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The file that keeps the output.
struct Log {
    path: PathBuf,
    file: std::fs::File,
    left: u64,
}

impl Log {
    fn create(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::io("create", path, source);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = std::fs::File::create(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, left: MAX_LOG_BYTES })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::io("write", &self.path, source);
        if self.left == 0 {
            return Ok(());
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.file.write_all(bytes).map_err(failed)?;
        if self.left == 0 {
            let note = format!("\n== more than {} MiB: the rest is not kept\n", MAX_LOG_BYTES >> 20);
            self.file.write_all(note.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use landfall_common::StepName;

    use super::*;

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Listener for Heard {
        fn step(&mut self, name: &str, _command: &[String]) {
            self.0.push(name.to_owned());
        }

        fn line(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
    }

    async fn listed(script: &str) -> (Result<Vec<String>, Error>, Vec<String>, String) {
        let directory = tempfile::tempdir().unwrap();
        let step = Step {
            name: StepName::new("list").unwrap(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(60),
            network: None,
        };
        let log = directory.path().join("log");
        let mut heard = Heard::default();
        let names = list(&step, directory.path(), Timestamp::from_ms(0), &log, &mut heard).await;
        (names, heard.0, std::fs::read_to_string(log).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_listed_is_what_stands_on_standard_output() {
        let (names, mut heard, log) =
            listed("echo a.1; echo; echo '  b c  '; echo careful >&2; printf d").await;
        assert_eq!(names.unwrap(), ["a.1", "b c", "d"]);
        heard.sort_unstable();
        assert_eq!(heard, ["", "  b c", "a.1", "careful", "d", "list"]);
        assert!(log.contains("careful") && log.contains("a.1"), "{log}");

        let (failed, _, _) = listed("echo a.1; exit 3").await;
        let error = failed.unwrap_err().to_string();
        assert!(error.contains("list"), "{error}");
        let (many, _, _) = listed("seq 5000").await;
        assert_eq!(many.unwrap().len(), MAX_MIGRATION_NAMES + 1, "one too many is enough");
    }
}
