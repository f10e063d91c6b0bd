//! `ctl import`: a first definition out of another tool's file, and a report of what it could not carry over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use landfall_common::definition::FILE_NAME;
use serde_json::json;

use super::Session;
use crate::cli::Import;
use crate::error::{Error, Exit};
use crate::import::{self, Checkout, Kind, MAX_BYTES, Source, report};

pub(super) fn run(session: &Session, arguments: &Import) -> Result<Exit, Error> {
    let path = session.directory.join(&arguments.file);
    let text = read(&path)?;
    let root = root_of(&path);
    let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
    let kind = arguments.kind.or_else(|| Kind::of(&name, &text)).ok_or_else(|| unknown(&name))?;
    let to = match &arguments.to {
        Some(to) if to.as_os_str() == "-" => None,
        Some(to) => Some(session.directory.join(to)),
        None => Some(root.join(FILE_NAME)),
    };
    if let Some(to) = to.as_deref().filter(|to| fs::symlink_metadata(to).is_ok()) {
        return Err(taken(to, &arguments.file));
    }
    let source = Source { name: &name, text: &text };
    let made = import::import(kind, &source, &Checkout::new(&root), session.global.app.as_ref())?;
    if let Some(to) = &to {
        create(to, &made.definition, &arguments.file)?;
    }
    let report = report::text(&name, kind, to.as_deref(), &made);
    match &to {
        Some(_) => session.output.line(&report),
        None if session.output.is_json() => {}
        None => {
            session.output.raw(made.definition.as_bytes());
            session.output.note(&report);
        }
    }
    session.output.json(
        "import",
        &json!({
            "kind": kind.word(),
            "source": name,
            "application": made.application,
            "written": to,
            "definition": made.definition,
            "carried": made.account.carried,
            "left": made.account.left,
            "open": made.account.open,
        }),
    );
    Ok(Exit::Succeeded)
}

/// The text of the file, if it can be one.
fn read(path: &Path) -> Result<String, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
    let next = "name the file that describes the deployment: appspec.yml, config/deploy.rb, config/deploy.yml or \
                fabfile.py";
    if metadata.is_dir() {
        return Err(Error::usage(format!("{} is a directory", path.display()), next));
    }
    if !metadata.is_file() {
        return Err(Error::usage(format!("{} is no regular file", path.display()), next));
    }
    if metadata.len() > MAX_BYTES {
        let what = format!("{} has {} bytes; at most {MAX_BYTES} are read", path.display(), metadata.len());
        return Err(Error::usage(what, next));
    }
    let bytes = fs::read(path).map_err(|source| Error::io("read", path, source))?;
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err(Error::usage(format!("{} is not text", path.display()), next)),
        Ok(text) if text.trim().is_empty() => Err(Error::usage(format!("{} is empty", path.display()), next)),
        // As editors of Windows write it.
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n")),
        Err(_) => Err(Error::usage(format!("{} is not UTF-8", path.display()), next)),
    }
}

/// The root of the repository: beside the file, or above `config`, where Rails keeps it.
fn root_of(path: &Path) -> PathBuf {
    let beside = path.parent().unwrap_or(Path::new("."));
    let is_config = beside.file_name().is_some_and(|name| name == "config");
    let root = if is_config { beside.parent().unwrap_or(beside) } else { beside };
    root.to_owned()
}

fn unknown(name: &str) -> Error {
    let kinds = Kind::ALL.map(Kind::word).join(", ");
    Error::usage(
        format!("neither its name nor its content says whose file {name} is"),
        format!("say it with --kind KIND, one of: {kinds}"),
    )
}

fn taken(to: &Path, file: &Path) -> Error {
    Error::usage(
        format!("{} is there already, and is never written over", to.display()),
        format!(
            "to compare: ctl import {} --to - | diff {} -; or write elsewhere with --to PATH",
            file.display(),
            to.display()
        ),
    )
}

