//! The repository around the file that is imported: what it names may be read, as text, and never beyond it.

use std::fs;
use std::path::{Path, PathBuf};

/// No file that describes a deployment comes near it, and no parser has to prove itself on more.
pub const MAX_BYTES: u64 = 256 * 1024;

/// A directory tree that is only read.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The tree below a directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file's text; none if there is no such file inside, or it is large or not text.
    #[must_use]
    pub fn read(&self, relative: &str) -> Option<String> {
        let path = self.inside(relative)?;
        let metadata = fs::metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return None;
        }
        String::from_utf8(fs::read(path).ok()?).ok().filter(|text| !text.contains('\0'))
    }

    /// Whether there is a file or directory.
    #[must_use]
    pub fn has(&self, relative: &str) -> bool {
        self.inside(relative).is_some()
    }

    /// The names in a directory, in order.
    #[must_use]
    pub fn list(&self, relative: &str) -> Vec<String> {
        let Some(entries) = self.inside(relative).and_then(|path| fs::read_dir(path).ok()) else {
            return Vec::new();
        };
        let mut names: Vec<_> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The path if it exists and no link leads out of the tree.
    fn inside(&self, relative: &str) -> Option<PathBuf> {
        let root = self.root.canonicalize().ok()?;
        let path = root.join(relative.trim_start_matches('/')).canonicalize().ok()?;
        path.starts_with(&root).then_some(path)
    }
}
