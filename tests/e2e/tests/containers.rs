//! A service in containers, from `ctl release` to the requests: what was signed is what Docker runs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this file is tests")]

#[allow(dead_code, reason = "what is shared with other tests is not used as a whole")]
#[path = "../../../agent/tests/support/docker.rs"]
mod docker;

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use docker::{Dockerd, Image};
use landfall_common::Sha256;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

/// The host's Python serves: the image holds nothing but links into its `/usr`.
const DEFINITION: &str = r#"[application]
name = "site"

[[service]]
name = "web"
driver = "docker"
image_file = "images/web.tar"
command = ["/usr/bin/python3", "/app/server.py"]
environment = { PYTHONUNBUFFERED = "1" }
volumes = ["/usr:/usr:ro", "{release}:/app:ro"]
publish = ["127.0.0.1:{port}:8000"]
settle = "500ms"
stop_timeout = "5s"

[[check]]
name = "healthz"
http = { url = "http://127.0.0.1:{port}/healthz" }
interval = "200ms"
timeout = "5s"

[environment.production]
min_healthy = "1s"
healthy_deadline = "30s"
"#;

/// It names its release, and is well unless that is v3.
const SERVER: &str = r#"
import http.server, os, signal, sys

release = os.environ["LANDFALL_RELEASE"]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if release == "v3" else 200)
        self.send_header("Content-Length", str(len(release)))
        self.end_headers()
        self.wfile.write(release.encode())

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

#[test]
fn on_a_host_a_release_of_a_container_arrives_and_a_bad_one_goes_back() {
    docker::run_inside("inside_from_the_release_to_the_requests");
}

fn image(release: &'static str) -> Image {
    Image { mark: release, ..Image::default() }
}

/// The application as of a release, with its image.
fn artifact(scene: &Scene, release: &'static str) -> PathBuf {
    let artifact = scene.path("artifacts").join(release);
    fs::create_dir_all(artifact.join("images")).unwrap();
    for (name, content) in [("landfall.toml", DEFINITION), ("server.py", SERVER)] {
        fs::write(artifact.join(name), content).unwrap();
    }
    fs::write(artifact.join("images/web.tar"), image(release).saved()).unwrap();
    artifact
}

fn answered(mut stream: impl io::Read + io::Write, path: &str) -> io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: site\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))
}

/// In its namespaces; anywhere else it has nothing to do.
#[test]
fn inside_from_the_release_to_the_requests() {
    if !docker::is_inside() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dockerd = Dockerd::start(place.path());
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    let config = scene.prepare("web-1").unwrap().join("agent.toml");
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str(&format!("[docker]\nsocket = {:?}\n", dockerd.socket));
    // The administrator has not granted `/usr` yet.
    fs::write(&config, &text).unwrap();
    scene.join("web-1").unwrap();
    let release = |scene: &Scene, release: &'static str, code: i32, words: &str| {
        let artifact = artifact(scene, release);
        let said: Said = scene.release_command(release, &artifact, &[]).output().unwrap().into();
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, scene.last_words());
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains(words), "no {words:?} in\n{all}");
    };
    // The only container that runs, by the digest of its image's configuration.
    let runs = |release: &'static str| {
        let said = answered(UnixStream::connect(&dockerd.socket).unwrap(), "/containers/json").unwrap();
        let running: serde_json::Value = serde_json::from_str(&said).unwrap();
        let images: Vec<_> = running.as_array().unwrap().iter().map(|one| one["ImageID"].clone()).collect();
        assert_eq!(images, [format!("sha256:{}", Sha256::of(&image(release).parts().0))], "{running:#}");
    };
    let address = format!("127.0.0.1:{}", scene.stage.hosts["web-1"].port);
    let answers = |release: &str| {
        assert_eq!(answered(TcpStream::connect(&address).unwrap(), "/").unwrap(), release);
    };

    release(&scene, "v0", 1, "/usr lies outside of {shared}, {prepared} and {release}");
    text.push_str("mounts = [\"/usr\"]\n");
    fs::write(&config, &text).unwrap();
    scene.stage.kill_agent("web-1").unwrap();
    scene.stage.start_agent("web-1").unwrap();
    for name in ["v1", "v2"] {
        release(&scene, name, 0, name);
        answers(name);
        runs(name);
    }
    release(&scene, "v3", 3, "healthz");
    answers("v2");
    runs("v2");

    let artifact = artifact(&scene, "v4");
    fs::remove_file(artifact.join("images/web.tar")).unwrap();
    fs::write(artifact.join("images/README"), "nothing").unwrap();
    let said: Said = scene.release_command("v4", &artifact, &[]).output().unwrap().into();
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    let words = "`image_file` \"images/web.tar\" is not among the files of the release";
    assert!(said.err.contains(words), "{}", said.err);
    runs("v2");
}
