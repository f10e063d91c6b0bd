//! A registry of images that a test fills with whatever it likes to be served.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use landfall_common::Sha256;

use super::docker::Image;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker takes one that is not compressed as well.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[derive(Default)]
struct Shelf {
    /// What is served, by path.
    content: BTreeMap<String, (&'static str, Vec<u8>)>,
    asked: Vec<String>,
    /// What is not answered, by the end of its path.
    held: Option<String>,
}

/// It serves until this process ends.
pub struct Registry {
    /// The name of its only repository, with its own address.
    pub name: String,
    shelf: Arc<Mutex<Shelf>>,
}

/// What a registry has of an image.
pub struct Pushed {
    pub manifest: Sha256,
    pub config: Sha256,
    pub layer: Sha256,
}

impl Registry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("{}/web", listener.local_addr().unwrap());
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let served = shelf.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = served.clone();
                std::thread::spawn(move || serve(&stream, &shelf));
            }
        });
        let registry = Self { name, shelf };
        registry.put("/v2/", "application/json", b"{}".to_vec());
        registry
    }

    fn put(&self, path: &str, kind: &'static str, bytes: Vec<u8>) {
        self.shelf.lock().unwrap().content.insert(path.to_owned(), (kind, bytes));
    }

    /// Serves an image by its digests, and as the tag `latest`.
    pub fn push(&self, image: &Image) -> Pushed {
        let (config, layer) = image.parts();
        let digests = (Sha256::of(&config), Sha256::of(&layer));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "size": config.len(), "digest": format!("sha256:{}", digests.0) },
            "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": format!("sha256:{}", digests.1) }],
        });
        let manifest = manifest.to_string().into_bytes();
        let pushed = Pushed { manifest: Sha256::of(&manifest), config: digests.0, layer: digests.1 };
        self.put("/v2/web/manifests/latest", MANIFEST, manifest.clone());
        self.manifest(&pushed.manifest, manifest);
        self.blob(&pushed.config, config);
        self.blob(&pushed.layer, layer);
        pushed
    }

    /// Serves this when it is asked for that manifest, be it true or not.
    pub fn manifest(&self, digest: &Sha256, bytes: Vec<u8>) {
        self.put(&format!("/v2/web/manifests/sha256:{digest}"), MANIFEST, bytes);
    }

    /// The same of a part of an image.
    pub fn blob(&self, digest: &Sha256, bytes: Vec<u8>) {
        self.put(&format!("/v2/web/blobs/sha256:{digest}"), "application/octet-stream", bytes);
    }

    /// What it serves as this manifest.
    pub fn served(&self, digest: &Sha256) -> Vec<u8> {
        self.shelf.lock().unwrap().content[&format!("/v2/web/manifests/sha256:{digest}")].1.clone()
    }

    /// Leaves whoever asks for a path that ends so without an answer until [`Self::answer`].
    pub fn hold(&self, end: &str) {
        self.shelf.lock().unwrap().held = Some(end.to_owned());
    }

    pub fn answer(&self) {
        self.shelf.lock().unwrap().held = None;
    }

    /// Waits until somebody waits for what is held.
    pub async fn is_waited_for(&self) {
        let is_waited_for = || {
            let shelf = self.shelf.lock().unwrap();
            let end = shelf.held.as_ref().expect("something is held");
            shelf.asked.iter().any(|path| path.ends_with(end))
        };
        for _ in 0..6_000 {
            if is_waited_for() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("nobody asks for what is held");
    }

    /// Which manifests were asked for since the last time, each once.
    pub fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.shelf.lock().unwrap().asked);
        let mut asked: Vec<_> = asked
            .iter()
            .filter_map(|path| path.strip_prefix("/v2/web/manifests/"))
            .map(str::to_owned)
            .collect();
        asked.sort();
        asked.dedup();
        asked
    }
}

fn serve(stream: &TcpStream, shelf: &Mutex<Shelf>) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        // Docker tries TLS first.
        let Some((method, rest)) = first.split_once(' ') else { return };
        let path = rest.split(' ').next().unwrap_or_default();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        shelf.lock().unwrap().asked.push(path.to_owned());
        let is_held = |shelf: &Shelf| shelf.held.as_ref().is_some_and(|end| path.ends_with(end));
        while is_held(&shelf.lock().unwrap()) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let shelf = shelf.lock().unwrap();
        let (status, kind, bytes) = match shelf.content.get(path) {
            Some((kind, bytes)) => ("200 OK", *kind, bytes.clone()),
            None => ("404 Not Found", "application/json", b"{}".to_vec()),
        };
        drop(shelf);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\n\r\n",
            bytes.len()
        );
        let body = if method == "HEAD" { Vec::new() } else { bytes };
        let mut stream = stream;
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}
