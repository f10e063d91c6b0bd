//! What steps and services have written on this host, for an operator who asks for it.
//!
//! Read from the logs that there are: nothing is kept beside them. What the controller says names a step or a
//! service and never a path; a log is read only if it is a file of whoever owns its directory, since steps write to
//! theirs themselves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfall_common::{AppName, ServiceName, StepName};
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::source::Source;
use landfall_proto::v1::{OutputWanted, SendOutputRequest};
use rustix::fs::OFlags;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::{Config, StepsIn};
use crate::steps::cage;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(250);

/// The largest piece.
const PIECE_BYTES: usize = 64 * 1024;

/// So far back the beginning of the last lines is looked for.
const MAX_TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// So many may read at once; the others are told so.
const READERS: usize = 4;

/// Where output is.
#[derive(Debug, Clone)]
pub struct Outputs {
    application: AppName,
    steps: PathBuf,
    services: PathBuf,
    readers: Arc<Semaphore>,
}

impl Outputs {
    /// That of this application's steps and services.
    #[must_use]
    pub fn new(config: &Config, application: AppName) -> Self {
        let steps = match config.steps {
            StepsIn::Child => config.log_dir.join("steps"),
            StepsIn::Unit => cage::Places::default().logs,
        };
        let readers = Arc::new(Semaphore::new(READERS));
        Self { application, steps, services: config.log_dir.clone(), readers }
    }

    /// Answers what the controller asked for, until all is said, nobody reads any more, or `stop`.
    pub async fn send(
        self,
        mut client: AgentsClient<Channel>,
        wanted: OutputWanted,
        stop: CancellationToken,
    ) {
        let (out, pieces) = mpsc::channel(2);
        let reading = async move {
            let permit = self.readers.clone().try_acquire_owned();
            let said = match permit {
                Ok(_permit) => self.read(&wanted, &out).await,
                Err(_) => Err(format!("{READERS} others read here; try again later")),
            };
            if let Err(refusal) = said {
                let message = SendOutputRequest { id: wanted.id, data: Vec::new(), refusal };
                let _ = out.send(message).await;
            }
            drop(out);
            // The answer comes once all of it has arrived.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answered = client.send_output(ReceiverStream::new(pieces)) => if let Err(status) = answered {
                tracing::debug!(reason = status.message(), "output is not wanted any more");
            },
            () = reading => {}
            () = stop.cancelled() => {}
        }
    }

    /// Reads a log and sends it on, until its end or, where it is followed, until nobody takes it.
    async fn read(&self, wanted: &OutputWanted, out: &mpsc::Sender<SendOutputRequest>) -> Result<(), String> {
        let (outputs, source, lines) = (self.clone(), wanted.source.clone(), wanted.lines);
        let mut log = on_disk(move || {
            let path = outputs.path(source.and_then(|source| source.source).as_ref())?;
            Tail::open(&path, lines).map_err(|error| outputs.unreadable(&path, &error))
        })
        .await?;
        // The first message says whom it is for, whether there is anything to read yet or not.
        let mut first = true;
        loop {
            let (read, same) = on_disk(move || Ok((log.next(), log))).await?;
            log = same;
            let data = read.map_err(|error| self.unreadable(&log.path, &error))?;
            let at_end = data.is_empty();
            if !at_end || first {
                first = false;
                let message = SendOutputRequest { id: wanted.id, data, refusal: String::new() };
                if out.send(message).await.is_err() {
                    return Ok(());
                }
            }
            match at_end {
                true if !wanted.follow => return Ok(()),
                true => tokio::time::sleep(POLL).await,
                false => {}
            }
        }
    }

    fn path(&self, source: Option<&Source>) -> Result<PathBuf, String> {
        let app = &self.application;
        match source {
            Some(Source::Step(name)) => {
                let step = StepName::new(name.clone()).map_err(|error| error.to_string())?;
                Ok(self.steps.join(format!("{app}.{step}.log")))
            }
            Some(Source::Service(name)) => {
                let service = ServiceName::new(name.clone()).map_err(|error| error.to_string())?;
                Ok(self.services.join(format!("{app}.{service}.log")))
            }
            None => Err(format!("say which: {}", self.known())),
        }
    }

    /// What there is, as options of `ctl logs`.
    fn known(&self) -> String {
        let (before, after) = (format!("{}.", self.application), ".log");
        let mut known = Vec::new();
        for (directory, option) in [(&self.steps, "--step"), (&self.services, "--service")] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_str().and_then(|name| name.strip_prefix(&before)?.strip_suffix(after));
                // A holder's own log is named after its service and a word.
                known.extend(name.filter(|name| !name.contains('.')).map(|name| format!("{option} {name}")));
            }
        }
        known.sort();
        match known.is_empty() {
            true => "no step and no service of Landfall's own has written anything here yet".to_owned(),
            false => known.join(", "),
        }
    }

    fn unreadable(&self, path: &Path, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no such output here (services of systemd, Supervisor and Docker write to theirs); there is: {}",
                self.known()
            ),
            _ => format!("{} cannot be read: {error}", path.display()),
        }
    }
}

