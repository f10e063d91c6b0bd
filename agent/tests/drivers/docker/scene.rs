//! A host with a Docker on which releases of one container are tried, and a look behind the driver's back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::query_parameters::{
    CreateImageOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, ListImagesOptions,
    RemoveContainerOptionsBuilder, TagImageOptionsBuilder,
};
use futures::TryStreamExt as _;
use landfall_agent::drivers;
use landfall_agent::layout;
use landfall_agent::steps::StepContext;
use landfall_common::Sha256;
use landfall_common::manifest::container::{Container, Image};
use landfall_common::manifest::{Driver, Manifest, Origin, Program, Service};
use landfall_common::report::Failure;

use super::{base, mount, site};
use crate::world::docker::{self, Dockerd};
use crate::world::registry::Registry;
use crate::world::site::{APPLICATION, SERVICE, Site, release_digest};

pub struct Scene {
    pub site: Site,
    pub docker: bollard::Docker,
    attempts: AtomicU32,
}

/// An image that is another one for each mark.
pub fn marked(mark: &'static str) -> docker::Image {
    docker::Image { stop_signal: Some("SIGKILL"), mark, ..Default::default() }
}

pub fn service(name: &str, container: &Container) -> Service {
    Service {
        name: name.parse().unwrap(),
        on: Default::default(),
        driver: Driver::Docker(Box::new(container.clone())),
    }
}

impl Scene {
    /// Its `agent.toml` grants the programs of the host, and nothing else.
    pub fn new(dockerd: &Dockerd) -> Self {
        let site = site(dockerd, &["/usr"]);
        let path = dockerd.socket.to_str().unwrap();
        let docker = bollard::Docker::connect_with_unix(path, 60, bollard::API_DEFAULT_VERSION).unwrap();
        let scene = Self { site, docker, attempts: AtomicU32::new(0) };
        for directory in [layout::MANIFESTS, "shared/media"] {
            std::fs::create_dir_all(scene.app(directory)).unwrap();
        }
        scene
    }

    /// A path of the application's directory.
    pub fn app(&self, path: &str) -> PathBuf {
        self.site.root.join("app").join(path)
    }

    /// A container that sleeps, made of this image.
    pub fn container(&self, image: Image) -> Container {
        Container {
            command: ["/bin/sleep", "1000000"].map(str::to_owned).to_vec(),
            volumes: vec![mount("/usr", "/usr", true)],
            ..base(image)
        }
    }

    pub fn context(&self, release: &str) -> StepContext {
        let mut context = self.site.context(release);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        context.words.shared = text(self.app(layout::SHARED));
        context.words.prepared = text(self.app(layout::PREPARED).join(release));
        context
    }

    /// Lays a release out whose only service is this container.
    fn release(&self, release: &str, service: &Service) {
        std::fs::create_dir_all(self.app(layout::RELEASES).join(release)).unwrap();
        let manifest = Manifest {
            format: 1,
            application: APPLICATION.parse().unwrap(),
            release: release.parse().unwrap(),
            origin: Origin::Artifact { commit: None },
            tree: Sha256::of(b""),
            file_count: 0,
            total_bytes: 0,
            program: Program { services: vec![service.clone()], ..Program::default() },
            environments: BTreeMap::new(),
        };
        let path = self.app(layout::MANIFESTS).join(release);
        std::fs::write(path, manifest.to_bytes().unwrap()).unwrap();
    }

    /// Takes it off the host, as the agent does with releases that are not kept.
    pub fn forget(&self, release: &str) {
        std::fs::remove_file(self.app(layout::MANIFESTS).join(release)).unwrap();
        std::fs::remove_dir_all(self.app(layout::RELEASES).join(release)).unwrap();
    }

    /// What is done of a release before anything that runs is touched.
    pub async fn stage(&self, release: &str, container: &Container) {
        let (service, context) = (service(SERVICE, container), self.context(release));
        self.release(release, &service);
        drivers::of(&self.site.host, &service, &context).stage().await.unwrap();
    }

    pub async fn activate(&self, release: &str, container: &Container) -> Result<(), Failure> {
        self.activate_as(SERVICE, release, container).await
    }

