//! Servers fail in the middle of a rollout: the power, the network, the disk, the clock.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::io;
use std::process::Child;
use std::time::Duration;

use landfall_e2e::load::Counts;
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::{APPLICATION, DEPLOY, Installed, PORT};

fn end_of(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// What the server itself answers with.
fn served(host: &Host) -> io::Result<String> {
    let ask = format!("curl -sS --max-time 5 -D - -o /dev/null http://127.0.0.1:{PORT}/ | tr -d '\\r'");
    let said = host.exec(&["sh", "-c", &ask])?;
    let release = said.out.lines().find_map(|line| line.strip_prefix("X-Release: "));
    release.map(str::to_owned).ok_or_else(|| io::Error::other(format!("{said:?}")))
}

/// Every server has the new release, or every server has the old one, as `ctl` said; and serves it.
#[track_caller]
fn ended_rightly(landfall: &Installed, what: &str, said: &Said, old: &str, new: &str) {
    let right = match said.code {
        0 => new,
        3 => old,
        _ => panic!("{what}: {said:?}\n{}", landfall.fleet.last_words()),
    };
    for name in &landfall.servers {
        assert_eq!(landfall.current(name).unwrap(), right, "{what}: {name}: {said:?}");
        let serves = |host: &Host| Ok(served(host)? == right);
        landfall.fleet.host(name).wait_until(&format!("{what}: it serves {right}"), serves).unwrap();
    }
    let hosts = landfall.json(&["hosts"]).unwrap();
    for host in hosts["hosts"].as_array().unwrap() {
        assert!(host["active"].to_string().contains(right), "{what}: {host}");
    }
}

/// Bytes that no packing makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[track_caller]
fn nothing_lost(what: &str, counts: &Counts) {
    assert_eq!(counts.failed, 0, "{what}: of {}: {:?}", counts.sent, counts.failures);
}

fn has_swapped(landfall: &Installed, server: &str, release: &str) -> io::Result<()> {
    let swapped = |_: &Host| Ok(landfall.current(server)? == release);
    landfall.fleet.host(server).wait_until(&format!("it has swapped to {release}"), swapped)
}

#[test]
fn a_rollout_ends_rightly_when_the_power_and_the_network_fail_in_its_middle() {
    let landfall = Installed::new(&["web-1", "web-2"]).unwrap();
    let fleet = &landfall.fleet;
    let (first, second) = (fleet.host("web-1"), fleet.host("web-2"));
    let said = landfall.release("v1").unwrap();
    ended_rightly(&landfall, "the first release", &said, "", "v1");
    let load = landfall.load(&["web-2"], 40).unwrap();

    // The power of the canary goes while the release arrives.
    let release = landfall.begin_release("v2").unwrap();
    first
        .wait_until("v2 arrives", |host| {
            Ok(host.exec(&["sh", "-c", &format!("ls -A /srv/{APPLICATION}/releases")])?.out.contains("v2"))
        })
        .unwrap();
    first.cut_power().unwrap();
    first.power_on().unwrap();
    ended_rightly(&landfall, "power cut while it stages", &end_of(release), "v1", "v2");

    // And again while it proves the release that it has swapped to.
    let before = landfall.current("web-1").unwrap();
    let release = landfall.begin_release("v3").unwrap();
    has_swapped(&landfall, "web-1", "v3").unwrap();
    first.cut_power().unwrap();
    first.power_on().unwrap();
    let now = landfall.current("web-1").unwrap();
    assert!([&before, "v3"].contains(&now.as_str()), "old or new, not {now:?}");
    ended_rightly(&landfall, "power cut while it proves", &end_of(release), &before, "v3");

    // And the controller's.
    let before = landfall.current("web-1").unwrap();
    let release = landfall.begin_release("v4").unwrap();
    has_swapped(&landfall, "web-1", "v4").unwrap();
    fleet.host(DEPLOY).cut_power().unwrap();
    fleet.host(DEPLOY).power_on().unwrap();
    ended_rightly(&landfall, "power cut of the controller", &end_of(release), &before, "v4");
    landfall.ctl(&["log", "verify"]).unwrap().expect_code(0).unwrap();

    // The canary is cut off from everybody: it goes on alone, and the rollout waits for it.
    let before = landfall.current("web-1").unwrap();
    let release = landfall.begin_release("v5").unwrap();
    has_swapped(&landfall, "web-1", "v5").unwrap();
    first.network.black_hole().unwrap();
    first.wait_until("it serves v5 to whoever is there", |host| Ok(served(host)? == "v5")).unwrap();
    assert_eq!(landfall.current("web-2").unwrap(), before, "nobody goes on without word of the canary");
    first.network.heal().unwrap();
    ended_rightly(&landfall, "black hole", &end_of(release), &before, "v5");

    // The second one's cable is pulled when its turn comes; the first one has the release already.
    nothing_lost("web-2 until its cable is pulled", &load.stop());
    let before = landfall.current("web-1").unwrap();
    let release = landfall.begin_release("v6").unwrap();
    has_swapped(&landfall, "web-2", "v6").unwrap();
    second.network.unplug().unwrap();
    second.wait_until("it serves v6", |host| Ok(served(host)? == "v6")).unwrap();
    second.network.plug().unwrap();
    ended_rightly(&landfall, "cable", &end_of(release), &before, "v6");
}

#[test]
fn a_power_cut_at_any_moment_of_a_release_leaves_the_old_or_the_new_one() {
    let landfall = Installed::new(&["web-1"]).unwrap();
    let host = landfall.fleet.host("web-1");
    let said = landfall.release("v0-proven").unwrap();
    ended_rightly(&landfall, "the first release", &said, "", "v0-proven");
    let mut old = "v0-proven".to_owned();
    // From the first byte that arrives to the record of the commit, and a little beyond.
    for delay_ms in [0, 100, 250, 450, 700, 1000, 1600] {
        let new = format!("after-{delay_ms}-ms");
        let release = landfall.begin_release(&new).unwrap();
        host.wait_until("the assignment is there", |host| {
            Ok(host.sh(&format!("ls -A /srv/{APPLICATION}/releases"))?.contains(&new))
        })
        .unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        host.cut_power().unwrap();
        host.power_on().unwrap();
        let now = landfall.current("web-1").unwrap();
        assert!(now == old || now == new, "{delay_ms} ms: {now:?} is neither {old} nor {new}");
        // Before it has a word from anybody, it serves what `current` names.
        let serves = |host: &Host| Ok([&old, &new].contains(&&served(host)?));
        host.wait_until("it serves", serves).unwrap();
        ended_rightly(&landfall, &new, &end_of(release), &old, &new);
        old = landfall.current("web-1").unwrap();
    }
}

#[test]
fn a_full_disk_a_slow_disk_and_a_wrong_clock_break_nothing_that_runs() {
    let landfall = Installed::new(&["web-1", "web-2"]).unwrap();
    let second = landfall.fleet.host("web-2");
    let said = landfall.release("v1").unwrap();
    ended_rightly(&landfall, "the first release", &said, "", "v1");
    let load = landfall.load(&["web-1", "web-2"], 40).unwrap();

    // Room for what the agent notes and not for the release, and then not for a byte: it is told, and nothing changed.
    landfall.file("large", &noise(8 << 20)).unwrap();
    for (release, left_bytes) in [("v2", 2 << 20), ("v3", 0)] {
        second.fill_disk(left_bytes).unwrap();
        let said = landfall.release(release).unwrap();
        second.free_disk().unwrap();
        assert!(said.code == 1 && said.out.contains("web-2") && said.out.contains("disk full"), "{said:?}");
        for name in &landfall.servers {
            assert_eq!(landfall.current(name).unwrap(), "v1", "{name}");
        }
    }

    // A disk that stands still for nine tenths of the time makes a rollout slow, and no more.
    let slow = second.slow_disk().unwrap();
    let said = landfall.release("v4").unwrap();
    drop(slow);
    ended_rightly(&landfall, "a slow disk, with room again", &said, "v1", "v4");

    // The clock of one server is wrong, ahead and behind, and then right again.
    second.clock_for("landfall-").unwrap();
    let wrong = [
        (3 * 86_400, "the clocks of this host and of the controller differ"),
        (-3 * 86_400, "not valid yet"),
    ];
    for (ahead_s, told) in wrong {
        second.set_clock(ahead_s).unwrap();
        second.sh("systemctl restart landfall-agent").unwrap();
        second.wait_until("it tells", |host| Ok(host.journal("landfall-agent")?.contains(told))).unwrap();
    }
    second.set_clock(0).unwrap();
    let said = landfall.release("v5").unwrap();
    ended_rightly(&landfall, "a clock that was wrong", &said, "v4", "v5");
    nothing_lost("all of it", &load.stop());
}
