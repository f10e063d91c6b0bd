//! What others have in the same Docker: Landfall neither takes it for its own nor takes it away.

use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};

use super::drift::what_is_done_to_a_container_by_hand_is_seen;
use super::file;
use super::scene::{Scene, inside, marked};

inside! { inside_strangers:
    a_name_that_somebody_has_taken_is_told_and_left_to_them
    containers_that_look_like_ours_are_left_alone
    what_is_done_to_a_container_by_hand_is_seen
}

/// Somebody makes a container by hand, with these labels, and starts it.
pub async fn make(scene: &Scene, name: &str, labels: HashMap<String, String>) -> String {
    let own = scene.only_of("tenants.web.").await;
    let body = ContainerCreateBody {
        image: own.image,
        cmd: Some(vec!["/bin/sleep".into(), "1000000".into()]),
        labels: Some(labels),
        host_config: Some(bollard::models::HostConfig {
            mounts: own.host_config.and_then(|host| host.mounts),
            ..Default::default()
        }),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let id = scene.docker.create_container(Some(options), body).await.unwrap().id;
    scene.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    id
}

async fn a_name_that_somebody_has_taken_is_told_and_left_to_them(scene: &Scene) {
    let web = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v2", &web).await;
    let name = scene.only().await.name.unwrap().trim_start_matches('/').to_owned();
    scene.expect("v1", &web).await;
    let ours = scene.only().await.id.unwrap();
    let theirs = make(scene, &name, HashMap::new()).await;
    let failure = scene.activate("v2", &web).await.unwrap_err();
    for words in [format!("there is a container {name} already"), format!("docker rename {name}")] {
        assert!(failure.reason.contains(&words), "{failure:?}");
    }
    let running = scene.running().await;
    assert!(running.values().any(|id| *id == ours), "what ran before runs on: {running:?}");
    assert!(running.values().any(|id| *id == theirs), "{running:?}");
    // They give it another one.
    let options = bollard::query_parameters::RenameContainerOptionsBuilder::default().name("theirs").build();
    scene.docker.rename_container(&theirs, options).await.unwrap();
    scene.expect("v2", &web).await;
    assert!(scene.running().await.values().any(|id| *id == theirs));
}

async fn containers_that_look_like_ours_are_left_alone(scene: &Scene) {
    let web = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v1", &web).await;
    let labels = scene.only().await.config.unwrap().labels.unwrap();
    // As `docker commit` and `docker run` make one, which takes the labels along.
    let copy = make(scene, "debugging", labels.clone()).await;
    // The same application in another environment, whose agent is another.
    let staging = [("landfall.environment".to_owned(), "staging".to_owned())];
    let other = labels.clone().into_iter().chain(staging).collect();
    let other = make(scene, "tenants.web.v1.0", other).await;
    // An application whose name begins as ours does.
    let longer = [("landfall.application".to_owned(), "tenants-2".to_owned())];
    let longer = labels.into_iter().chain(longer).collect();
    let longer = make(scene, "tenants-2.web.v1.0", longer).await;
    scene.expect("v2", &web).await;
    scene.end(&web).await;
    let left = scene.running().await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!([copy, other, longer].iter().all(|id| left.values().any(|left| left == id)), "{left:?}");
}
