//! The way back is rehearsed with real processes, under load: not a request is lost, and nothing else is changed.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;

use landfall_e2e::load::Load;
use landfall_e2e::scene::Scene;

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

fn runs(scene: &Scene) -> Vec<String> {
    HOSTS.iter().map(|host| scene.stage.current(host)).collect()
}

#[test]
fn the_way_back_is_rehearsed_under_load() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &HOSTS).unwrap();
    for release in ["v1", "v2"] {
        let said = scene.release(release).unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    }
    let targets = scene.stage.hosts.values().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    let load = Load::start(targets, "/", 40).unwrap();

    let said = scene.ctl(&["drill", "--yes"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    assert!(
        said.out.contains("rehearsed: 1 host of site in production went to v1 and back to v2"),
        "{said:?}"
    );
    assert_eq!(runs(&scene), ["v2"; 3]);
    let counts = load.stop();
    assert!(counts.sent > 0 && counts.failed == 0, "{counts:?}");

    let status = scene.ctl(&["status"]).unwrap().expect_code(0).unwrap().out;
    assert!(
        status.contains("rollback rehearsed at ") && status.contains("v1 and back to v2 on 1 host"),
        "{status}"
    );
    let log = scene.ctl(&["log"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("v2 -> v1 (drill)"), "{log}");
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("rollback rehearsed: site in production went to v1 on 1 host in"), "{log}");

    // What is no drill is refused before anything changes.
    let same = scene.ctl(&["drill", "v2", "--yes"]).unwrap();
    assert!(same.code == 1 && same.err.contains("v2 is in force; name another release"), "{same:?}");
    let unknown = scene.ctl(&["drill", "v9", "--yes"]).unwrap();
    assert!(unknown.code == 2 && unknown.err.contains("no release v9"), "{unknown:?}");
    let again = scene.ctl(&["rollback", "--yes"]).unwrap();
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(runs(&scene), ["v1"; 3]);
}
