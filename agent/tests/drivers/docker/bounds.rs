//! What a release of containers can have of a host, and what it leaves there: images by the digest that was
//! signed and no other, of the host's files what `agent.toml` grants, limits that hold, and no image that no
//! release names any more.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use landfall_agent::layout;
use landfall_common::Sha256;
use landfall_common::manifest::container::{Container, Image, Volume, VolumeSource};

use super::scene::{Scene, inside, marked};
use super::{file, mount};

use crate::world::docker;
use crate::world::registry::Registry;

inside! { inside_what_is_signed_and_granted:
    a_registry_is_asked_for_the_signed_digest_and_believed_in_nothing_else
    a_registry_that_does_not_answer_fails_the_release_and_nothing_else
    a_file_is_loaded_only_if_it_is_the_signed_one_and_takes_no_name_from_anybody
    of_the_host_there_is_what_was_granted
    what_one_container_could_replace_by_a_link_is_not_mounted_into_another
    limits_hold_or_the_release_is_refused
    one_that_is_not_healthy_tells_so_and_the_old_one_goes_on
    images_go_with_the_last_release_that_names_them_and_others_stay
}

async fn a_registry_is_asked_for_the_signed_digest_and_believed_in_nothing_else(scene: &Scene) {
    let registry = Registry::start();
    let of = |digest| scene.container(Image::Registry { name: registry.name.clone(), digest });
    let good = registry.push(&marked("good"));
    let other = registry.push(&marked("what the tag names by now"));
    let web = of(good.manifest);
    scene.stage("v1", &web).await;
    assert_eq!(
        registry.asked(),
        [format!("sha256:{}", good.manifest)],
        "nothing but the digest is asked for"
    );
    scene.expect("v1", &web).await;
    assert!(registry.asked().is_empty(), "it was brought before anything was stopped");
    assert_eq!(scene.only().await.image, Some(format!("sha256:{}", good.config)));

    // Another image, which is whole and good, is served as the one that was signed.
    let signed = registry.push(&marked("signed"));
    registry.manifest(&signed.manifest, registry.served(&other.manifest));
    scene.refused(&of(signed.manifest), "cannot be pulled").await;
    // The manifest is the signed one, and a part that it names is not.
    let (config, layer) = marked("evil").parts();
    let signed = registry.push(&marked("with another layer"));
    registry.blob(&signed.layer, layer);
    scene.refused(&of(signed.manifest), "cannot be pulled").await;
    let signed = registry.push(&marked("with another configuration"));
    registry.blob(&signed.config, config.clone());
    scene.refused(&of(signed.manifest), "cannot be pulled").await;
    assert_eq!(scene.image(&format!("sha256:{}", Sha256::of(&config))).await, None);
    // There is none.
    scene.refused(&of(Sha256::of(b"nothing")), "cannot be pulled").await;
}

async fn a_registry_that_does_not_answer_fails_the_release_and_nothing_else(scene: &Scene) {
    let registry = Registry::start();
    let good = registry.push(&marked("good"));
    let of = |digest: Sha256| scene.container(Image::Registry { name: registry.name.clone(), digest });
    scene.expect("v1", &of(good.manifest)).await;
    let later = registry.push(&marked("later"));
    registry.hold("");
    scene.refused(&of(later.manifest), "cannot be pulled: Docker refused it: ").await;
    // What is here needs no registry.
    scene.expect("v2", &of(good.manifest)).await;
    registry.answer();
    scene.expect("v3", &of(later.manifest)).await;
}

async fn a_file_is_loaded_only_if_it_is_the_signed_one_and_takes_no_name_from_anybody(scene: &Scene) {
    let postgres = scene.somebodys("postgres", "15").await;
    let named = |mark, name| docker::Image { name: Some(name), ..marked(mark) };
    for name in ["postgres:15", "nobody:1", "landfall/tenants.production:file-0"] {
        let image = named("ours", name);
        let web = scene.container(file(&scene.site, &image));
        scene.expect("v1", &web).await;
        assert_eq!(scene.only().await.image, Some(format!("sha256:{}", Sha256::of(&image.parts().0))));
        scene.end(&web).await;
    }
    assert_eq!(scene.image("postgres:15").await, Some(postgres), "somebody else's name is theirs");
    for name in ["nobody:1", "landfall/tenants.production:file-0"] {
        assert_eq!(scene.image(name).await, None);
    }

    let web = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v1", &web).await;
    // Somebody changes what was fetched.
    let image = file(&scene.site, &marked("signed"));
    let Image::File { digest: Some(digest), .. } = &image else { panic!() };
    let evil = marked("evil");
    std::fs::write(scene.app("").join(layout::object(*digest, false)), evil.saved()).unwrap();
    scene.refused(&scene.container(image), "is not the file that was signed").await;
    assert_eq!(scene.image(&format!("sha256:{}", Sha256::of(&evil.parts().0))).await, None);
    let unsigned = Image::File { path: "image.tar".into(), digest: None };
    scene.refused(&scene.container(unsigned), "names no digest").await;
}

