//! A Docker that is restarted in the middle of things, as an upgrade of its package does.

use std::path::Path;
use std::time::Duration;

use landfall_common::manifest::container::{Container, Image, Port, Protocol};

use super::file;
use super::scene::{Scene, marked};
use crate::world::docker::{self, Dockerd};
use crate::world::registry::Registry;

/// In its namespaces; anywhere else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_outages() {
    if !docker::is_inside() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (alone, kept) = (place.path().join("alone"), place.path().join("kept"));
    for (root, start) in [(alone, Dockerd::start as fn(&Path) -> Dockerd), (kept, Dockerd::start_kept)] {
        std::fs::create_dir(&root).unwrap();
        let mut dockerd = start(&root);
        macro_rules! one_after_the_other {
            ($($case:ident)*) => {
                $(
                    eprintln!("{}: {}", root.display(), stringify!($case));
                    let scene = Scene::new(&dockerd);
                    $case(&scene, &mut dockerd).await;
                    scene.clear().await;
                )*
            };
        }
        one_after_the_other! {
            a_release_that_docker_takes_along_while_it_proves_itself_is_started_again
            a_release_that_is_asked_for_while_docker_is_away_comes_when_it_is_back
            an_image_that_is_pulled_while_docker_is_restarted_is_pulled_again
        }
        dockerd.stop().await;
    }
}

fn slow(container: &Container) -> Container {
    Container { settle: Duration::from_secs(3), ..container.clone() }
}

async fn a_release_that_docker_takes_along_while_it_proves_itself_is_started_again(
    scene: &Scene,
    dockerd: &mut Dockerd,
) {
    let plain = scene.container(file(&scene.site, &marked("ours")));
    // A first process that does not hear SIGTERM: Docker waits for it, long after the other has ended.
    let deaf = docker::Image { mark: "deaf", ..docker::Image::default() };
    let deaf =
        Container { stop_timeout: Duration::from_secs(4), ..scene.container(file(&scene.site, &deaf)) };
    scene.activate_as("deaf", "v1", &deaf).await.unwrap();
    let port = Port { host: "127.0.0.1:8000".into(), container: 8000, protocol: Protocol::Tcp };
    for publish in [vec![], vec![port]] {
        let web = Container { publish, ..plain.clone() };
        scene.expect("v1", &web).await;
        let next = slow(&web);
        let restarting = async {
            scene.comes_up("tenants.web.v2.").await;
            dockerd.restart().await;
        };
        let ((), ()) = tokio::join!(scene.expect("v2", &next), restarting);
        let running: Vec<_> = scene.running().await.into_keys().collect();
        assert!(running.iter().any(|name| name.starts_with("/tenants.web.v2.")), "{running:?}");
        assert_eq!(scene.containers().await.len(), 2, "{running:?}");
        scene.end(&web).await;
    }
}

async fn a_release_that_is_asked_for_while_docker_is_away_comes_when_it_is_back(
    scene: &Scene,
    dockerd: &mut Dockerd,
) {
    let web = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v1", &web).await;
    dockerd.stop().await;
    let ((), ()) = tokio::join!(scene.expect("v2", &web), dockerd.start_again());
    assert_eq!(scene.running().await.len(), 1);
    dockerd.stop().await;
    let ((), ()) = tokio::join!(scene.end(&web), dockerd.start_again());
    assert_eq!(scene.containers().await.len(), 0);
}

async fn an_image_that_is_pulled_while_docker_is_restarted_is_pulled_again(
    scene: &Scene,
    dockerd: &mut Dockerd,
) {
    let registry = Registry::start();
    let image = registry.push(&marked("slow"));
    let web = scene.container(Image::Registry { name: registry.name.clone(), digest: image.manifest });
    registry.hold(&image.layer.to_string());
    let restarting = async {
        registry.is_waited_for().await;
        dockerd.restart().await;
        registry.answer();
    };
    let ((), ()) = tokio::join!(scene.stage("v1", &web), restarting);
    scene.expect("v1", &web).await;
    assert_eq!(scene.only().await.image, Some(format!("sha256:{}", image.config)));
}
