//! The runbook with real processes: what it says can be done is done, in that order; what it says is refused is refused;
//! and each command in it can be typed.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::Path;

use landfall_e2e::scene::Scene;
use serde_json::Value;

const HOSTS: [&str; 2] = ["web-1", "web-2"];

fn book(scene: &Scene) -> Value {
    let mut told = scene.json(&["runbook"]).unwrap();
    told["runbook"].take()
}

/// The words of a page, wherever its lines end.
fn words(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The commands of a page, as they stand there.
fn commands(page: &str) -> Vec<String> {
    page.lines().map(str::trim).filter(|line| line.starts_with("ctl ")).map(str::to_owned).collect()
}

/// Whether `ctl` would take it: with `--help` behind it nothing is done, and what it does not know is still refused.
fn can_be_typed(scene: &Scene, command: &str) {
    let words = command.replace("'WHY'", "WHY");
    let mut words: Vec<&str> = words.split_whitespace().skip(1).collect();
    words.push("--help");
    let said = scene.stage.run_ctl(&words).unwrap();
    assert_eq!(said.code, 0, "{command}: {said:?}");
}

#[test]
fn what_the_runbook_says_is_what_a_rollback_does() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let scene = Scene::new(bin, &HOSTS).unwrap();
    let database = scene.path("database");
    let migrate = |name: &str| {
        let file = database.to_str().unwrap();
        format!(
            "\n[migrate]\ncommand = [\"sh\", \"-c\", \"echo up {name} >> {file}\"]\nlease = \"1m\"\ntimeout = \"30s\"\n\
             down = [\"sh\", \"-c\", \"echo down {name} $(readlink ../../current) >> {file}\"]\n\
             files = [\"schema\"]\n"
        )
    };
    let nothing = scene.ctl(&["runbook", "--env", "nowhere"]).unwrap();
    assert!(nothing.code != 0 && nothing.err.contains("nothing is known of site in nowhere"), "{nothing:?}");
    for name in ["v1", "v2", "v3"] {
        let migration = if name == "v3" { migrate(name) } else { String::new() };
        let artifact = scene.artifact(name, |text| text + &migration).unwrap();
        fs::write(artifact.join("schema"), name).unwrap();
        let said: landfall_e2e::stage::Said =
            scene.release_command(name, &artifact, &[]).output().unwrap().into();
        assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    }

    // Whoever may look may read it; and all that it says can be typed.
    let viewer = scene.log_in("vera", "viewer").unwrap();
    let page = scene.ctl_as(&viewer, &["runbook"]).unwrap().expect_code(0).unwrap().out;
    let told = words(&page);
    assert!(page.contains("GOING BACK CAN BE DONE NOW: TO v2"), "{page}");
    assert!(page.contains("never: `ctl drill` rehearses it"), "{page}");
    assert!(told.contains("the `down` of v3, for 1m at most - sh -c 'echo down v3"), "{page}");
    assert!(
        told.contains("batch 2: web-2 - a batch begins once")
            && told.contains("web: the new process starts beside the old one"),
        "{page}"
    );
    assert!(told.contains("its `down` takes it back"), "{page}");
    let typed = commands(&page);
    assert!(typed.len() > 6, "{typed:?}");
    typed.iter().for_each(|command| can_be_typed(&scene, command));

    // A lock refuses it, and the runbook in the very same words.
    scene.ctl(&["lock", "production", "moving the database"]).unwrap().expect_code(0).unwrap();
    let told = book(&scene);
    let refused = told["refused"].as_str().unwrap();
    assert!(told["way"].is_null() && refused.contains("moving the database"), "{told}");
    let asked = scene.ctl(&["rollback", "--yes"]).unwrap();
    assert!(asked.code != 0 && asked.err.contains(refused), "{asked:?}\n{refused}");
    let page = scene.ctl(&["runbook"]).unwrap().expect_code(0).unwrap().out;
    assert!(page.contains("GOING BACK IS REFUSED NOW") && page.contains("ctl unlock production"), "{page}");
    commands(&page).iter().for_each(|command| can_be_typed(&scene, command));
    scene.ctl(&["unlock", "production"]).unwrap().expect_code(0).unwrap();

    let told = book(&scene);
    assert!(told["refused"].is_null(), "{told}");
    let others = told["others"].as_array().unwrap();
    assert!(others.len() == 1 && others[0]["release"] == "v1" && others[0]["refused"].is_null(), "{told}");
    let way = &told["way"];
    assert_eq!((&way["to"], &way["down"]), (&Value::from("v2"), &Value::from("v3")));
    let batches: Vec<Value> = way["batches"].as_array().unwrap().iter().map(|b| b["hosts"].clone()).collect();
    assert_eq!(batches, [serde_json::json!(["web-1"]), serde_json::json!(["web-2"])]);

    // As it is typed there, and in the order that it says.
    let command = told["begin"][0]["command"].as_str().unwrap().replace("'WHY'", "slow");
    let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
    words.push("--yes");
    let said = scene.stage.run_ctl(&words).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let written = fs::read_to_string(&database).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert!(lines.len() == 2 && lines[0] == "up v3" && lines[1].starts_with("down v3"), "{lines:?}");
    assert!(HOSTS.iter().all(|host| scene.stage.current(host) == "v2"));

    // What is in force is told anew, with the drill that was made of it.
    scene.ctl(&["drill", "--yes"]).unwrap().expect_code(0).unwrap();
    let told = book(&scene);
    assert_eq!((&told["in_force"], &told["way"]["to"]), (&Value::from("v2"), &Value::from("v1")));
    assert_eq!(told["rehearsed"]["release"], "v1");
    let newer = &told["others"][0];
    assert_eq!(newer["release"], "v3");
    let refused = newer["refused"].as_str().unwrap();
    let asked = scene.ctl(&["rollback", "v3", "--yes"]).unwrap();
    assert!(asked.code != 0 && asked.err.contains(refused), "{asked:?}\n{refused}");
}
