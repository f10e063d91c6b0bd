//! `make demo` is the first thing that a newcomer sees: it has to end well.

use std::process::Command;

use landfall_e2e::process;
use landfall_e2e::stage::Said;

#[test]
fn the_demo_loses_no_request_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    // What it starts names this directory, and so can be found again.
    let said = Said::from(command.env("TMPDIR", directory.path()).env_remove("KEEP").output().unwrap());
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("No request was lost."), "{}", said.out);
    assert_eq!(process::that_name(directory.path()), Vec::<u32>::new(), "processes were left behind");
}
