//! An image in a file, as `docker save` writes it: opened only if it is the file that was signed, and handed to
//! Docker without the names that it was saved with, which may be somebody else's on this host.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use landfall_common::Sha256;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How much of a file is handed over at once.
const PIECE: usize = 256 * 1024;

/// The list of a saved image, and its configuration, are small.
const MAX_JSON: u64 = 4 * 1024 * 1024;

/// Docker's list of what a file holds.
const LIST: &str = "manifest.json";

/// The same in the form of OCI, for Dockers that keep images in containerd.
const INDEX: &str = "index.json";

/// An older list of names.
const NAMES: &str = "repositories";

/// The names in an [`INDEX`].
const INDEX_NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Why a file is not handed to Docker.
#[derive(Debug, thiserror::Error)]
pub(super) enum SavedError {
    #[error("{path} is not the file that was signed: its digest is {found}, not {expected}")]
    Changed { path: PathBuf, found: Sha256, expected: Sha256 },
    #[error("{path} is not an image as `docker save` writes it: {reason}")]
    NotAnImage { path: PathBuf, reason: String },
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: io::Error },
}

/// A file that was found to be the one that was signed, and is kept open.
#[derive(Debug)]
pub(super) struct Saved {
    file: File,
    /// `sha256:` and the digest of the image's configuration.
    pub id: String,
}

/// One image in the list of a saved one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
}

/// Opens a file, and reads it whole to see that it is the one that was signed, and what is in it.
///
/// # Errors
/// [`SavedError`].
pub(super) fn open(path: &Path, expected: Sha256) -> Result<Saved, SavedError> {
    let broken = |source| SavedError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(broken)?;
    let mut hasher = Sha256::hasher();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(broken)? {
            0 => break,
            count => hasher.update(&piece[..count]),
        }
    }
    let found = hasher.finish();
    if found != expected {
        return Err(SavedError::Changed { path: path.to_owned(), found, expected });
    }
    let id = id(&mut file).map_err(|reason| SavedError::NotAnImage { path: path.to_owned(), reason })?;
    Ok(Saved { file, id })
}

fn id(file: &mut File) -> Result<String, String> {
    let list = entry(file, LIST)?;
    let list: Vec<Listed> = serde_json::from_slice(&list).map_err(|error| format!("{LIST}: {error}"))?;
    let [image] = &list[..] else { return Err(format!("it holds {} images, not one", list.len())) };
    Ok(format!("sha256:{}", Sha256::of(&entry(file, &image.config)?)))
}

/// The content of one entry of a tar.
fn entry(file: &mut File, name: &str) -> Result<Vec<u8>, String> {
    file.rewind().map_err(|error| error.to_string())?;
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries_with_seek().map_err(|error| error.to_string())?;
    for entry in entries {
        let mut entry = entry.map_err(|error| format!("not a tar archive, or a compressed one ({error})"))?;
        let path = entry.path().map_err(|error| error.to_string())?;
        if !is(&path, name) {
            continue;
        }
        if entry.size() > MAX_JSON {
            return Err(format!("its {name} has {} bytes", entry.size()));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        return Ok(bytes);
    }
    Err(format!("it holds no {name}"))
}

fn is(path: &Path, name: &str) -> bool {
    path.strip_prefix("./").unwrap_or(path) == Path::new(name)
}

impl Saved {
    /// The file, piece by piece, with its names left out. An agent that is killed while Docker takes it, or a
    /// container that somebody starts by such a name meanwhile, then finds everything as it was.
    pub fn nameless(self) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (sender, pieces) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut file = self.file;
            let mut to = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
            let copied = file.rewind().and_then(|()| copy(&mut file, &mut to)).and_then(|()| to.flush());
            if let Err(error) = copied {
                // Nobody listens any more, or is told that the rest is missing.
                let _ = sender.blocking_send(Err(error));
            }
        });
        ReceiverStream::new(pieces)
    }
}

/// Where a blocking writer meets a stream.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy(file: &mut File, to: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Archive::new(file);
    let mut copy = tar::Builder::new(to);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (path, mut header) = (entry.path()?.into_owned(), entry.header().clone());
        if is(&path, NAMES) {
            continue;
        }
        if is(&path, LIST) || is(&path, INDEX) {
            let mut list = Vec::new();
            entry.by_ref().take(MAX_JSON).read_to_end(&mut list)?;
            let list = without_names(serde_json::from_slice(&list)?).to_string();
            header.set_size(list.len() as u64);
            copy.append_data(&mut header, path, list.as_bytes())?;
        } else if let Some(link) = entry.link_name()? {
            copy.append_link(&mut header, path, link)?;
        } else {
            copy.append_data(&mut header, path, entry)?;
        }
    }
    copy.finish()
}

