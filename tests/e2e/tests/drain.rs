//! Requests are led away from a host and back to it with real processes, behind an HAProxy and under load: not a request is
//! lost, none comes to a drained host, and nothing is rolled out to it.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use landfall_e2e::load::Load;
use landfall_e2e::process::wait_until;
use landfall_e2e::proxy::Proxy;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, told};

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];
const PATIENCE: Duration = Duration::from_secs(60);

fn traffic(scene: &Scene, host: &str) -> String {
    let told = scene.json(&["hosts"]).unwrap();
    let hosts = told["hosts"].as_array().unwrap();
    let found = hosts.iter().find(|known| known["id"] == host).unwrap();
    found["traffic"].as_str().unwrap().to_owned()
}

fn until(scene: &Scene, host: &str, is: &str) {
    let settled = wait_until(is, PATIENCE, || traffic(scene, host) == is);
    settled.unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
}

#[test]
fn a_drained_host_gets_no_request_and_none_is_lost() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    let directory = scene.path("proxy");
    let homes: Vec<PathBuf> = HOSTS.iter().map(|name| scene.prepare(name).unwrap()).collect();
    let servers: Vec<(&str, u16)> = HOSTS.iter().map(|name| (*name, scene.stage.hosts[*name].port)).collect();
    let proxy = Proxy::start(&directory, &servers);
    for (name, home) in HOSTS.into_iter().zip(homes) {
        let mut config = OpenOptions::new().append(true).open(home.join("agent.toml")).unwrap();
        writeln!(config, "server = \"{name}\"\n\n[traffic.haproxy]\nsocket = {:?}", proxy.socket).unwrap();
        scene.join(name).unwrap();
    }
    let gate =
        "\n[traffic]\nproxy = \"haproxy\"\nbackend = \"site\"\nserver = \"{server}\"\ndrain = \"10s\"\n";
    let release = |scene: &Scene, name: &str| {
        let artifact = scene.artifact(name, |text| text + gate).unwrap();
        let said: Said = scene.release_command(name, &artifact, &[]).output().unwrap().into();
        assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
        said
    };
    release(&scene, "v1");
    let load = Load::start(vec![format!("127.0.0.1:{}", proxy.port)], "/", 40).unwrap();
    HOSTS.iter().for_each(|host| proxy.until_led_to(&[host], 5));

    let said = scene.ctl(&["hosts", "drain", "web-1", "--reason", "a new disk"]).unwrap();
    assert!(said.code == 0 && said.out.contains("drained by admin"), "{said:?}");
    until(&scene, "web-1", "drained");
    let before = proxy.led_to(&["web-1"]);
    proxy.until_led_to(&["web-2"], 40);
    assert_eq!(proxy.led_to(&["web-1"]), before, "requests came to a drained host");

    // One is what the budget allows.
    let second = scene.ctl(&["hosts", "drain", "web-2", "--reason", "too"]).unwrap();
    let figures =
        "2 hosts of site in production would be out, and max_unavailable allows 1 (out already: web-1)";
    assert!(second.code != 0 && second.err.contains(figures), "{second:?}");
    // Whoever takes out more says why, and is a manager; who may only look may not even one.
    let (bo, vera) = (scene.log_in("bo", "deployer").unwrap(), scene.log_in("vera", "viewer").unwrap());
    let beyond = ["hosts", "drain", "web-2", "--reason", "too", "--beyond-budget", "the rack burns"];
    told(&scene.ctl_as(&bo, &beyond).unwrap(), 6, &["needs the role manager, and bo is deployer"]);
    told(&scene.ctl_as(&vera, &beyond[..5]).unwrap(), 6, &["this needs the role deployer"]);
    told(
        &scene.ctl(&["hosts", "drain", "web-9", "--reason", "x"]).unwrap(),
        2,
        &["no host web-9 is enrolled", "ctl hosts"],
    );
    // The same once more changes nothing.
    told(
        &scene.ctl(&["hosts", "drain", "web-1", "--reason", "a new disk"]).unwrap(),
        0,
        &["no request is led"],
    );
    let uncordon = scene.ctl(&["hosts", "uncordon", "web-1"]).unwrap();
    assert!(uncordon.code != 0 && uncordon.err.contains("ctl hosts undrain web-1"), "{uncordon:?}");
    let list = scene.ctl(&["hosts"]).unwrap().expect_code(0).unwrap().out;
    assert!(list.contains("web-1: drained by admin") && list.contains("no request is led there"), "{list}");
    let why = scene.ctl(&["why", "web-1"]).unwrap().expect_code(0).unwrap().out;
    assert!(why.contains("drained by admin") && why.contains("ctl hosts undrain web-1"), "{why}");

    // It stays so over restarts of the agent and of the controller.
    scene.stage.kill_agent("web-1").unwrap();
    scene.stage.start_agent("web-1").unwrap();
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    until(&scene, "web-1", "drained");
    proxy.until_led_to(&["web-3"], 40);
    assert_eq!(proxy.led_to(&["web-1"]), before, "requests came to a drained host");

    // One host may be out, and one is: a release waits for it, and goes everywhere once it is back.
    let artifact = scene.artifact("v2", |text| text + gate).unwrap();
    let mut following = scene.release_command("v2", &artifact, &[]);
    let following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = || scene.ctl(&["status"]).unwrap().out.contains("web-1 is out");
    wait_until("the release waits", PATIENCE, waits)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(proxy.led_to(&["web-1"]), before, "requests came to a drained host");
    told(
        &scene.ctl_as(&bo, &["hosts", "undrain", "web-1"]).unwrap(),
        0,
        &["gets requests again once it is healthy"],
    );
    let said: Said = following.wait_with_output().unwrap().into();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let everywhere = || HOSTS.iter().all(|host| scene.stage.current(host) == "v2");
    wait_until("web-1 takes it as well", PATIENCE, everywhere)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    until(&scene, "web-1", "led");
    proxy.until_led_to(&["web-1"], 10);
    let counts = load.stop();
    assert!(counts.sent > 200 && counts.failed == 0, "{counts:?}\n{}", scene.last_words());
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("web-1 was drained: a new disk") && log.contains("web-1 was undrained"), "{log}");

    // What has nothing that leads requests elsewhere is refused, with what else to do.
    let plain = scene.release("v3").unwrap();
    assert_eq!(plain.code, 0, "{plain:?}\n{}", scene.last_words());
    let said = scene.ctl(&["hosts", "drain", "web-1", "--reason", "again"]).unwrap();
    assert!(said.code != 0 && said.err.contains("has no `[traffic]`"), "{said:?}");
    assert!(said.err.contains("ctl hosts cordon web-1"), "{said:?}");
}
