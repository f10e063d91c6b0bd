//! A host that another tool has deployed to before (`docs/from`): what that left is nobody's but its
//! administrator's.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two releases are kept, so that the first one has to go soon; `.env` is the host's.
const MORE: &str = "\n[shared]\ndirectories = [\"media\"]\nfiles = [\".env\"]\n\n[retention]\nreleases = 2\n";

const FAILING: &str = "\n[[smoke]]\nname = \"front-page\"\ncommand = [\"false\"]\n";

#[test]
fn releases_of_another_tool_are_left_in_place_and_what_is_shared_is_taken_as_it_stands() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    scene.prepare("web-1").unwrap();
    let site = scene.stage.hosts["web-1"].srv.clone();
    let names = ["20260101120000", "20260102120000"];
    for name in names {
        fs::create_dir_all(site.join("releases").join(name)).unwrap();
        fs::write(site.join("releases").join(name).join("app.py"), name).unwrap();
    }
    fs::create_dir_all(site.join("shared/media")).unwrap();
    fs::write(site.join("shared/media/logo.svg"), "logo").unwrap();
    fs::write(site.join("shared/.env"), "TOKEN=1\n").unwrap();
    // Absolute, as Capistrano and most scripts make it.
    symlink(site.join("releases").join(names[1]), site.join("current")).unwrap();
    scene.join("web-1").unwrap();

    let release = |name: &str, more: &str, code: i32| {
        let artifact = scene.artifact(name, |text| text + MORE + more).unwrap();
        let said = scene.release_command(name, &artifact, &[]).output().unwrap();
        assert_eq!(said.status.code(), Some(code), "{said:?}\n{}", scene.last_words());
    };
    let is_as_it_was = || {
        for name in names {
            let file = site.join("releases").join(name).join("app.py");
            assert_eq!(fs::read_to_string(&file).unwrap_or_default(), name, "{}", file.display());
        }
        assert_eq!(fs::read_to_string(site.join("shared/.env")).unwrap(), "TOKEN=1\n");
    };
    // Landfall itself knows of nothing that it could go back to.
    release("v1", FAILING, 1);
    is_as_it_was();
    for name in ["v2", "v3", "v4"] {
        release(name, "", 0);
    }
    wait_until("the oldest release is removed", PATIENCE, || !site.join("releases/v2").exists()).unwrap();
    is_as_it_was();
    assert_eq!(fs::read_link(site.join("current")).unwrap(), Path::new("releases/v4"));
    assert_eq!(fs::read_to_string(site.join("current/.env")).unwrap(), "TOKEN=1\n");
    assert_eq!(fs::read_to_string(site.join("current/media/logo.svg")).unwrap(), "logo");
}
