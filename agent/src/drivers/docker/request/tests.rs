//! What a release gets of a host, and what it does not.

use std::os::unix::fs::symlink;

use landfall_common::manifest::container::{Image, Port, Protocol};

use super::*;
use crate::steps::{Identity, Words};

struct Place {
    root: tempfile::TempDir,
    context: StepContext,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    for directory in ["app/shared/media", "app/releases/v1/static", "app/prepared/v1", "data/own"] {
        std::fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let text = |path: &str| root.path().join(path).to_string_lossy().into_owned();
    let words = Words {
        release: text("app/releases/v1"),
        prepared: text("app/prepared/v1"),
        shared: text("app/shared"),
        current: text("app/current"),
        variables: [("root".to_owned(), text("")), ("port".to_owned(), "8001".to_owned())].into(),
    };
    let context = StepContext {
        identity: Identity {
            application: "tenants".parse().unwrap(),
            environment: "production".parse().unwrap(),
            release: "v1+b_7".parse().unwrap(),
        },
        directory: root.path().join("app/releases/v1"),
        words,
        home: root.path().to_owned(),
        log: None,
        fence: None,
        group_note: None,
        deadline: None,
        cancel: Default::default(),
    };
    Place { root, context }
}

fn container() -> Container {
    let seconds = std::time::Duration::from_secs;
    Container {
        image: Image::File { path: "web.tar".into(), digest: None },
        command: Vec::new(),
        environment: BTreeMap::new(),
        publish: Vec::new(),
        volumes: Vec::new(),
        network: None,
        user: None,
        memory_bytes: None,
        cpus_milli: None,
        pids: None,
        privileged: false,
        log_driver: LogDriver::Local,
        settle: seconds(2),
        timeout: seconds(60),
        stop_timeout: seconds(30),
    }
}

fn volume(path: &str, read_only: bool) -> Volume {
    let target = format!("/mnt/{}", path.replace(['/', '{', '}', '.'], "_"));
    Volume { source: VolumeSource::Path { path: path.into() }, target, read_only }
}

fn ask(place: &Place, container: &Container, settings: &Settings) -> Result<Request, String> {
    let (service, digest) = ("web".parse().unwrap(), Sha256::of(b"v1"));
    request(container, settings, &place.context, &service, digest, "sha256:1")
        .map_err(|error| error.to_string())
}

fn ask_for(place: &Place, volumes: &[Volume], settings: &Settings) -> Result<Request, String> {
    ask(place, &Container { volumes: volumes.to_vec(), ..container() }, settings)
}

#[test]
fn a_release_gets_nothing_of_the_host_that_was_not_granted() {
    let place = place();
    let none = Settings::default();
    symlink("/", place.root.path().join("app/shared/all")).unwrap();
    symlink("../../data", place.root.path().join("app/shared/data")).unwrap();
    for (path, read_only, expected) in [
        ("/", false, "/ lies outside"),
        ("/", true, "/ lies outside"),
        ("/etc", true, "/etc lies outside"),
        ("{shared}/..", true, "lies outside"),
        ("{shared}/all", false, "/ lies outside"),
        ("{shared}/data/own", false, "lies outside"),
        ("{release}/../..", true, "lies outside"),
        ("{release}/static", false, "with `:ro` only"),
        ("{prepared}", false, "with `:ro` only"),
        ("{shared}/nothing", false, "No such file"),
        ("{relase}", false, "stands for nothing"),
    ] {
        let error = ask_for(&place, &[volume(path, read_only)], &none).unwrap_err();
        assert!(error.contains(expected), "{path}: {error}");
    }
    for (path, read_only) in
        [("{shared}", false), ("{shared}/media", false), ("{release}/static", true), ("{prepared}", true)]
    {
        ask_for(&place, &[volume(path, read_only)], &none).unwrap();
    }
    let granted = Settings { mounts: vec![place.root.path().join("data")], ..Settings::default() };
    let request = ask_for(&place, &[volume("{shared}/data/own", false)], &granted).unwrap();
    let mounts = request.body.host_config.unwrap().mounts.unwrap();
    let real = place.root.path().canonicalize().unwrap().join("data/own");
    assert_eq!(mounts[0].source.as_deref(), real.to_str(), "what was looked at is what is mounted");
    assert!(ask_for(&place, &[volume("/etc", true)], &granted).is_err());
    let all = Settings { mounts: vec!["/".into()], ..Settings::default() };
    ask_for(&place, &[volume("/", false)], &all).unwrap();
    // A grant does not make a release writable.
    assert!(ask_for(&place, &[volume("{release}", false)], &all).is_err());
}

#[test]
fn what_is_not_of_the_release_is_refused_before_anything_of_it_is_there() {
    let place = place();
    std::fs::remove_dir_all(place.root.path().join("app")).unwrap();
    let granted = Settings { mounts: vec![place.root.path().join("data")], ..Settings::default() };
    let with = |path: &str| Container { volumes: vec![volume(path, true)], ..container() };
    for (path, expected) in [
        ("/etc", "/etc lies outside"),
        ("{root}/data/none", "No such file"),
        ("{rooot}/x", "stands for nothing"),
    ] {
        let error = check(&with(path), &granted, &place.context).unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
    for path in ["{root}/data/own", "{shared}/media", "{release}/static", "{prepared}"] {
        check(&with(path), &granted, &place.context).unwrap();
    }
}

#[test]
fn what_a_container_could_replace_by_a_link_is_not_mounted() {
    let place = place();
    let none = Settings::default();
    let pair = |outer_is_read_only| [volume("{shared}", outer_is_read_only), volume("{shared}/media", false)];
    let error = ask_for(&place, &pair(false), &none).unwrap_err();
    assert!(error.contains("could be replaced by a link"), "{error}");
    ask_for(&place, &pair(true), &none).unwrap();
}

#[test]
fn privileges_and_networks_are_the_hosts_to_give() {
    let place = place();
    let none = Settings::default();
    let privileged = Container { privileged: true, ..container() };
    let error = ask(&place, &privileged, &none).unwrap_err();
    assert!(error.contains("privileged = true"), "{error}");
    let request = ask(&place, &privileged, &Settings { privileged: true, ..Settings::default() }).unwrap();
    assert_eq!(request.body.host_config.unwrap().privileged, Some(true));
    for network in ["host", "other-application", "none"] {
        let asking = Container { network: Some(network.into()), ..container() };
        let error = ask(&place, &asking, &none).unwrap_err();
        assert!(error.contains(&format!("networks = [{network:?}]")), "{error}");
        let settings = Settings { networks: vec![network.into()], ..Settings::default() };
        assert_eq!(ask(&place, &asking, &settings).unwrap().is_alone, network == "host");
    }
    let fenced = ask(&place, &container(), &none).unwrap().body.host_config.unwrap();
    assert_eq!(fenced.privileged, Some(false));
    assert_eq!(fenced.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!((fenced.pid_mode, fenced.ipc_mode, fenced.cap_add, fenced.devices), (None, None, None, None));
}

#[test]
fn a_container_is_named_after_everything_that_it_is() {
    let place = place();
    let port = Port { host: "127.0.0.1:{port}".into(), container: 80, protocol: Protocol::Tcp };
    let web = Container {
        publish: vec![port],
        environment: [("A".to_owned(), "{shared}/a".to_owned())].into(),
        memory_bytes: Some(64 * 1024 * 1024),
        cpus_milli: Some(1500),
        ..container()
    };
    let none = Settings::default();
    let one = ask(&place, &web, &none).unwrap();
    assert!(one.name.starts_with("tenants.web.v1_b_7."), "{}", one.name);
    assert!(one.is_alone);
    assert_eq!(one.name, ask(&place, &web, &none).unwrap().name);
    let host = one.body.host_config.unwrap();
    let bindings = host.port_bindings.unwrap();
    let binding = &bindings["80/tcp"].as_ref().unwrap()[0];
    assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.1"), Some("8001")));
    assert_eq!((host.memory, host.nano_cpus), (Some(67_108_864), Some(1_500_000_000)));
    let other = Container { memory_bytes: None, ..web.clone() };
    assert_ne!(one.name, ask(&place, &other, &none).unwrap().name);
    let mut elsewhere = place;
    elsewhere.context.words.variables.insert("port".into(), "8002".into());
    assert_ne!(one.name, ask(&elsewhere, &web, &none).unwrap().name);
    elsewhere.context.words.variables.insert("port".into(), "x".into());
    assert!(ask(&elsewhere, &web, &none).unwrap_err().contains("IP:PORT"));
}
