//! The walk over a built tree: what a release would hold, or everything that it must not hold.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use landfall_common::manifest::{self, Links};
use unicode_normalization::UnicodeNormalization;

use super::unpack::SPECIAL_BITS;
use crate::error::Error;

/// More than this many problems help nobody.
const MAX_PROBLEMS: usize = 20;
/// Deeper trees are a mistake, and a danger to whoever recurses.
const MAX_DEPTH: usize = 64;

/// What was found, with directories as trees.
#[derive(Debug)]
pub enum Node {
    /// A regular file.
    File {
        /// Where its content is.
        path: PathBuf,
        /// In bytes.
        size: u64,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link inside the release.
    Symlink {
        /// Its target, as it stands.
        target: String,
    },
    /// A directory.
    Directory(BTreeMap<String, Node>),
}

/// Globs over paths relative to the root of a tree.
#[derive(Debug, Clone)]
pub struct Globs(GlobSet);

impl Globs {
    /// Globs as a definition writes them: one without `/` is for any directory, and `x/**` is for `x` too.
    ///
    /// # Errors
    /// [`Error::Glob`]; the definition has checked them already.
    pub fn new(globs: &[String]) -> Result<Self, Error> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let trimmed = glob.trim_end_matches('/');
            let anywhere = if trimmed.contains('/') { trimmed.to_owned() } else { format!("**/{trimmed}") };
            for form in [Some(anywhere.as_str()), anywhere.strip_suffix("/**")].into_iter().flatten() {
                let built = GlobBuilder::new(form).literal_separator(true).build();
                set.add(
                    built.map_err(|error| Error::Glob { glob: glob.clone(), reason: error.to_string() })?,
                );
            }
        }
        let set = set.build();
        set.map(Self).map_err(|error| Error::Glob { glob: globs.join(" "), reason: error.to_string() })
    }

    /// Whether one of them is for this path.
    #[must_use]
    pub fn contain(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// Walks a tree.
///
/// # Errors
/// [`Error::Tree`] with everything that a release must not hold, [`Error::Io`].
pub fn walk(root: &Path, exclude: &Globs) -> Result<BTreeMap<String, Node>, Error> {
    let mut walk = Walk { exclude, problems: Vec::new(), links: Links::default() };
    let tree = walk.directory(root, "", 0)?;
    if let Err((path, rule)) = walk.links.check() {
        walk.problem(&path, &rule);
    }
    if walk.problems.is_empty() { Ok(tree) } else { Err(Error::Tree { problems: walk.problems }) }
}

struct Walk<'w> {
    exclude: &'w Globs,
    problems: Vec<String>,
    links: Links,
}

impl Walk<'_> {
    fn problem(&mut self, path: &str, reason: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{}: {reason}", path.escape_debug()));
        }
    }

    fn directory(
        &mut self,
        path: &Path,
        inside: &str,
        depth: usize,
    ) -> Result<BTreeMap<String, Node>, Error> {
        let failed = |source| Error::io("read", path, source);
        let mut found = BTreeMap::new();
        if depth > MAX_DEPTH {
            self.problem(inside, "it lies more than 64 directories deep");
            return Ok(found);
        }
        let mut alike: BTreeMap<String, String> = BTreeMap::new();
        let mut entries: Vec<_> =
            fs::read_dir(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = match entry.file_name().into_string() {
                Ok(name) => name,
                Err(raw) => {
                    let shown = crate::git::join(inside, &raw.to_string_lossy());
                    self.problem(&shown, "its name is not UTF-8");
                    continue;
                }
            };
            let place = crate::git::join(inside, &name);
            if (depth == 0 && name == ".git") || self.exclude.contain(&place) {
                continue;
            }
            if manifest::component(&name).is_err() {
                self.problem(&place, "its name holds a control character or is too long");
                continue;
            }
            if let Some(other) = alike.insert(folded(&name), name.clone()) {
                let other = other.escape_unicode_if_alike(&name);
                self.problem(&place, &format!("its name differs from {other} only by case or Unicode form"));
            }
            let Some(node) = self.node(&entry.path(), &place, depth)? else { continue };
            found.insert(name, node);
        }
        Ok(found)
    }

    fn node(&mut self, path: &Path, place: &str, depth: usize) -> Result<Option<Node>, Error> {
        let failed = |source| Error::io("read", path, source);
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let (kind, mode) = (metadata.file_type(), metadata.permissions().mode());
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            let Some(target) = target.to_str() else {
                self.problem(place, "it is a link whose target is not UTF-8");
                return Ok(None);
            };
            if let Err(rule) = manifest::link_target(depth, target) {
                self.problem(place, &rule);
                return Ok(None);
            }
            self.links.add(place, target);
            return Ok(Some(Node::Symlink { target: target.to_owned() }));
        }
        if kind.is_dir() {
            let below = self.directory(path, place, depth + 1)?;
            return Ok(Some(Node::Directory(below)));
        }
        if kind.is_file() {
            if mode & SPECIAL_BITS != 0 {
                let bits = mode & 0o7777;
                self.problem(
                    place,
                    &format!("it has mode {bits:04o}; set-uid, set-gid and sticky bits are refused"),
                );
                return Ok(None);
            }
            let executable = mode & 0o111 != 0;
            return Ok(Some(Node::File { path: path.to_owned(), size: metadata.len(), executable }));
        }
        let what = if kind.is_fifo() {
            "a pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        self.problem(place, &format!("it is {what}; only files, directories and links can be released"));
        Ok(None)
    }
}

/// Names with the same folded form are one name on some file system or in some editor.
fn folded(name: &str) -> String {
    name.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

trait ShowAlike {
    fn escape_unicode_if_alike(&self, other: &str) -> String;
}

impl ShowAlike for String {
    /// Two Unicode forms of one name look the same on a screen; then the code points are shown.
    fn escape_unicode_if_alike(&self, other: &str) -> String {
        let same = self.nfc().eq(other.nfc());
        let escape = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
        if same {
            format!("\"{}\"", self.chars().map(escape).collect::<String>())
        } else {
            format!("{self:?}")
        }
    }
}
