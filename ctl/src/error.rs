//! Everything that can go wrong in `ctl`: what, why, and what to type next; and the exit code.

use std::io;
use std::path::{Path, PathBuf};

use landfall_common::ReleaseName;
use landfall_common::definition::Diagnostic;
use landfall_common::manifest::ManifestError;
use landfall_trust::TrustError;

use crate::client::status::Refusal;

/// How `ctl` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked is done.
    Succeeded = 0,
    /// It failed.
    Failed = 1,
    /// It was asked wrongly, or of the wrong thing; nothing was changed.
    Usage = 2,
    /// The rollout went back to the release before.
    RolledBack = 3,
    /// The rollout still runs: a deadline passed, or the operator detached.
    StillRunning = 4,
    /// Another rollout holds the place.
    LockHeld = 5,
    /// The operator has no certificate, an expired one, or too low a role.
    Unauthorised = 6,
    /// The controller does not answer, or is not the one that was pinned.
    Unreachable = 7,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried, such as `read`.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The command line, or a file that it names, asks for what cannot be.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do instead.
        next: String,
    },
    /// Something that has to be there first is not.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// The command that makes it.
        next: String,
    },
    /// `git` cannot be started.
    #[error("git cannot be started")]
    NoGit(#[source] io::Error),
    /// The directory is in no Git repository.
    #[error("{} is not in a Git repository", directory.display())]
    NotARepository {
        /// Where the command was typed.
        directory: PathBuf,
    },
    /// A Git command failed.
    #[error("{command} failed: {complaint}")]
    Git {
        /// The command.
        command: String,
        /// What it said.
        complaint: String,
    },
    /// There is no such tag.
    #[error("there is no tag {tag:?} in this repository")]
    NoTag {
        /// The tag that was asked for.
        tag: String,
        /// The one most like it.
        near: Option<String>,
    },
    /// The commit has no definition.
    #[error("{place} has no landfall.toml")]
    NoDefinition {
        /// The commit or directory.
        place: String,
    },
    /// The definition is not valid.
    #[error("landfall.toml is not valid: {} found", count(mistakes.len(), "mistake"))]
    Definition {
        /// What is wrong with it.
        mistakes: Vec<Diagnostic>,
        /// What to do about it: that depends on what the file was read for.
        next: &'static str,
    },
    /// The file of another tool is not what it was taken for.
    #[error("the file cannot be imported from {what}")]
    Import {
        /// Which tool.
        what: &'static str,
        /// What is wrong with it.
        mistakes: Vec<Diagnostic>,
        /// What to do about it.
        next: String,
    },
    /// What was made of another tool's file is not valid; nothing was written.
    #[error("what was made of {file} is not a valid definition: this is a mistake of ctl")]
    ImportBroken {
        /// The file.
        file: String,
        /// What is wrong with what was made.
        mistakes: Vec<Diagnostic>,
    },
    /// An archive of the commit leaves out its submodules.
    #[error("the commit has submodules, which a release cannot hold: {}", .0.join(", "))]
    Submodules(Vec<String>),
    /// The tree has pointers instead of content.
    #[error("the commit has files whose content is in Git LFS and was not fetched: {}", some(.0))]
    LfsPointers(Vec<String>),
    /// A glob that the definition let pass cannot be used.
    #[error("{glob:?} is not a glob: {reason}")]
    Glob {
        /// The glob.
        glob: String,
        /// Why not.
        reason: String,
    },
    /// An archive cannot be unpacked.
    #[error("{what} is refused: {reason}")]
    Archive {
        /// Which.
        what: String,
        /// The entry, and what is wrong with it.
        reason: String,
    },
    /// The tree holds what a release must not.
    #[error("the tree cannot be released: {} found", count(problems.len(), "problem"))]
    Tree {
        /// Each with its path.
        problems: Vec<String>,
    },
    /// Nothing is left to be released.
    #[error("there is no file to release: the tree is empty, or everything is excluded")]
    EmptyTree,
    /// An image that the definition names is not there.
    #[error("`image_file` {path:?} is not among the files of the release")]
    ImageFile {
        /// As the definition writes it.
        path: String,
    },
    /// A file changed while it was packed.
    #[error("{} changed while it was being packed", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// A cached object is not what its name says.
    #[error("the cached object {} is damaged", path.display())]
    CacheDamaged {
        /// Where.
        path: PathBuf,
    },
    /// A build command failed.
    #[error("build step {step} failed: {reason}")]
    Build {
        /// Its name.
        step: String,
        /// Exit code, signal or timeout, as words.
        reason: String,
        /// The last lines of its output.
        tail: Vec<String>,
        /// Where all of its output is.
        log: PathBuf,
    },
    /// Someone else packs the same application on this machine.
    #[error("another ctl builds {application} on this machine")]
    BuildLocked {
        /// Which application.
        application: String,
    },
    /// A manifest cannot be made, or is none.
    #[error("the manifest cannot be used")]
    Manifest(#[source] ManifestError),
    /// A release has in its manifest what only a newer `ctl` knows.
    #[error("a release was made by a newer ctl than this one, {}", env!("CARGO_PKG_VERSION"))]
    NewerRelease(#[source] ManifestError),
    /// A file that `ctl` keeps cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Metadata or a key is not accepted.
    #[error("{doing}")]
    Trust {
        /// What was being done.
        doing: String,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// The controller gave something that cannot be right.
    #[error("the controller's answer is refused: {0}")]
    Answer(String),
    /// The release's name stands for something else already.
    #[error("release {release} exists already, made from {theirs}; this would be made from {ours}")]
    NameTaken {
        /// The name.
        release: String,
        /// What it stands for.
        theirs: String,
        /// What it would stand for.
        ours: String,
    },
    /// The files of a published release cannot be made again.
    #[error(
        "release {release} came out different when it was built again: its tree was {theirs}, and is now {ours}; \
         a published name never gets other content"
    )]
    NotReproduced {
        /// The name.
        release: String,
        /// The tree that is published.
        theirs: String,
        /// The tree that was made now.
        ours: String,
    },
    /// The controller cannot be reached, or is another one.
    #[error("cannot reach the controller at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
    /// No context, so that there is nobody to ask.
    #[error("this machine knows no controller yet")]
    NoController,
    /// There is no certificate to show, or it has expired.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The controller refused.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The operator said no.
    #[error("the answer was no")]
    Declined,
    /// The release is out, and its rollout was not begun.
    #[error("{release} is published, and no rollout was begun")]
    AfterPublishing {
        /// Which release.
        release: String,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// Interrupted before anything was begun.
    #[error("interrupted; no rollout was begun")]
    Interrupted,
}

impl Error {
    /// An [`Error::Io`].
    #[must_use]
    pub fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), source }
    }

    /// An [`Error::Usage`].
    #[must_use]
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), next: next.into() }
    }

    /// An [`Error::Missing`].
    #[must_use]
    pub fn missing(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), next: next.into() }
    }

    /// An [`Error::Trust`]; `doing` says what could not be done.
    pub fn trust(doing: impl Into<String>) -> impl FnOnce(TrustError) -> Self {
        let doing = doing.into();
        |source| Self::Trust { doing, source }
    }

    /// The error of a rollout that was not begun, for a release that was published just before.
    #[must_use]
    pub fn after_publishing(self, release: &ReleaseName) -> Self {
        Self::AfterPublishing { release: release.to_string(), source: Box::new(self) }
    }

    /// How `ctl` ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. }
            | Self::NotARepository { .. }
            | Self::NoTag { .. }
            | Self::NoDefinition { .. }
            | Self::Definition { .. }
            | Self::Import { .. }
            | Self::Glob { .. }
            | Self::Declined => Exit::Usage,
            Self::BuildLocked { .. } => Exit::LockHeld,
            Self::NoController | Self::NotLoggedIn(_) => Exit::Unauthorised,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(refusal) => refusal.exit(),
            // "Nothing was changed" is not true any more.
            Self::AfterPublishing { source, .. } => match source.exit() {
                Exit::Usage => Exit::Failed,
                exit => exit,
            },
            _ => Exit::Failed,
        }
    }

    /// A word for programs that read `-o json`.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.reason.to_lowercase(),
            Self::AfterPublishing { source, .. } => source.kind(),
            Self::Io { .. } => "io".into(),
            Self::Usage { .. } => "usage".into(),
            Self::Missing { .. } => "missing".into(),
            Self::NoGit(_) | Self::Git { .. } => "git".into(),
            Self::NotARepository { .. } => "not_a_repository".into(),
            Self::NoTag { .. } => "no_tag".into(),
            Self::NoDefinition { .. } => "no_definition".into(),
            Self::Definition { .. } | Self::Glob { .. } => "invalid_definition".into(),
            Self::Import { .. } => "not_imported".into(),
            Self::ImportBroken { .. } => "internal".into(),
            Self::Submodules(_) => "submodules".into(),
            Self::LfsPointers(_) => "lfs_pointers".into(),
            Self::Archive { .. } => "archive".into(),
            Self::Tree { .. } | Self::EmptyTree | Self::Changed { .. } => "tree".into(),
            Self::ImageFile { .. } => "image_file".into(),
            Self::CacheDamaged { .. } => "cache_damaged".into(),
            Self::Build { .. } => "build_failed".into(),
            Self::BuildLocked { .. } => "build_locked".into(),
            Self::Manifest(_) => "manifest".into(),
            Self::NewerRelease(_) => "newer_release".into(),
            Self::Config { .. } => "config".into(),
            Self::Trust { .. } => "trust".into(),
            Self::Answer(_) => "bad_answer".into(),
            Self::NameTaken { .. } => "release_name_taken".into(),
            Self::NotReproduced { .. } => "not_reproduced".into(),
            Self::Unreachable { .. } => "unreachable".into(),
            Self::NoController | Self::NotLoggedIn(_) => "not_logged_in".into(),
            Self::Declined => "declined".into(),
            Self::Interrupted => "interrupted".into(),
        }
    }

    /// The lines that say more than the message: diagnostics, paths, output.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Definition { mistakes, .. }
            | Self::Import { mistakes, .. }
            | Self::ImportBroken { mistakes, .. } => mistakes.iter().map(ToString::to_string).collect(),
            Self::Tree { problems } => problems.clone(),
            Self::Build { tail, .. } => tail.iter().map(|line| format!("| {line}")).collect(),
            Self::Unreachable { reason, .. } => vec![format!("because {reason}")],
            Self::Refused(refusal) => refusal.details.clone(),
            Self::AfterPublishing { source, .. } => source.details(),
            _ => Vec::new(),
        }
    }

    /// What to do next: a command, or a sentence.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        Some(match self {
            Self::Usage { next, .. } | Self::Missing { next, .. } | Self::Import { next, .. } => next.clone(),
            Self::ImportBroken { .. } => {
                "report it with the file, which was left as it is; until then write landfall.toml by hand (docs/from)".into()
            }
            Self::NoGit(_) => "install Git, or release a prebuilt directory: ctl release NAME --artifact DIR".into(),
            Self::NotARepository { .. } => {
                "go to the application's repository, or release a prebuilt directory with --artifact DIR".into()
            }
            Self::NoTag { near: Some(near), tag } => {
                format!("the tag most like it is {near}; to make it: git tag -a {tag} -m \"what changed\"")
            }
            Self::NoTag { near: None, tag } => format!("git tag -a {tag} -m \"what changed\""),
            Self::NoDefinition { .. } => {
                "write one with `ctl init`, commit it, and tag that commit (reference: docs/reference/landfall-toml.md)"
                    .into()
            }
            Self::Definition { next, .. } => (*next).into(),
            Self::Submodules(_) => "vendor their files into the repository, or release a built tree with --artifact DIR".into(),
            Self::LfsPointers(_) => "git lfs install && git lfs fetch --all, then the same command again".into(),
            Self::Tree { .. } => "remove or rename them, or leave them out with [source] exclude".into(),
            Self::EmptyTree => "look at [source] exclude in landfall.toml".into(),
            Self::ImageFile { path } => format!(
                "let a [[build]] step write it (`docker save IMAGE -o {path}`), and leave it in by [source] exclude"
            ),
            Self::Changed { .. } => "stop whatever writes there, then the same command again".into(),
            Self::CacheDamaged { .. } => "the same command again packs it anew".into(),
            Self::Build { log, .. } => format!("all of its output: less {}", log.display()),
            Self::BuildLocked { .. } => "wait for it to end, then the same command again".into(),
            Self::NameTaken { release, .. } => {
                format!("choose another name; a published name is never used again (ctl releases shows {release})")
            }
            Self::NotReproduced { release, .. } => {
                format!("tag the commit of {release} under a new name and release that: git tag NEW {release}^{{commit}}")
            }
            Self::NewerRelease(_) => {
                "upgrade ctl on this machine to the version that the other one has: `ctl --version` there".into()
            }
            Self::Unreachable { reason, .. } if reason.contains("certificate not valid yet") => {
                "compare the clocks: this machine's is behind the controller's (date, timedatectl)".into()
            }
            Self::Unreachable { reason, .. } if reason.contains("certificate expired") => {
                "compare the clocks: this machine's is ahead of the controller's (date, timedatectl)".into()
            }
            Self::Unreachable { reason, .. } if reason.contains("authority that this context trusts") => {
                "check the address (ctl context show); if the controller was set up anew: ctl login TOKEN, with a token of it"
                    .into()
            }
            Self::Unreachable { reason, .. } if reason.contains("client") && reason.contains("certificate") => {
                "the same command again; if it stays so: ctl login TOKEN (an administrator makes one: ctl operators token \
                 NAME --role ROLE)"
                    .into()
            }
            Self::Unreachable { .. } => {
                "on the controller's host: systemctl status landfall-controller; from here: check the address (ctl context \
                 show) and what firewalls let through"
                    .into()
            }
            Self::NoController => {
                "ctl login TOKEN --controller HOST:PORT (the first token is printed by landfall-controller init; further \
                 ones: ctl operators token NAME --role ROLE)"
                    .into()
            }
            Self::NotLoggedIn(_) => {
                "ctl login TOKEN (an administrator makes one: ctl operators token NAME --role ROLE; or, on the \
                 controller's host: landfall-controller operator-token --name NAME --role ROLE)"
                    .into()
            }
            Self::Refused(refusal) => return refusal.next.clone(),
            Self::AfterPublishing { release, source } if matches!(**source, Self::Declined) => {
                format!("ctl release {release}, when it is to be rolled out; it is not built again")
            }
            Self::AfterPublishing { source, .. } => return source.next(),
            Self::Trust {
                source:
                    TrustError::Rollback { .. }
                    | TrustError::RoleRemoved { .. }
                    | TrustError::SameVersionOtherContent { .. },
                ..
            } => "if a backup of the controller was restored: ctl trust republish".into(),
            _ => return None,
        })
    }
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Newer { .. } => Self::NewerRelease(error),
            _ => Self::Manifest(error),
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn some(names: &[String]) -> String {
    match names {
        [first, second, third, _, ..] => {
            format!("{first}, {second}, {third} and {} more", names.len() - 3)
        }
        _ => names.join(", "),
    }
}