/// A disk that hangs holds up whoever reads from it, and not the session.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// The end of a log that may grow, and be put aside for a new one.
struct Tail {
    path: PathBuf,
    file: File,
}

impl Tail {
    fn open(path: &Path, lines: u32) -> io::Result<Self> {
        let mut file = open(path)?;
        let end = file.metadata()?.len();
        let start = start_of_last(&mut file, end, lines)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// What comes next; nothing at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut piece = Vec::new();
            (&self.file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            if !piece.is_empty() {
                return Ok(piece);
            }
            let is_current = match (fs::symlink_metadata(&self.path), self.file.metadata()?) {
                (Ok(named), open) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
                // It was put aside, and nothing has been written since.
                (Err(_), _) => true,
            };
            if is_current {
                return Ok(Vec::new());
            }
            self.file = open(&self.path)?;
        }
    }
}

/// Opens a file of whoever owns the directory that it is in, and nothing else.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != directory.uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no log of Landfall's"));
    }
    Ok(file)
}

/// Where the last lines of a file begin.
fn start_of_last(file: &mut File, end: u64, lines: u32) -> io::Result<u64> {
    let earliest = end.saturating_sub(MAX_TAIL_BYTES);
    let mut left = lines;
    let mut upper = end;
    let mut piece = vec![0; PIECE_BYTES];
    while upper > earliest {
        let lower = upper.saturating_sub(PIECE_BYTES as u64).max(earliest);
        let length = usize::try_from(upper - lower).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        file.seek(SeekFrom::Start(lower))?;
        file.read_exact(&mut piece[..length])?;
        for (offset, _) in piece[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = lower + offset as u64 + 1;
            // The end of the last line begins no further one.
            if after == end && lines > 0 {
                continue;
            }
            if left <= 1 {
                return Ok(if lines == 0 { end } else { after });
            }
            left -= 1;
        }
        upper = lower;
    }
    Ok(if lines == 0 { end } else { earliest })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn outputs(root: &Path) -> Outputs {
        let config = Config { log_dir: root.to_owned(), ..Config::default() };
        fs::create_dir_all(root.join("steps")).unwrap();
        Outputs::new(&config, AppName::new("shop").unwrap())
    }

    fn tail(text: &str, lines: u32) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, text).unwrap();
        let mut log = Tail::open(&path, lines).unwrap();
        let mut said = Vec::new();
        loop {
            match log.next().unwrap() {
                piece if piece.is_empty() => return String::from_utf8(said).unwrap(),
                piece => said.extend(piece),
            }
        }
    }

    #[test]
    fn the_last_lines_of_a_log_are_counted_from_its_end() {
        for (text, lines, expected) in [
            ("", 5, ""),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nunfinished", 1, "unfinished"),
            ("a\nb\nunfinished", 2, "b\nunfinished"),
            ("\n\n\n", 2, "\n\n"),
        ] {
            assert_eq!(tail(text, lines), expected, "{lines} of {text:?}");
        }
        let long = format!("{}\n", "x".repeat(1000)).repeat(300);
        assert_eq!(tail(&long, 200).len(), 200 * 1001);
    }

    #[test]
    fn a_log_that_is_put_aside_is_followed_into_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "old\n").unwrap();
        let mut log = Tail::open(&path, 10).unwrap();
        assert_eq!(log.next().unwrap(), b"old\n");
        File::options().append(true).open(&path).unwrap().write_all(b"last\n").unwrap();
        fs::rename(&path, directory.path().join("log.1")).unwrap();
        assert_eq!(log.next().unwrap(), b"last\n");
        assert_eq!(log.next().unwrap(), b"");
        fs::write(&path, "new\n").unwrap();
        assert_eq!(log.next().unwrap(), b"new\n");
        assert_eq!(log.next().unwrap(), b"");
    }

    #[test]
    fn only_logs_are_read_whatever_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let outputs = outputs(directory.path());
        for bad in ["../../etc/passwd", "/etc/passwd", "", "a/b", ".."] {
            outputs.path(Some(&Source::Step(bad.to_owned()))).unwrap_err();
            outputs.path(Some(&Source::Service(bad.to_owned()))).unwrap_err();
        }
        let step = outputs.path(Some(&Source::Step("migrate".to_owned()))).unwrap();
        fs::write(directory.path().join("key"), "secret").unwrap();
        std::os::unix::fs::symlink(directory.path().join("key"), &step).unwrap();
        Tail::open(&step, 1).err().unwrap();
        fs::remove_file(&step).unwrap();
        assert!(outputs.path(None).unwrap_err().contains("has written anything here yet"));
        fs::write(&step, "").unwrap();
        fs::write(directory.path().join("shop.web.log"), "").unwrap();
        fs::write(directory.path().join("shop.web.holder.log"), "").unwrap();
        fs::write(directory.path().join("blog.web.log"), "").unwrap();
        assert_eq!(outputs.path(None).unwrap_err(), "say which: --service web, --step migrate");
    }
}
