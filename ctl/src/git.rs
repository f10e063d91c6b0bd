//! What is read from a Git repository: a tag, its commit, a clean tree, the changes between two commits.
//!
//! The working directory is never read; whatever is not committed is not released. Git itself is asked,
//! since it knows about worktrees, alternates, replaced objects and attributes.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use landfall_common::{Timestamp, definition};

use crate::error::Error;
use crate::pack::unpack;

/// A Git repository, by a directory inside it.
#[derive(Debug, Clone)]
pub struct Repository {
    directory: PathBuf,
    /// The root of the working tree: `git archive` takes only what is below the directory it runs in.
    top: PathBuf,
}

/// A tag, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The full id of the commit that it names.
    pub commit: String,
    /// The message of an annotated tag; a light one has none.
    pub message: Option<String>,
}

/// What a manifest says of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// `Name <address>`.
    pub author: String,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// The first line of its message.
    pub subject: String,
}

impl Repository {
    /// The repository that holds this directory.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::Git`] when there is no Git at all.
    pub fn discover(directory: &Path) -> Result<Self, Error> {
        let mut repository = Self { directory: directory.to_owned(), top: directory.to_owned() };
        let inside = repository.run(["rev-parse", "--git-dir"])?;
        if !inside.status.success() {
            return Err(Error::NotARepository { directory: directory.to_owned() });
        }
        // A bare repository has no such root, and no place below it either.
        if let Ok(top) = repository.text(&["rev-parse", "--show-toplevel"]) {
            repository.top = PathBuf::from(top.trim_end_matches('\n'));
        }
        Ok(repository)
    }

    fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.directory).args(arguments).stdin(Stdio::null());
        // Messages are matched nowhere, but shown: in the language of everything around them.
        command.env("LC_ALL", "C.UTF-8").env("GIT_OPTIONAL_LOCKS", "0");
        command
    }

    fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<Output, Error> {
        self.command(arguments).output().map_err(Error::NoGit)
    }

    fn text(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            return Err(failed(arguments, &output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The commit that a tag names, be it annotated or light.
    ///
    /// # Errors
    /// [`Error::NoTag`] with the tag that is most like it.
    pub fn tag(&self, name: &str) -> Result<Tag, Error> {
        let reference = format!("refs/tags/{name}");
        let peeled = self.run(["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")])?;
        if !peeled.status.success() {
            let tags = self.text(&["tag", "--list"])?;
            let near = tags.lines().max_by(|a, b| {
                let like = |tag: &str| strsim::jaro_winkler(name, tag);
                like(a).total_cmp(&like(b))
            });
            return Err(Error::NoTag { tag: name.to_owned(), near: near.map(str::to_owned) });
        }
        let commit = String::from_utf8_lossy(&peeled.stdout).trim().to_owned();
        let annotated = self.text(&["cat-file", "-t", &reference])?.trim() == "tag";
        let message = if annotated {
            let contents = self.text(&[
                "for-each-ref",
                "--format=%(contents:subject)%0a%0a%(contents:body)",
                &reference,
            ])?;
            Some(contents.trim().to_owned()).filter(|text| !text.is_empty())
        } else {
            None
        };
        Ok(Tag { commit, message })
    }

    /// The full id of a commit, however it is named.
    ///
    /// # Errors
    /// [`Error::Git`].
    pub fn resolve(&self, name: &str) -> Result<String, Error> {
        let found =
            self.text(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")])?;
        Ok(found.trim().to_owned())
    }

    /// Author, time and subject of a commit.
    ///
    /// # Errors
    /// [`Error::Git`].
    pub fn commit(&self, id: &str) -> Result<Commit, Error> {
        let text = self.text(&["show", "--no-patch", "--format=%H%n%an <%ae>%n%ct%n%s", id])?;
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap_or_default().to_owned();
        let (id, author, seconds, subject) = (next(), next(), next(), next());
        let seconds: u64 = seconds.parse().unwrap_or(0);
        Ok(Commit { id, author, committed_at: Timestamp::from_ms(seconds.saturating_mul(1000)), subject })
    }

    /// Whether the working directory differs from what is committed.
    ///
    /// # Errors
    /// [`Error::Git`].
    pub fn is_dirty(&self) -> Result<bool, Error> {
        Ok(!self.text(&["status", "--porcelain"])?.trim().is_empty())
    }

    /// The commits that are in `to` and not in `from`, newest first, as `abc1234 subject`; of everything,
    /// when `from` is not known here. At most 200.
    ///
    /// # Errors
    /// [`Error::Git`].
    pub fn changes(&self, from: Option<&str>, to: &str) -> Result<Vec<String>, Error> {
        let known = |id: &&str| {
            let check = self.run(["cat-file", "-e", &format!("{id}^{{commit}}")]);
            check.is_ok_and(|output| output.status.success())
        };
        let range = from.filter(known).map_or_else(|| to.to_owned(), |from| format!("{from}..{to}"));
        let text = self.text(&["log", "--no-decorate", "--max-count=200", "--format=%h %s", &range])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The directory of the commit that holds `landfall.toml`: the one that the command was typed in, or
    /// the nearest above it. Empty for the root.
    ///
    /// # Errors
    /// [`Error::NoDefinition`].
    pub fn application_root(&self, commit: &str) -> Result<String, Error> {
        let prefix = self.text(&["rev-parse", "--show-prefix"])?;
        let mut prefix = prefix.trim_end_matches('\n').trim_end_matches('/');
        loop {
            let file = join(prefix, definition::FILE_NAME);
            if self.run(["cat-file", "-e", &format!("{commit}:{file}")])?.status.success() {
                return Ok(prefix.to_owned());
            }
            if prefix.is_empty() {
                return Err(Error::NoDefinition { place: format!("commit {}", short(commit)) });
            }
            prefix = prefix.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// A file of a commit.
    ///
    /// # Errors
    /// [`Error::Git`].
    pub fn file(&self, commit: &str, path: &str) -> Result<Vec<u8>, Error> {
        let arguments = ["cat-file", "blob", &format!("{commit}:{path}")];
        let output = self.run(arguments)?;
        if output.status.success() { Ok(output.stdout) } else { Err(failed(&arguments, &output.stderr)) }
    }

    /// Writes the clean tree of a commit (below `root`) into an empty directory.
    ///
    /// # Errors
    /// [`Error::Submodules`] and [`Error::LfsPointers`] for what an archive of the commit does not hold.
    pub fn archive(&self, commit: &Commit, root: &str, into: &Path) -> Result<(), Error> {
        let tree = if root.is_empty() { commit.id.clone() } else { format!("{}:{root}", commit.id) };
        let listed = self.run(["ls-tree", "-r", "-z", "--full-tree", &tree])?;
        if !listed.status.success() {
            return Err(failed(&["ls-tree", "-r", &tree], &listed.stderr));
        }
        let entries = listed.stdout.split(|byte| *byte == 0);
        let submodules: Vec<String> = entries
            .filter(|entry| entry.starts_with(b"160000 "))
            .filter_map(|entry| entry.splitn(2, |byte| *byte == b'\t').nth(1))
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect();
        if !submodules.is_empty() {
            return Err(Error::Submodules(submodules));
        }
        let arguments = ["archive", "--format=tar", &tree];
        let mut child = self
            .command(arguments)
            .current_dir(&self.top)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::NoGit)?;
        let mut stream = child.stdout.take().expect("stdout was asked to be piped");
        let unpacked = unpack::tar(&mut stream, into, Some(commit.committed_at), "the Git archive");
        // Git must not wait for a reader that has stopped.
        let drained = std::io::copy(&mut stream, &mut std::io::sink());
        let mut complaint = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            // The status below tells whether there is anything to complain about.
            let _ = stderr.read_to_end(&mut complaint);
        }
        let status = child.wait().map_err(Error::NoGit)?;
        if !status.success() {
            return Err(failed(&arguments, &complaint));
        }
        unpacked?;
        drained.map_err(|source| Error::io("read the Git archive into", into, source))?;
        let pointers = lfs_pointers(into)?;
        if pointers.is_empty() { Ok(()) } else { Err(Error::LfsPointers(pointers)) }
    }
}

/// `a/b`, or `b` below the root.
#[must_use]
pub fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// The first digits of a commit id, for people.
#[must_use]
pub fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn failed(arguments: &[&str], stderr: &[u8]) -> Error {
    let complaint = String::from_utf8_lossy(stderr).trim().to_owned();
    Error::Git { command: format!("git {}", arguments.join(" ")), complaint }
}

/// What a pointer file of Git LFS begins with (its specification, version 1).
const LFS_BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// The specification wants pointers to be smaller than this.
const LFS_MAX_BYTES: u64 = 1024;

fn lfs_pointers(root: &Path) -> Result<Vec<String>, Error> {
    let mut pointers = Vec::new();
    let mut stack = vec![root.to_owned()];
    while let Some(directory) = stack.pop() {
        let entries = std::fs::read_dir(&directory).map_err(|e| Error::io("read", &directory, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &directory, e))?;
            let (path, kind) = (entry.path(), entry.file_type());
            let kind = kind.map_err(|e| Error::io("read", &path, e))?;
            if kind.is_dir() {
                stack.push(path);
                continue;
            }
            let small = entry.metadata().is_ok_and(|metadata| metadata.len() < LFS_MAX_BYTES);
            if kind.is_file() && small {
                let content = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
                if content.starts_with(LFS_BEGINNING) {
                    let inside = path.strip_prefix(root).unwrap_or(&path);
                    pointers.push(inside.display().to_string());
                }
            }
        }
    }
    pointers.sort();
    Ok(pointers)
}
