//! The recipes of `docs/recipes`, and the pages of `docs/from`: what a page shows is what is tested.
//!
//! A page names each of its files in a line of its own, which begins with the name in backticks and ends with a
//! colon; the next code block is that file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name, relative to the repository.
    pub name: String,
    /// What the line says after the name: for what this one is, where a page shows a file more than once.
    pub purpose: String,
    /// Its content.
    pub text: String,
}

/// Where the recipes are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes")
}

/// Where the pages for those who come from another tool are.
#[must_use]
pub fn from_elsewhere() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/from")
}

/// The files that the page of a recipe shows.
///
/// # Errors
/// As of [`shown_on`].
pub fn shown(recipe: &str) -> io::Result<Vec<Shown>> {
    shown_on(&directory().join(format!("{recipe}.md")))
}

/// The files that a page shows.
///
/// # Errors
/// If there is no such page, or a line announces a file and no code block follows.
pub fn shown_on(path: &Path) -> io::Result<Vec<Shown>> {
    let page = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    files_in(&page).map_err(|problem| io::Error::other(format!("{}: {problem}", path.display())))
}

/// Writes the files of a page into a repository: of each name the first that is shown.
///
/// # Errors
/// As of [`shown`], or if a file cannot be written.
pub fn write(recipe: &str, repository: &Path) -> io::Result<()> {
    for file in shown(recipe)?.into_iter().rev() {
        let path = repository.join(&file.name);
        fs::create_dir_all(path.parent().unwrap_or(repository))?;
        fs::write(path, file.text)?;
    }
    Ok(())
}

fn files_in(page: &str) -> Result<Vec<Shown>, String> {
    let mut files = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            // Of something else: what is in it announces nothing.
            lines.by_ref().find(|line| line.starts_with("```"));
            continue;
        }
        let Some((name, purpose)) = announced(line) else { continue };
        let fence = lines.find(|line| !line.is_empty()).unwrap_or_default();
        if !fence.starts_with("```") {
            return Err(format!("no code block follows the line {line:?}"));
        }
        let text = lines.by_ref().take_while(|line| !line.starts_with("```"));
        let text = text.fold(String::new(), |text, line| text + line + "\n");
        files.push(Shown { name: name.to_owned(), purpose: purpose.to_owned(), text });
    }
    Ok(files)
}

fn announced(line: &str) -> Option<(&str, &str)> {
    line.strip_suffix(':')?.strip_prefix('`')?.split_once('`').filter(|(name, _)| name.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_with_their_names() {
        let page = "# X\n\n`a.toml`:\n\n```toml\na = 1\n\nb = 2\n```\n\n```sh\n`no.file`:\n```\n\n\
                    `a.toml` in another way:\n```\nc\n```\nNot a `file.toml` here:\n";
        let shown = |purpose: &str, text: &str| Shown {
            name: "a.toml".to_owned(),
            purpose: purpose.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(files_in(page), Ok(vec![shown("", "a = 1\n\nb = 2\n"), shown(" in another way", "c\n")]));
        assert!(files_in("`a.toml`:\n\ntext\n").unwrap_err().contains("no code block"));
    }
}
