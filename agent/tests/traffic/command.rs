//! Traffic that is led by the release's own commands.

use std::time::Duration;

use landfall_common::manifest::Step;
use landfall_common::manifest::traffic::{Gate, Proxy, Switch};

use crate::host::{Host, Plan, free_ports, slots};

/// A command that writes a line into a file of the host's.
fn step(name: &str, script: &str, file: &std::path::Path, timeout: Duration) -> Step {
    let text = |text: &str| text.to_owned();
    let file = file.to_string_lossy().into_owned();
    Step {
        name: name.parse().unwrap(),
        command: vec![text("/bin/sh"), text("-c"), text(script), file, text("{slot}"), text("{address}")],
        environment: [].into(),
        timeout,
        network: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_told_the_slot_and_its_address() {
    let [blue, green] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("led");
    let mut host = Host::new(directory, "", blue, green).await;
    let switch = step("switch", "echo \"$1 $2\" >> \"$0\"", &file, Duration::from_secs(30));
    let plan = |name| Plan {
        arguments: vec!["notify=yes"],
        proxy: Some(Proxy::Slots {
            slots: slots(Duration::from_secs(600)),
            switch: Switch::Command { switch: switch.clone() },
        }),
        ..Plan::new(name)
    };
    for (counter, name) in [(1, "v1"), (2, "v2")] {
        let release = host.publish(&plan(name), counter);
        host.activate(&release).await;
    }
    let told = std::fs::read_to_string(&file).unwrap();
    assert_eq!(told, format!("blue 127.0.0.1:{blue}\ngreen 127.0.0.1:{green}\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_never_ends_does_not_hold_the_change_up() {
    let [blue, green] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("told");
    let mut host = Host::new(directory, "", blue, green).await;
    // `{slot}` and `{address}` are words of slots alone.
    let plain = |mut step: Step| {
        step.command.truncate(4);
        step
    };
    let drain = plain(step("drain", "echo out >> \"$0\"; sleep 600", &file, Duration::from_millis(300)));
    let undrain = plain(step("undrain", "echo in >> \"$0\"", &file, Duration::from_secs(30)));
    let plan = Plan {
        arguments: vec!["notify=yes"],
        proxy: Some(Proxy::Gate { gate: Gate::Command { drain, undrain } }),
        ..Plan::new("v1")
    };
    let v1 = host.publish(&plan, 1);
    host.activate(&v1).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "out\nin\n");
    assert!(host.log().contains("the drain did not end in time"), "{}", host.log());
}
