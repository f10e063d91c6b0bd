//! The test hosts themselves: what a story may rely on.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_hosts::fleet::Plan;
use landfall_hosts::host::{Host, PATIENCE, cgroups};

/// Long enough for an answer that will come, short enough for one that will not.
const A_MOMENT: &str = "1";

#[test]
fn hosts_boot_lose_their_power_and_find_each_other() {
    let fleet = Plan::new().host("web-1").host("web-2").boot().unwrap();
    let (one, two) = (fleet.host("web-1"), fleet.host("web-2"));
    for host in [one, two] {
        assert_eq!(
            host.sh("systemctl is-system-running").unwrap().trim(),
            "running",
            "{}",
            host.last_words()
        );
        assert_eq!(host.sh("cat /proc/1/comm; hostname").unwrap(), format!("systemd\n{}\n", host.name));
    }

    // They answer each other by name, and the test by address.
    let page = "import http.server\nhttp.server.test(http.server.SimpleHTTPRequestHandler, port=80)";
    one.put("/srv/page/index.html", b"here is web-1", 0o644).unwrap();
    one.sh(&format!("systemd-run -q --unit page -p WorkingDirectory=/srv/page python3 -c '{page}'")).unwrap();
    let ask = format!("curl -sS --max-time {A_MOMENT} http://web-1/");
    two.wait_until("web-1 answers", |host| Ok(host.exec(&["sh", "-c", &ask])?.out == "here is web-1"))
        .unwrap();
    assert!(std::net::TcpStream::connect((one.address(), 80)).is_ok());

    // A pulled cable and a black hole; both can be undone.
    type Act = fn(&landfall_hosts::network::Cable) -> std::io::Result<()>;
    let cuts: [(&str, Act, Act); 2] = [
        ("cable", |cable| cable.unplug(), |cable| cable.plug()),
        ("black hole", |cable| cable.black_hole(), |cable| cable.heal()),
    ];
    for (name, cut, mend) in cuts {
        cut(&one.network).unwrap();
        let said = two.exec(&["sh", "-c", &ask]).unwrap();
        assert_ne!(said.code, 0, "{name}: {said:?}");
        assert_eq!(one.sh("curl -sS http://127.0.0.1/").unwrap(), "here is web-1", "{name}");
        mend(&one.network).unwrap();
        two.wait_until("web-1 answers", |host| Ok(host.exec(&["sh", "-c", &ask])?.code == 0)).unwrap();
    }

    // What was synced survives a power cut, and what was not does not.
    one.put("/srv/kept", b"kept", 0o644).unwrap();
    one.sh("sync -f /srv/kept").unwrap();
    one.put("/srv/lost", b"lost", 0o644).unwrap();
    let before = one.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").unwrap();
    one.cut_power().unwrap();
    assert!(!one.is_on() && one.exec(&["true"]).is_err());
    one.power_on().unwrap();
    assert_eq!(one.get("/srv/kept").unwrap(), b"kept");
    assert!(one.get("/srv/lost").is_err(), "a power cut that loses nothing is none");
    assert_ne!(one.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").unwrap(), before);

    // An orderly end loses nothing, and a reboot is one.
    one.put("/srv/lost", b"kept", 0o644).unwrap();
    one.reboot().unwrap();
    assert_eq!(one.get("/srv/lost").unwrap(), b"kept");
    one.put("/srv/late", b"kept", 0o644).unwrap();
    one.shut_down().unwrap();
    one.power_on().unwrap();
    assert_eq!(one.get("/srv/late").unwrap(), b"kept");
}

#[test]
fn a_disk_is_full_stands_still_and_is_slow_and_a_clock_is_set() {
    let fleet = Plan::new().host_with_disk("web-1", 256).boot().unwrap();
    let host = fleet.host("web-1");

    host.fill_disk(0).unwrap();
    let said = host.exec(&["sh", "-c", "head -c 8M /dev/zero >/srv/file"]).unwrap();
    assert!(said.code != 0 && said.err.contains("No space left on device"), "{said:?}");
    host.free_disk().unwrap();
    host.sh("echo something >/srv/file && sync /srv/file").unwrap();
    assert!(host.disk_bytes().unwrap() < 256 * 1024 * 1024);

    let stalled = host.stall_disk().unwrap();
    let mut writer = host.command(&["sh", "-c", "echo more >/srv/more"]).unwrap().spawn().unwrap();
    let said = host.exec(&["timeout", A_MOMENT, "cat", "/srv/file"]).unwrap();
    assert_eq!(said.out, "something\n", "it can still be read");
    assert!(writer.try_wait().unwrap().is_none(), "and not be written");
    drop(stalled);
    assert!(writer.wait().unwrap().success());

    let slow = host.slow_disk().unwrap();
    host.sh("for i in 1 2 3; do echo $i >/srv/slow; sync /srv/slow; done").unwrap();
    drop(slow);
    host.sh("echo fast >/srv/slow; sync /srv/slow").unwrap();

    // A unit sees another date; the machine around it does not.
    host.clock_for("clock-").unwrap();
    host.put("/srv/clock.py", CLOCK.as_bytes(), 0o644).unwrap();
    let unit = b"[Service]\nExecStart=python3 /srv/clock.py\n";
    host.put("/etc/systemd/system/clock-test.service", unit, 0o644).unwrap();
    host.sh("systemctl daemon-reload; systemctl start clock-test").unwrap();
    let now = || -> i64 { host.sh("date +%s").unwrap().trim().parse().unwrap() };
    let seen = || -> i64 {
        let text = host.get("/run/clock").unwrap_or_default();
        String::from_utf8(text).unwrap().trim().parse().unwrap_or_default()
    };
    for days in [3, -40, 0] {
        host.set_clock(days * 86_400).unwrap();
        let right = |_: &Host| Ok(((seen() - now()) - days * 86_400).abs() < 3600);
        host.wait_until(&format!("the unit sees its clock {days} days ahead"), right).unwrap();
    }
}

const CLOCK: &str = r#"
import os, time
while True:
    with open("/run/clock.new", "w") as file:
        file.write(str(int(time.time())))
    os.rename("/run/clock.new", "/run/clock")
    time.sleep(0.1)
"#;

/// Set for the process that is killed: a file into which it writes where its fleet is.
const TOLD: &str = "LANDFALL_HOSTS_TOLD";

/// A fleet in the worst state to be left in, until this process is killed.
fn stand_still_and_tell(file: &Path) {
    let fleet = Plan::new().host("web-1").boot().unwrap();
    let _stalled = fleet.host("web-1").stall_disk().unwrap();
    fs::write(file, fleet.path("x").parent().unwrap().to_str().unwrap()).unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn nothing_is_left_of_a_fleet_whose_test_was_killed() {
    if let Some(file) = std::env::var_os(TOLD) {
        return stand_still_and_tell(Path::new(&file));
    }
    let told = landfall_hosts::directory().join(format!("told-{}", std::process::id()));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_fleet_whose_test_was_killed", "--nocapture"])
        .env(TOLD, &told)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the fleet runs", PATIENCE, || fs::read(&told).is_ok_and(|text| !text.is_empty())).unwrap();
    let directory = fs::read_to_string(&told).unwrap();
    let id = directory.rsplit('/').next().unwrap();
    let left = || {
        let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let mut left: Vec<_> = namespaces
            .map(|entry| entry.path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{id}.")))
            .collect();
        left.extend([directory.clone().into(), format!("{directory}.lock").into()]);
        left.push(cgroups().unwrap().join(id));
        left.retain(|path| path.exists());
        left
    };
    assert_eq!(left().len(), 5, "{:?}", left());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("all of it is gone", Duration::from_secs(60), || left().is_empty())
        .unwrap_or_else(|error| panic!("{error}: {:?}", left()));
    fs::remove_file(told).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(id), "{mounts}");
}
