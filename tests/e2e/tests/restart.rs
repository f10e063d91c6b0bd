//! Services are restarted batch by batch with real processes, under load: each process is replaced once, not a request is
//! lost, and the release stays what it is.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::collections::BTreeMap;
use std::path::Path;

use landfall_e2e::load::Load;
use landfall_e2e::scene::Scene;

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

fn runs(scene: &Scene) -> Vec<String> {
    HOSTS.iter().map(|host| scene.stage.current(host)).collect()
}

/// The server processes of each host, by what the kernel says of their working directory.
fn servers(scene: &Scene) -> BTreeMap<String, Vec<u32>> {
    let hosts = scene.path("hosts").canonicalize().unwrap();
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(directory) = std::fs::read_link(entry.path().join("cwd")) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let Ok(below) = directory.strip_prefix(&hosts) else { continue };
        if String::from_utf8_lossy(&line).split('\0').any(|word| word == "server.py") {
            let host = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            found.entry(host).or_default().push(pid);
        }
    }
    found
}

#[test]
fn services_are_restarted_under_load_and_each_process_is_replaced_once() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &HOSTS).unwrap();
    // Nothing is in force yet.
    let early = scene.ctl(&["restart", "--yes"]).unwrap();
    assert!(early.code != 0 && early.err.contains("no release was ever proven there"), "{early:?}");
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());

    // What makes no sense changes nothing.
    let before = servers(&scene);
    assert!(before.len() == 3 && before.values().all(|pids| pids.len() == 1), "{before:?}");
    let unknown = scene.ctl(&["restart", "wbe", "--yes"]).unwrap();
    assert!(unknown.code != 0 && unknown.err.contains("no service wbe; it has web"), "{unknown:?}");
    let reload = scene.ctl(&["reload", "web", "--yes"]).unwrap();
    assert!(reload.code != 0 && reload.err.contains("its definition has no reload"), "{reload:?}");
    assert_eq!(servers(&scene), before);

    let targets = scene.stage.hosts.values().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    let load = Load::start(targets, "/", 40).unwrap();
    let said = scene.ctl(&["restart", "web", "--yes", "--reason", "a new libssl"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    assert!(
        said.out.contains("succeeded: web was restarted on all 3 hosts of site in production"),
        "{said:?}"
    );
    let after = servers(&scene);
    assert!(after.len() == 3 && after.values().all(|pids| pids.len() == 1), "{after:?}");
    assert!(after.iter().all(|(host, pids)| before[host] != *pids), "{before:?} {after:?}");
    assert_eq!(runs(&scene), ["v1"; 3]);
    let counts = load.stop();
    assert!(counts.sent > 0 && counts.failed == 0, "{counts:?}");

    // In quiet nothing is restarted once more.
    let status = scene.ctl(&["status"]).unwrap().expect_code(0).unwrap().out;
    assert!(status.contains("v1 on 3") && status.contains("restart of web"), "{status}");
    let log = scene.ctl(&["log"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("v1 (restart of web)"), "{log}");
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(
        log.contains("a restart of web was asked for, with v1 of site in production: a new libssl"),
        "{log}"
    );
    assert_eq!(servers(&scene), after);

    // A release afterwards is as any other, and so is the way back.
    let said = scene.release("v2").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let back = scene.ctl(&["rollback", "--yes"]).unwrap();
    assert_eq!(back.code, 0, "{back:?}\n{}", scene.last_words());
    assert_eq!(runs(&scene), ["v1"; 3]);
}