async fn of_the_host_there_is_what_was_granted(scene: &Scene) {
    let image = file(&scene.site, &marked("ours"));
    let plain = scene.container(image);
    scene.expect("v1", &plain).await;
    let shared = scene.app(layout::SHARED);
    symlink("/etc", shared.join("etc")).unwrap();
    let socket = scene.site.host.docker.socket.to_string_lossy().into_owned();
    for (path, read_only, words) in [
        ("/", false, "lies outside"),
        ("/etc", true, "lies outside"),
        ("{shared}/etc", false, "lies outside"),
        ("{shared}/../.landfall", true, "lies outside"),
        (&socket, false, "lies outside"),
        ("{release}", false, "with `:ro` only"),
    ] {
        let more = [mount(path, "/more", read_only)].to_vec();
        scene.refused(&Container { volumes: more, ..plain.clone() }, words).await;
    }
    scene.refused(&Container { privileged: true, ..plain.clone() }, "privileged = true").await;
    for network in ["host", "none"] {
        let asking = Container { network: Some(network.into()), ..plain.clone() };
        scene.refused(&asking, &format!("networks = [{network:?}]")).await;
    }
    let volume = |name: &str| Volume {
        source: VolumeSource::Named { name: name.into() },
        target: "/data".into(),
        read_only: false,
    };
    let request = VolumeCreateRequest { name: Some("somebodys".into()), ..Default::default() };
    scene.docker.create_volume(request).await.unwrap();
    let asking = Container { volumes: vec![volume("somebodys")], ..plain.clone() };
    scene.refused(&asking, "was not made for this application").await;

    // What is its own to have.
    let write = "echo it >/media/written; echo it >/app/written; echo it >>/data/written; cat /data/written \
                 >/media/data; exec sleep 1000000";
    let web = Container {
        command: ["/bin/sh", "-c", write].map(str::to_owned).to_vec(),
        volumes: vec![
            mount("/usr", "/usr", true),
            mount("{shared}/media", "/media", false),
            mount("{release}", "/app", true),
            volume("own"),
        ],
        ..plain.clone()
    };
    scene.expect("v2", &web).await;
    let media = shared.join("media");
    scene.appears(&media.join("data"), "it\n").await;
    assert_eq!(std::fs::read_to_string(media.join("written")).unwrap(), "it\n");
    assert!(!scene.app(layout::RELEASES).join("v2/written").exists(), "a release was written to");
    let host = scene.only().await.host_config.unwrap();
    assert_eq!(host.privileged, Some(false));
    assert_eq!((host.cap_add, host.pid_mode.as_deref()), (None, Some("")));
    assert!(host.devices.unwrap_or_default().is_empty());
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    // Its data is there for the next one.
    scene.end(&web).await;
    scene.expect("v3", &web).await;
    scene.appears(&media.join("data"), "it\nit\n").await;
}

async fn what_one_container_could_replace_by_a_link_is_not_mounted_into_another(scene: &Scene) {
    let plain = scene.container(file(&scene.site, &marked("ours")));
    let with = |path, read_only| {
        let volumes = [mount("/usr", "/usr", true), mount(path, "/data", read_only)].to_vec();
        Container { volumes, ..plain.clone() }
    };
    let words = "could be replaced by a link";
    for (other, refused) in [("{shared}", "{shared}/media"), ("{shared}/media", "{shared}")] {
        scene.activate_as("uploads", "v1", &with(other, false)).await.unwrap();
        scene.refused(&with(refused, false), words).await;
        scene.end_as("uploads", &plain).await;
    }
    scene.activate_as("uploads", "v1", &with("{shared}", true)).await.unwrap();
    scene.expect("v1", &with("{shared}/media", false)).await;
    scene.end_as("uploads", &plain).await;
}

async fn limits_hold_or_the_release_is_refused(scene: &Scene) {
    let plain = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v1", &plain).await;
    let info = scene.docker.info().await.unwrap();
    let memory = Container { memory_bytes: Some(64 * 1024 * 1024), ..plain.clone() };
    let cpus = Container { cpus_milli: Some(500), ..plain.clone() };
    let pids = Container { pids: Some(40), ..plain.clone() };
    // By the old names of their files, and by the new ones.
    let files = |old: &'static [&'static str], new: &'static [&'static str]| (old, new);
    for (key, is_held, container, files, expected) in [
        (
            "memory",
            info.memory_limit,
            memory,
            files(&["memory/memory.limit_in_bytes"], &["memory.max"]),
            "67108864",
        ),
        (
            "cpus",
            info.cpu_cfs_quota,
            cpus,
            files(&["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"], &["cpu.max"]),
            "50000 100000",
        ),
        ("pids", info.pids_limit, pids, files(&["pids/pids.max"], &["pids.max"]), "40"),
    ] {
        if is_held != Some(true) {
            eprintln!("this kernel holds no limit `{key}`: only its refusal is tried");
            scene.refused(&container, &format!("does not hold the limit `{key}`")).await;
            continue;
        }
        scene.expect(&format!("v1-{key}"), &container).await;
        let pid = scene.only().await.state.unwrap().pid.unwrap();
        assert_eq!(limit(pid, files), expected, "{key}");
    }
}

