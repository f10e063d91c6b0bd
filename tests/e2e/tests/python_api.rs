//! The API is for other programs too: one in Python, generated from the .proto files, releases an artifact.

use std::fs;
use std::path::Path;
use std::process::Command;

use landfall_e2e::python;
use landfall_e2e::stage::{Said, Stage, token_in};

#[test]
fn a_program_generated_from_the_proto_files_releases_an_artifact() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let python =
        python::environment(&own.join("../../target"), &own.join("python/requirements.txt")).unwrap();
    let api = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(own.join("python/api.py")).arg(directory.path().join("client")).args(arguments);
        Said::from(command.output().unwrap())
    };

    let mut stage = Stage::new(directory.path(), bin).unwrap();
    let token = stage.init_controller().unwrap();
    stage.start_controller().unwrap();
    let said = api(&["enrol", &token, &stage.address]).expect_code(0).unwrap();
    assert!(said.out.contains("is admin"), "{said:?}");
    api(&["publish-root"]).expect_code(0).unwrap();
    for name in ["web-1", "web-2"] {
        stage.add_host(name, "site").unwrap();
        let token = token_in(&api(&["host-token", name]).expect_code(0).unwrap()).unwrap();
        stage.join(name, &token).unwrap();
    }

    let site = directory.path().join("site");
    fs::create_dir_all(site.join("static")).unwrap();
    fs::write(site.join("static/style.css"), "body { color: black }").unwrap();
    for release in ["v1", "v2"] {
        fs::write(site.join("index.html"), format!("<h1>{release}</h1>")).unwrap();
        let said = api(&["release", release, site.to_str().unwrap()]);
        assert!(said.code == 0, "{said:?}\n{}\n{}", stage.controller_log(), stage.agent_log("web-1"));
        assert!(said.out.contains("succeeded"), "{said:?}");
        for host in stage.hosts.values() {
            let page = fs::read_to_string(host.srv.join("current/index.html")).unwrap();
            assert_eq!(page, format!("<h1>{release}</h1>"), "{}", host.name);
        }
    }
    let said = api(&["refused", "v9"]).expect_code(0).unwrap();
    assert!(said.out.contains("v9"), "{said:?}");
}
