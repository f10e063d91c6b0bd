//! Runs the build commands in the clean tree: output shown and kept, a deadline each, nothing left behind.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use landfall_common::Timestamp;
use landfall_common::manifest::Step;
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
        run_step(step, tree, committed_at, &mut kept, listener).await?;
    }
    Ok(())
}

async fn run_step(
    step: &Step,
    tree: &Path,
    committed_at: Timestamp,
    log: &mut Log,
    listener: &mut impl Listener,
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
    let readers = [tokio::spawn(read(stdout, sender.clone())), tokio::spawn(read(stderr, sender))];

    let mut take = |line: Vec<u8>, log: &mut Log| -> Result<(), Error> {
        log.write(&line)?;
        let text = String::from_utf8_lossy(&line);
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

async fn read(stream: impl AsyncRead + Unpin, lines: mpsc::Sender<Vec<u8>>) {
    use tokio::io::AsyncReadExt as _;
    /// A "line" without end is passed on in pieces of this size.
    const PIECE_BYTES: u64 = 64 * 1024;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(PIECE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if lines.send(line).await.is_err() {
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
