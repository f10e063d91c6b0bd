//! The driver `docker` on the stage: a real dockerd, in namespaces of its own.

mod bounds;
mod drift;
mod outages;
mod scene;
mod strangers;

use std::time::Duration;

use landfall_agent::layout;
use landfall_common::Sha256;
use landfall_common::manifest::container::{
    Container, Image, LogDriver, Port, Protocol, Volume, VolumeSource,
};
use landfall_common::manifest::{Driver, Service};

use crate::stage::{Stage, Traits};
use crate::suite::{self, laws};
use crate::world::docker::{self, Dockerd};
use crate::world::site::{SERVICE, Site};

/// A process of the release's own script, known by its id on the host.
const RUN: &str =
    "cd {release} && read HOST_PID rest </host/proc/self/stat && export HOST_PID && exec sh run";

const READY: &str = "/tmp/ready";

/// It tells when it is ready.
const IMAGE: docker::Image =
    docker::Image { health: Some("test -e /tmp/ready"), stop_signal: Some("SIGKILL"), name: None, mark: "" };

const TRAITS: Traits = Traits {
    keeps_old: true,
    restarts_old: false,
    repeats: false,
    counts_restarts: true,
    sees_readiness: true,
    knows_release: true,
    knows_stopped: true,
};

#[test]
fn on_a_host_containers_keep_every_law_of_the_drivers() {
    docker::run_inside("docker::inside_every_law");
}

#[test]
fn on_a_host_containers_are_what_was_signed_and_granted_and_leave_nothing_behind() {
    docker::run_inside("docker::bounds::inside_what_is_signed_and_granted");
}

#[test]
fn on_a_host_what_is_done_to_containers_by_hand_is_seen_and_those_of_others_are_left_alone() {
    docker::run_inside("docker::strangers::inside_strangers");
}

#[test]
fn on_a_host_a_docker_that_is_restarted_costs_no_release() {
    docker::run_inside("docker::outages::inside_outages");
}

fn mount(path: &str, target: &str, read_only: bool) -> Volume {
    Volume { source: VolumeSource::Path { path: path.into() }, target: target.into(), read_only }
}

/// A container of this image, with everything else left out.
fn base(image: Image) -> Container {
    Container {
        image,
        command: Vec::new(),
        environment: Default::default(),
        publish: Vec::new(),
        volumes: Vec::new(),
        network: None,
        user: None,
        memory_bytes: None,
        cpus_milli: None,
        pids: None,
        privileged: false,
        log_driver: LogDriver::Local,
        settle: Duration::from_millis(500),
        timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(1),
    }
}

/// A container that runs the release's script, made of an image that was fetched for it.
fn container(site: &Site, image: &docker::Image) -> Container {
    let root = site.root.to_string_lossy().into_owned();
    Container {
        command: ["/bin/sh", "-c", RUN].map(str::to_owned).to_vec(),
        environment: [("READY_FILE".to_owned(), READY.to_owned())].into(),
        volumes: vec![
            mount("/usr", "/usr", true),
            mount("/proc", "/host/proc", true),
            mount(&root, &root, false),
        ],
        ..base(file(site, image))
    }
}

/// Puts an image among what was fetched and is not laid out yet.
fn file(site: &Site, image: &docker::Image) -> Image {
    let saved = image.saved();
    let digest = Sha256::of(&saved);
    let object = site.root.join("app").join(layout::object(digest, false));
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(object, saved).unwrap();
    Image::File { path: "image.tar".into(), digest: Some(digest) }
}

/// A site whose agent may use this Docker, and whose containers may mount these: absolute, or below the site.
fn site(dockerd: &Dockerd, mounts: &[&str]) -> Site {
    let mut site = Site::new();
    let mounts: Vec<_> = mounts.iter().map(|path| site.root.join(path)).collect();
    let text = format!("socket = {:?}\nmounts = {mounts:?}\n", dockerd.socket);
    std::fs::write(site.root.join("docker.toml"), &text).unwrap();
    site.host.docker = toml::from_str(&text).unwrap();
    std::fs::create_dir_all(site.root.join("app")).unwrap();
    site
}

fn service(container: Container) -> Service {
    Service {
        name: SERVICE.parse().unwrap(),
        on: Default::default(),
        driver: Driver::Docker(Box::new(container)),
    }
}

fn stage_of(dockerd: &Dockerd, more: impl Fn(&mut Container)) -> Stage {
    let site = site(dockerd, &["/usr", "/proc", ""]);
    let mut container = container(&site, &IMAGE);
    more(&mut container);
    let traits = Traits { keeps_old: container.publish.is_empty(), ..TRAITS };
    Stage { service: service(container), site, traits }
}

/// In its namespaces; anywhere else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_every_law() {
    if !docker::is_inside() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dockerd = Dockerd::start(place.path());
    let port = Port { host: "127.0.0.1:8000".into(), container: 8000, protocol: Protocol::Tcp };
    for (case, publish) in [("beside the old one", vec![]), ("in its place", vec![port])] {
        macro_rules! one_after_the_other {
            ($($law:ident)*) => {
                $(
                    eprintln!("{case}: {}", stringify!($law));
                    let stage = stage_of(&dockerd, |container| container.publish.clone_from(&publish));
                    suite::$law(&stage).await;
                    stage.site.deactivate(&stage.service).await.unwrap();
                )*
            };
        }
        laws!(one_after_the_other);
    }
}