/// A list of either kind.
fn without_names(mut list: Value) -> Value {
    for image in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        image.remove("RepoTags");
    }
    let images = list.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten();
    for notes in images.filter_map(|image| image.get_mut("annotations")?.as_object_mut()) {
        notes.retain(|name, _| !INDEX_NAMES.contains(&name.as_str()));
    }
    list
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn opened(bytes: &[u8], digest: Sha256) -> Result<Saved, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        std::fs::write(&path, bytes).unwrap();
        open(&path, digest).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_the_one_that_was_signed_and_one_image_or_it_is_refused() {
        let config = br#"{"architecture":"amd64"}"#;
        let list = |configs: &[&str]| {
            let one = |config: &&str| format!(r#"{{"Config":"{config}","RepoTags":["web:v1"],"Layers":[]}}"#);
            format!("[{}]", configs.iter().map(one).collect::<Vec<_>>().join(","))
        };
        let good = tar(&[("c.json", config), ("./manifest.json", list(&["c.json"]).as_bytes())]);
        let saved = opened(&good, Sha256::of(&good)).unwrap();
        assert_eq!(saved.id, format!("sha256:{}", Sha256::of(config)));
        let error = opened(&good, Sha256::of(b"")).unwrap_err();
        assert!(error.contains("is not the file that was signed"), "{error}");
        for (bytes, expected) in [
            (b"junk that is no archive".to_vec(), "not a tar archive"),
            (vec![0x1f; 2048], "not a tar archive"),
            (tar(&[("c.json", config)]), "holds no manifest.json"),
            (tar(&[("manifest.json", b"{}")]), "manifest.json:"),
            (tar(&[("manifest.json", b"[]")]), "0 images"),
            (tar(&[("manifest.json", list(&["c.json", "c.json"]).as_bytes())]), "2 images"),
            (
                tar(&[("manifest.json", list(&["../c.json"]).as_bytes()), ("c.json", config)]),
                "holds no ../c.json",
            ),
        ] {
            let error = opened(&bytes, Sha256::of(&bytes)).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[tokio::test]
    async fn docker_gets_everything_but_the_names() {
        let deep = format!("{}layer.tar", "blobs/".repeat(40));
        let layer = vec![7; 3 * PIECE + 1];
        let mut file = tar::Builder::new(tar(&[
            ("c.json", b"{}"),
            (&deep, &layer),
            ("repositories", br#"{"web":{"v1":"0"}}"#),
            ("./manifest.json", br#"[{"Config":"c.json","RepoTags":["postgres:15"],"Layers":["l"]}]"#),
            (
                "index.json",
                br#"{"manifests":[{"digest":"d","annotations":{"io.containerd.image.name":"postgres:15","a":"b"}}]}"#,
            ),
        ]));
        // What a tar ends with is in the way of the next entry.
        let end = file.get_ref().len() - 1024;
        file.get_mut().truncate(end);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        file.append_link(&mut header, "l", &deep).unwrap();
        let file = file.into_inner().unwrap();
        let saved = opened(&file, Sha256::of(&file)).unwrap();
        let pieces: Vec<Bytes> = saved.nameless().try_collect().await.unwrap();
        let mut copy = tar::Archive::new(io::Cursor::new(pieces.concat()));
        let mut seen = Vec::new();
        for entry in copy.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let link = entry.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
            // Short enough to be read when it is not as expected.
            let text = String::from_utf8(content).unwrap();
            let text = if text.len() > 100 { Sha256::of(text.as_bytes()).to_string() } else { text };
            seen.push((entry.path().unwrap().to_string_lossy().into_owned(), link, text));
        }
        let text = str::to_owned;
        assert_eq!(
            seen,
            [
                ("c.json".to_owned(), None, text("{}")),
                (deep.clone(), None, Sha256::of(&layer).to_string()),
                ("manifest.json".to_owned(), None, text(r#"[{"Config":"c.json","Layers":["l"]}]"#)),
                (
                    "index.json".to_owned(),
                    None,
                    text(r#"{"manifests":[{"annotations":{"a":"b"},"digest":"d"}]}"#)
                ),
                ("l".to_owned(), Some(deep), String::new()),
            ]
        );
    }
}
