//! Further operators: whom their machines trust, what they may sign, and what is said where they may not yet.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};

use landfall_e2e::scene::{APPLICATION, Scene};
use landfall_e2e::stage::{Said, token_in, told};

/// A machine of another operator.
struct Machine<'s> {
    scene: &'s Scene,
    config: PathBuf,
}

impl<'s> Machine<'s> {
    fn new(scene: &'s Scene, name: &str) -> Self {
        Self { scene, config: scene.path(name) }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        self.scene.ctl_as(&self.config, arguments).unwrap()
    }

    fn login(&self, token: &str) -> Said {
        self.ctl(&["login", token, "--controller", &self.scene.stage.address])
    }

    fn has_key(&self, name: &str) -> bool {
        self.config.join("keys").join(name).exists()
    }
}

fn scene() -> Scene {
    Scene::new(Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap(), &[]).unwrap()
}

#[test]
fn a_second_operator_adopts_the_root_and_is_let_in_by_its_owner() {
    let scene = scene();
    let ana = Machine::new(&scene, "ana");
    told(&ana.ctl(&["status"]), 6, &["knows no controller yet", "ctl login TOKEN --controller HOST:PORT"]);

    let token = token_in(&scene.ctl(&["operators", "token", "ana", "--role", "deployer"]).unwrap()).unwrap();
    told(&ana.login(&token), 0, &["logged in", "next:", "ctl init"]);
    let how =
        ["next: ctl trust key release > me.json; then, where the root key is", "ctl trust change release"];
    told(&ana.ctl(&["init"]), 0, &[&["no release key of this machine signs releases"], &how[..]].concat());
    assert!(!ana.has_key("root.pem") && !ana.has_key("release.pem"), "keys that nobody trusts were made");
    let doubts = ["warning  signing: no release key of this machine may sign releases", how[0]];
    told(&ana.ctl(&["doctor"]), 0, &doubts);

    let key = ana.ctl(&["trust", "key", "release"]).expect_code(0).unwrap();
    let file = scene.path("me.json");
    fs::write(&file, key.out).unwrap();
    // A key alone signs nothing.
    told(&ana.ctl(&["doctor"]), 0, &doubts);
    scene
        .ctl(&["trust", "change", "release", "--add", file.to_str().unwrap(), "--yes"])
        .unwrap()
        .expect_code(0)
        .unwrap();
    told(&ana.ctl(&["init"]), 0, &["nothing to do", "next: ctl hosts add"]);
    told(&ana.ctl(&["doctor"]), 0, &[&format!("ok       signing: releases of {APPLICATION}")]);

    // Another application's place is given by who has the root key, and by nobody else.
    let mut command = scene.stage.ctl();
    command.env("LANDFALL_CONFIG_DIR", &ana.config).args(["--app", "other", "init"]);
    told(&command.output().unwrap().into(), 1, &["does not have the root key", "next:", "where root.pem is"]);

    // A certificate that the disk has damaged is replaced like one that has expired.
    fs::write(ana.config.join("contexts/default/operator.pem"), "x").unwrap();
    told(&ana.ctl(&["status"]), 6, &["operator.pem is damaged", "next:", "ctl login TOKEN"]);
}

#[test]
fn a_root_that_nobody_vouched_for_is_not_believed() {
    let scene = scene();
    // A token of the controller's own host cannot say which root to trust.
    let said = scene.stage.run_controller(&["operator-token", "--name", "bo", "--role", "deployer"]).unwrap();
    let bo = Machine::new(&scene, "bo");
    told(&bo.login(&token_in(&said).unwrap()), 0, &["next: ctl init --root root.json"]);
    told(&bo.ctl(&["init"]), 1, &["has a root of trust already", "next:", "ctl init --root root.json"]);
    assert!(!bo.has_key("root.pem") && !bo.config.join("contexts/default/trust/root.json").exists());
    told(&bo.ctl(&["hosts", "token"]), 1, &["no trusted release root", "next:", "ctl init"]);

    // The root of another controller is not kept: the right one can come after it.
    let mine = scene.path("operator/config/landfall/contexts/default/trust/root.json");
    let other = self::scene();
    let theirs = other.path("operator/config/landfall/contexts/default/trust/root.json");
    let said = bo.ctl(&["init", "--root", theirs.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!bo.config.join("contexts/default/trust/root.json").exists(), "{said:?}");
    drop(other);

    let said = bo.ctl(&["init", "--root", mine.to_str().unwrap()]);
    told(&said, 0, &["this machine trusts the root of", "next: ctl trust key release > me.json"]);
    bo.ctl(&["trust", "show"]).expect_code(0).unwrap();
}