    pub async fn activate_as(&self, name: &str, release: &str, container: &Container) -> Result<(), Failure> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed).to_string();
        let (service, context) = (service(name, container), self.context(release));
        self.release(release, &service);
        let digest = release_digest(release);
        let activation = drivers::activate(&self.site.host, &service, &context, digest, &attempt);
        tokio::time::timeout(Duration::from_secs(600), activation).await.expect("an activation never ended")
    }

    pub async fn expect(&self, release: &str, container: &Container) {
        if let Err(failure) = self.activate(release, container).await {
            panic!("{release}: {failure:#?}");
        }
    }

    /// It is refused with these words, and what ran before runs on as if nothing had been asked for.
    pub async fn refused(&self, container: &Container, words: &str) {
        let before = self.containers().await;
        let Err(failure) = self.activate("refused", container).await else { panic!("not refused: {words}") };
        assert!(failure.reason.contains(words), "{words}: {failure:#?}");
        assert_eq!(self.containers().await, before, "{words}");
        self.forget("refused");
    }

    async fn list(&self, all: bool) -> BTreeMap<String, String> {
        let options = ListContainersOptionsBuilder::default().all(all).build();
        let found = self.docker.list_containers(Some(options)).await.unwrap();
        found.into_iter().map(|one| (one.names.unwrap().join(" "), one.id.unwrap())).collect()
    }

    /// Every container, running or not: its id, by name.
    pub async fn containers(&self) -> BTreeMap<String, String> {
        self.list(true).await
    }

    pub async fn running(&self) -> BTreeMap<String, String> {
        self.list(false).await
    }

    /// The only container that there is.
    pub async fn only(&self) -> bollard::models::ContainerInspectResponse {
        let containers = self.containers().await;
        assert_eq!(containers.len(), 1, "{containers:?}");
        let id = containers.into_values().next().unwrap();
        self.docker.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap()
    }

    /// The one whose name begins so.
    pub async fn only_of(&self, prefix: &str) -> bollard::models::ContainerInspectResponse {
        let containers = self.containers().await;
        let mut found =
            containers.iter().filter(|(name, _)| name.trim_start_matches('/').starts_with(prefix));
        let (_, id) = found.next().unwrap_or_else(|| panic!("{prefix}: {containers:?}"));
        self.docker.inspect_container(id, None::<InspectContainerOptions>).await.unwrap()
    }

    /// Waits until one runs whose name begins so.
    pub async fn comes_up(&self, prefix: &str) {
        for _ in 0..6_000 {
            let running = self.running().await;
            if running.keys().any(|name| name.trim_start_matches('/').starts_with(prefix)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{prefix} never runs: {:?}", self.containers().await);
    }

    /// An image's id, if Docker has it.
    pub async fn image(&self, name: &str) -> Option<String> {
        self.docker.inspect_image(name).await.ok().and_then(|image| image.id)
    }

    /// The id of the image that each tag names.
    pub async fn tags(&self) -> BTreeMap<String, String> {
        let images = self.docker.list_images(None::<ListImagesOptions>).await.unwrap();
        let tags = images.into_iter().flat_map(|image| {
            let id = image.id;
            image.repo_tags.into_iter().map(move |tag| (tag, id.clone()))
        });
        tags.collect()
    }

    /// What a person does.
    pub async fn pull(&self, reference: &str) {
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let pulled: Vec<_> = self.docker.create_image(Some(options), None, None).try_collect().await.unwrap();
        assert!(!pulled.is_empty());
    }

    /// An image of somebody else's with this name.
    pub async fn somebodys(&self, repository: &str, tag: &str) -> String {
        let registry = Registry::start();
        let reference = format!("{}@sha256:{}", registry.name, registry.push(&marked("somebody's")).manifest);
        self.pull(&reference).await;
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.docker.tag_image(&reference, Some(options)).await.unwrap();
        self.image(&reference).await.unwrap()
    }

    /// Waits until a container has written this.
    pub async fn appears(&self, file: &Path, text: &str) {
        for _ in 0..6_000 {
            if std::fs::read_to_string(file).is_ok_and(|written| written == text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} has {:?}", file.display(), std::fs::read_to_string(file));
    }

    pub async fn end(&self, container: &Container) {
        self.end_as(SERVICE, container).await;
    }

    pub async fn end_as(&self, name: &str, container: &Container) {
        let (service, context) = (service(name, container), self.context("v1"));
        drivers::deactivate(&self.site.host, &service, &context).await.unwrap();
    }

    /// For the next one, who has the same Docker.
    pub async fn clear(&self) {
        for id in self.containers().await.into_values() {
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            self.docker.remove_container(&id, Some(force)).await.unwrap();
        }
    }
}

/// A test with a dockerd of its own and a new scene for each case, one after the other. In its namespaces; anywhere
/// else it has nothing to do.
macro_rules! inside {
    ($name:ident: $($case:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if !crate::world::docker::is_inside() {
                return;
            }
            let place = tempfile::tempdir().unwrap();
            let dockerd = crate::world::docker::Dockerd::start(place.path());
            $(
                eprintln!("{}", stringify!($case));
                let scene = Scene::new(&dockerd);
                $case(&scene).await;
                scene.clear().await;
            )*
        }
    };
}
pub(super) use inside;