/// Writes a file that must not be there, for which somebody else may have cared in the meantime.
fn create(to: &Path, definition: &str, file: &Path) -> Result<(), Error> {
    let made = OpenOptions::new().write(true).create_new(true).open(to);
    let mut made = match made {
        Ok(made) => made,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(taken(to, file)),
        Err(source) => return Err(Error::io("create", to, source)),
    };
    let written = made.write_all(definition.as_bytes()).and_then(|()| made.sync_all());
    written.map_err(|source| {
        // Half a definition would be worse than none.
        let _ = fs::remove_file(to);
        Error::io("write", to, source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Global;
    use crate::config::{Config, Places};
    use crate::output::{Format, Output};

    const APPSPEC: &str = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/site\n";

    fn import(home: &Path, file: &str, to: Option<&str>) -> Result<Exit, Error> {
        let places = Places { config: home.join("config-of-ctl"), cache: home.join("cache") };
        let global = Global { context: None, app: None, output: Format::Table };
        let output = Output::plain();
        let session =
            Session { directory: home.to_owned(), places, config: Config::default(), global, output };
        run(&session, &Import { file: file.into(), kind: None, to: to.map(PathBuf::from) })
    }

    #[test]
    fn a_definition_is_written_once_and_never_over_another() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("appspec.yml"), APPSPEC).unwrap();
        assert_eq!(import(home.path(), "appspec.yml", None).unwrap(), Exit::Succeeded);
        let first = fs::read_to_string(home.path().join(FILE_NAME)).unwrap();
        assert!(first.contains("name = \"site\""), "{first}");

        fs::write(home.path().join(FILE_NAME), "mine").unwrap();
        let error = import(home.path(), "appspec.yml", None).unwrap_err();
        assert_eq!((error.kind().as_str(), error.exit()), ("usage", Exit::Usage));
        assert!(error.next().unwrap().contains("ctl import appspec.yml --to - | diff"), "{error:?}");
        assert_eq!(fs::read_to_string(home.path().join(FILE_NAME)).unwrap(), "mine");
        // A link that leads nowhere is somebody's too.
        std::os::unix::fs::symlink("nowhere", home.path().join("link.toml")).unwrap();
        assert!(import(home.path(), "appspec.yml", Some("link.toml")).is_err());
        assert!(!home.path().join("nowhere").exists());

        import(home.path(), "appspec.yml", Some("other.toml")).unwrap();
        assert_eq!(fs::read_to_string(home.path().join("other.toml")).unwrap(), first);
        let before = fs::read_dir(home.path()).unwrap().count();
        import(home.path(), "appspec.yml", Some("-")).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), before);
    }

    #[test]
    fn a_file_in_config_belongs_to_the_repository_above() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("config")).unwrap();
        fs::write(home.path().join("config/deploy.yml"), "service: shop\nimage: team/shop\n").unwrap();
        import(home.path(), "config/deploy.yml", None).unwrap();
        let definition = fs::read_to_string(home.path().join(FILE_NAME)).unwrap();
        assert!(definition.contains("By config/deploy.yml:1."), "{definition}");
    }

    #[test]
    fn what_cannot_be_such_a_file_is_refused_before_it_is_parsed() {
        let home = tempfile::tempdir().unwrap();
        let large = vec![b'a'; 5 * 1024 * 1024];
        let files: [(&str, &[u8], &str, &str); 7] = [
            ("large.yml", &large, "usage", "has 5242880 bytes; at most 262144 are read"),
            ("binary.yml", b"a\0b", "usage", "is not text"),
            ("latin.yml", b"caf\xe9: 1", "usage", "is not UTF-8"),
            ("empty.yml", b" \n", "usage", "is empty"),
            ("main.rs", b"fn main() {}", "usage", "neither its name nor its content"),
            ("directory", b"", "usage", "is a directory"),
            ("absent.yml", b"", "io", "cannot read"),
        ];
        for (name, content, kind, expected) in files {
            match name {
                "directory" => fs::create_dir(home.path().join(name)).unwrap(),
                "absent.yml" => {}
                _ => fs::write(home.path().join(name), content).unwrap(),
            }
            let error = import(home.path(), name, None).unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!home.path().join(FILE_NAME).exists());
        }
    }
}
