//! What somebody does to a container by hand: it is seen, and what can be put right while it runs is.

use bollard::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use landfall_agent::drivers::{self, docker};
use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::manifest::container::Container;

use super::file;
use super::scene::{Scene, marked, service};
use super::strangers::make;
use crate::world::site::{SERVICE, release_digest};

async fn look(scene: &Scene, web: &Container) -> Vec<Finding> {
    let (service, context) = (service(SERVICE, web), scene.context("v1"));
    let driver = drivers::of(&scene.site.host, &service, &context);
    let mut found = driver.differs(release_digest("v1"), None).await.unwrap().findings;
    found.extend(docker::strangers(&scene.site.host, [&service].into_iter(), &context).await.unwrap());
    found
}

/// The only thing that differs.
async fn only(scene: &Scene, web: &Container) -> Finding {
    let found = look(scene, web).await;
    let [finding] = &found[..] else { panic!("{found:#?}") };
    finding.clone()
}

pub async fn what_is_done_to_a_container_by_hand_is_seen(scene: &Scene) {
    let mut web = scene.container(file(&scene.site, &marked("ours")));
    web.environment = [("MODE".to_owned(), "one".to_owned())].into();
    // Where this kernel holds no such limit, it is tried without one.
    let has_pids = scene.docker.info().await.unwrap().pids_limit == Some(true);
    web.pids = has_pids.then_some(40);
    scene.expect("v1", &web).await;
    assert_eq!(look(scene, &web).await, [], "what was applied is no difference");
    let own = scene.only().await;
    let name = own.name.clone().unwrap().trim_start_matches('/').to_owned();

    // What can be set while it runs: `docker update`.
    let restart_policy =
        Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None });
    let pids_limit = has_pids.then_some(10);
    let body = ContainerUpdateBody { restart_policy, pids_limit, ..Default::default() };
    scene.docker.update_container(&name, body).await.unwrap();
    let found = only(scene, &web).await;
    assert_eq!(found.shown_path(), format!("docker {name}"));
    assert!(found.detail.contains("restart policy is no instead of unless-stopped"), "{found:?}");
    assert_eq!(found.detail.contains("pids is 10 instead of 40"), has_pids, "{found:?}");
    assert_eq!(found.remedy, Remedy::Limits { service: SERVICE.parse().unwrap() });
    let (defined, context) = (service(SERVICE, &web), scene.context("v1"));
    drivers::of(&scene.site.host, &defined, &context).set_limits(release_digest("v1")).await.unwrap();
    assert_eq!(look(scene, &web).await, []);
    assert_eq!(scene.only().await.id, own.id, "it is the same container");

    // One more of the application's, which no release has.
    let mut labels = own.config.clone().unwrap().labels.unwrap();
    labels.insert("landfall.service".to_owned(), "mail".to_owned());
    let mail = make(scene, "tenants.mail.v0", labels).await;
    let found = only(scene, &web).await;
    let told = format!("{} {}: {}", found.kind, found.shown_path(), found.detail);
    assert_eq!(told, "added docker tenants.mail.v0: it runs, and no release here has the service mail");
    assert!(found.remedy.by_hand().unwrap().contains("`docker rm -f tenants.mail.v0`"), "{found:?}");
    let force = || Some(RemoveContainerOptionsBuilder::default().force(true).build());
    scene.docker.remove_container(&mail, force()).await.unwrap();

    // Another one in its place, by its name and with its labels.
    scene.docker.remove_container(&name, force()).await.unwrap();
    let mut body = bollard::models::ContainerCreateBody {
        image: own.image.clone(),
        cmd: Some(["/bin/sleep", "999"].map(str::to_owned).to_vec()),
        labels: own.config.clone().unwrap().labels,
        host_config: own.host_config.clone(),
        stop_timeout: own.config.clone().unwrap().stop_timeout,
        ..Default::default()
    };
    body.env = own.config.unwrap().env.map(|mut all| {
        all.retain(|variable| !variable.starts_with("MODE="));
        all.push("TOKEN=secret".to_owned());
        all
    });
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    scene.docker.create_container(Some(options), body).await.unwrap();
    scene.docker.start_container(&name, None::<StartContainerOptions>).await.unwrap();
    let found = only(scene, &web).await;
    let expected = "command is another; environment MODE is missing; environment TOKEN was added";
    assert_eq!(found.detail, expected);
    let by_hand = found.remedy.by_hand().unwrap();
    assert!(by_hand.contains(&format!("`docker rm -f {name}` at a good moment")), "{by_hand}");

    // None at all.
    scene.docker.remove_container(&name, force()).await.unwrap();
    let found = only(scene, &web).await;
    assert_eq!((found.kind.word(), &*found.detail), ("missing", "it does not run: it is not there"));
    assert_eq!(found.remedy, Remedy::Start { service: SERVICE.parse().unwrap() });
    scene.expect("v1", &web).await;
    assert_eq!(look(scene, &web).await, []);
}