/// What the kernel says of a limit of this process.
fn limit(pid: i64, (old, new): (&[&str], &[&str])) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group_of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            parts.next()?.split(',').any(|name| name == controller).then(|| parts.next()).flatten()
        })
    };
    let read = |place: String| std::fs::read_to_string(&place).ok().map(|text| text.trim().to_owned());
    let by_old = |file: &&str| {
        let (controller, name) = file.split_once('/')?;
        read(format!("/sys/fs/cgroup/{controller}{}/{name}", group_of(controller)?))
    };
    let by_new = |file: &&str| read(format!("/sys/fs/cgroup{}/{file}", group_of("")?));
    let found = old.iter().map(by_old).collect::<Option<Vec<_>>>();
    let found = found.or_else(|| new.iter().map(by_new).collect());
    found.unwrap_or_else(|| panic!("{old:?}, {new:?}: {groups}")).join(" ")
}

async fn one_that_is_not_healthy_tells_so_and_the_old_one_goes_on(scene: &Scene) {
    let plain = scene.container(file(&scene.site, &marked("ours")));
    scene.expect("v1", &plain).await;
    let old = scene.only().await.id;
    let sick = docker::Image { health: Some("false"), ..marked("sick") };
    let sick =
        Container { timeout: std::time::Duration::from_secs(1), ..scene.container(file(&scene.site, &sick)) };
    let failure = scene.activate("v2", &sick).await.unwrap_err();
    assert!(failure.reason.contains("is not healthy after 1s"), "{failure:?}");
    assert_eq!(scene.running().await.into_values().collect::<Vec<_>>(), [old.clone().unwrap()]);
    assert_eq!(scene.containers().await.len(), 2, "the one that failed stays to be looked at");
    scene.expect("v1", &plain).await;
    assert_eq!(scene.only().await.id, old);
}

async fn images_go_with_the_last_release_that_names_them_and_others_stay(scene: &Scene) {
    let registry = Registry::start();
    let reference = |digest: Sha256| format!("{}@sha256:{digest}", registry.name);
    let of = |digest| scene.container(Image::Registry { name: registry.name.clone(), digest });
    let [one, two, found] = ["one", "two", "found"].map(|mark| registry.push(&marked(mark)));
    scene.pull(&reference(found.manifest)).await;
    let saved = marked("saved");
    let saved_id = format!("sha256:{}", Sha256::of(&saved.parts().0));
    scene.expect("v1", &of(one.manifest)).await;
    scene.expect("v2", &of(two.manifest)).await;
    scene.expect("v3", &scene.container(file(&scene.site, &saved))).await;
    let last = of(found.manifest);
    scene.expect("v4", &last).await;
    let here = async || {
        let mut here = Vec::new();
        let names = [one.manifest, two.manifest, found.manifest].map(reference);
        for name in names.iter().chain([&saved_id]) {
            here.push(scene.image(name).await.is_some());
        }
        here
    };
    assert_eq!(here().await, [true, true, true, true], "releases that are kept can go back");
    // Somebody uses one of them for something else.
    let body = ContainerCreateBody { image: Some(reference(two.manifest)), ..Default::default() };
    let options = CreateContainerOptionsBuilder::default().name("somebodys").build();
    let somebodys = scene.docker.create_container(Some(options), body).await.unwrap().id;
    scene.forget("v1");
    scene.forget("v2");
    scene.expect("v4", &last).await;
    let two_id = format!("sha256:{}", two.config);
    assert_eq!((here().await[0], here().await[2], here().await[3]), (false, true, true));
    assert!(scene.image(&two_id).await.is_some(), "a container uses it");
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    scene.docker.remove_container(&somebodys, Some(force)).await.unwrap();
    scene.expect("v4", &last).await;
    assert_eq!(scene.image(&two_id).await, None, "nobody uses it any more");
    // One that cannot be read may name anything.
    scene.forget("v3");
    let unknown = scene.app(layout::MANIFESTS).join("v3");
    std::fs::write(&unknown, "{").unwrap();
    scene.expect("v4", &last).await;
    assert_eq!(here().await, [false, false, true, true]);
    std::fs::remove_file(unknown).unwrap();
    scene.expect("v4", &last).await;
    assert_eq!(here().await, [false, false, true, false]);
    // What was here before Landfall came is not Landfall's to remove.
    scene.expect("v5", &of(one.manifest)).await;
    scene.forget("v4");
    scene.expect("v5", &of(one.manifest)).await;
    assert_eq!(here().await, [true, false, true, false]);
    // What has gone makes room for what is to come before anything is fetched.
    scene.stage("v6", &of(two.manifest)).await;
    assert_eq!(here().await, [true, true, true, false]);
    scene.forget("v6");
    scene.stage("v5", &of(one.manifest)).await;
    assert_eq!(here().await, [true, false, true, false]);
    let tags: BTreeMap<_, _> = scene.tags().await;
    assert_eq!(tags.keys().filter(|tag| tag.starts_with("landfall/")).count(), 1, "{tags:?}");
}
