//! Steps in their units on a real server: who they are, what they reach, what is refused, what is ended.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::io::{BufRead as _, BufReader};

use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::{Installed, as_user};

const UNITS: [&str; 2] = ["landfall-step@s1.service", "landfall-step-net@s1.service"];

/// Says who it is and what it can reach. A connection is tried to the controller, by its address in /etc/hosts.
const LOOK: &str = r#"
id -un; umask
for path in /var/lib/landfall/identity/credentials.json /run/landfall/holders /var/log/landfall; do
    ls $path >/dev/null 2>&1 && echo "sees $path"
done
for path in $RELEASE/new $(dirname $RELEASE)/new /srv/tenants/new /etc/new /var/lib/landfall-steps/pin.json; do
    (: >>$path) 2>/dev/null && echo "writes $path"
done
python3 -c 'import socket; socket.create_connection(("deploy", 7443), 10)' 2>/dev/null && echo "has the network"
true
"#;

/// Begins what is hard to end: children in sessions of their own, deaf ones, a flood; and outlives its time.
const STORM: &str = r#"
for i in 1 2 3; do setsid sh -c 'trap "" TERM; while :; do sleep 7001; done' & done
setsid sh -c 'setsid sh -c "exec sleep 7002" &' &
sh -c 'while :; do echo flood flood flood flood flood flood flood flood; done' &
exec sleep 7003
"#;

fn with(definition: &str) -> impl FnOnce(String) -> String {
    move |text| format!("{text}\n{definition}")
}

fn prepare(name: &str, script: &str) -> String {
    format!(
        "[[prepare]]\nname = \"{name}\"\ncommand = [\"sh\", \"{{release}}/{script}\", \"{{prepared}}\", \"{{shared}}\"]\n"
    )
}

fn units(host: &Host) -> String {
    host.sh("systemctl list-units --all --plain --no-legend 'landfall-step*' | cut -d ' ' -f 1").unwrap()
}

#[track_caller]
fn succeeded(landfall: &Installed, said: &Said) {
    assert_eq!(said.code, 0, "{said:?}\n{}", landfall.fleet.last_words());
}

/// Asks for a step as an agent does that was taken over: with its user's rights and its files. `change` is Python
/// that changes the request.
fn ask(host: &Host, template: &str, id: &str, change: &str) -> serde_json::Value {
    let script = format!(
        r#"
import json, pathlib, subprocess
trust = pathlib.Path("/var/lib/landfall/trust")
files = {{str(path.relative_to(trust)): path.read_text() for path in trust.rglob("*.json")}}
request = dict(release="v1", kind="prepare", step="look", metadata=files)
{change}
place = pathlib.Path("/var/lib/landfall-steps")
(place / "requests/{id}.json").write_text(json.dumps(request))
subprocess.run(["systemctl", "--no-ask-password", "start", "{template}@{id}.service"], stderr=subprocess.DEVNULL)
print((place / "results/{id}.json").read_text())
"#
    );
    host.put("/tmp/ask.py", script.as_bytes(), 0o644).unwrap();
    let said = as_user(host, "landfall", &["python3", "/tmp/ask.py"]).unwrap();
    let said = said.expect_code(0).unwrap_or_else(|error| panic!("{error}\n{}", host.last_words()));
    serde_json::from_str::<serde_json::Value>(&said.out).unwrap()["ended"].clone()
}

#[test]
fn a_step_is_caged_and_runs_nothing_that_is_not_signed() {
    let landfall = Installed::new(&["web-1"]).unwrap();
    let web = landfall.fleet.host("web-1");
    let said = web.exec(&[&["systemd-analyze", "verify"][..], &UNITS].concat()).unwrap();
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    for (unit, threshold) in [(UNITS[0], 12), (UNITS[1], 15)] {
        let threshold = format!("--threshold={threshold}");
        let said = web.exec(&["systemd-analyze", "security", &threshold, unit]).unwrap();
        assert_eq!(said.code, 0, "{unit}: {threshold}, in tenths\n{}", said.out);
    }

    landfall
        .file("look.sh", format!("RELEASE=$(dirname $0)\nexec >$1/look 2>&1\n{LOOK}").as_bytes())
        .unwrap();
    landfall
        .file("close.sh", b"mkdir -m 700 $1/closed; (umask 077; echo key >$1/closed/key); echo closed\n")
        .unwrap();
    landfall
        .file("migrate.sh", format!("RELEASE=$(dirname $0)\nexec >>$1/migrated 2>&1\n{LOOK}").as_bytes())
        .unwrap();
    let steps = [
        prepare("look", "look.sh"),
        prepare("close", "close.sh"),
        "[migrate]\ncommand = [\"sh\", \"{release}/migrate.sh\", \"{shared}\"]\ncompatible_with_previous = true\n".to_owned(),
        "[[smoke]]\nname = \"ask\"\ncommand = [\"curl\", \"-fsS\", \"http://127.0.0.1:8080/healthz\"]\n".to_owned(),
    ];
    landfall.commit("v1", with(&steps.concat())).unwrap();
    succeeded(&landfall, &landfall.ctl(&["release", "v1", "--yes"]).unwrap());
    assert_eq!(web.sh("cat /srv/tenants/prepared/v1/look").unwrap(), "landfall-step\n0002\n");
    assert_eq!(web.sh("cat /srv/tenants/shared/migrated").unwrap(), "landfall-step\n0002\nhas the network\n");
    assert_eq!(units(web), "", "nothing is left of units that have ended");
    let left = web.sh("cd /var/lib/landfall-steps; find requests results -type f ! -name 'm*'").unwrap();
    assert_eq!(left, "", "nothing is left of requests but those of migrations");
    // What was closed is open to the agent, which will remove it, and to the service.
    let said = as_user(web, "landfall", &["cat", "/srv/tenants/prepared/v1/closed/key"]).unwrap();
    assert_eq!(said.out, "key\n", "{said:?}");
    assert_eq!(web.sh("tail -n 1 /var/log/landfall-steps/tenants.close.log").unwrap(), "closed\n");

    // What the agent's user may ask of systemd.
    for (allowed, words) in [
        (false, ["systemctl", "start", "landfall-step@nobody-asked.service"]),
        (false, ["systemctl", "start", "landfall-step@..-..-etc-passwd.service"]),
        (false, ["systemctl", "start", "landfall-step-other@s1.service"]),
        (false, ["systemctl", "restart", UNITS[0]]),
        (false, ["systemctl", "kill", UNITS[0]]),
        (true, ["systemctl", "stop", UNITS[0]]),
    ] {
        let said = as_user(web, "landfall", &words).unwrap();
        assert_eq!(said.code == 0, allowed, "{words:?}: {said:?}");
    }
    let said = as_user(web, "landfall", &["sh", "-c", "echo >/var/lib/landfall-steps/pin.json"]).unwrap();
    assert_ne!(said.code, 0, "{said:?}");
    // A name that is none of a run leads nowhere, even if root starts it.
    web.exec(&["systemctl", "start", "landfall-step@..-..-etc-passwd.service"])
        .unwrap()
        .expect_code(1)
        .unwrap();
    let words = web.sh("journalctl --output=cat -u 'landfall-step@..-..-etc-passwd.service'").unwrap();
    assert!(words.contains("names no run of a step"), "{words}");

    // An agent that was taken over: what is signed runs, and nothing else does.
    let look = "/srv/tenants/prepared/v1/look";
    web.sh(&format!("rm {look}")).unwrap();
    let ended = ask(web, "landfall-step", "s01", "");
    assert_eq!(
        (&ended["cause"], web.exec(&["test", "-s", look]).unwrap().code),
        (&serde_json::Value::Null, 0),
        "{ended}"
    );
    // Nor does a migration that has run under its lease.
    ask(web, "landfall-step-net", "m1", "request.update(kind='migrate', step='migrate')");
    assert_eq!(web.sh("cat /srv/tenants/shared/migrated").unwrap(), "landfall-step\n0002\nhas the network\n");
    web.sh(&format!("rm {look}")).unwrap();
    for (id, template, change, expected) in [
        ("s02", "landfall-step", "request['step'] = 'evil'", "has no such step: evil"),
        (
            "s03",
            "landfall-step-net",
            "",
            "look of release v1 has no network by its signed manifest, and was started with it",
        ),
        ("s04", "landfall-step", "request['command'] = ['id']", "unknown field `command`"),
        (
            "s05",
            "landfall-step",
            "files.update({k: v.replace('1', '2') for k, v in files.items() if 'apps' in k})",
            "release v1 is not signed for this host",
        ),
        ("s06", "landfall-step", "files.clear()", "has no targets.json"),
        (
            "s07",
            "landfall-step",
            "request['release'] = 'v9'; known = pathlib.Path('/srv/tenants/.landfall/releases'); \
             (known / 'v9').write_bytes((known / 'v1').read_bytes())",
            "list no release v9",
        ),
        (
            "s08",
            "landfall-step-net",
            "request.update(kind='migrate', step='migrate')",
            "under the number of its lease",
        ),
        ("m9", "landfall-step", "", "under the number of its lease"),
        (
            "s09",
            "landfall-step",
            "manifest = pathlib.Path('/srv/tenants/.landfall/releases/v1'); manifest.chmod(0o644); \
             manifest.write_text(manifest.read_text().replace('look.sh', 'evil.sh'))",
            "the manifest of release v1 on this disk is not the one that its signers list",
        ),
        (
            "s0a",
            "landfall-step",
            "manifest = pathlib.Path('/srv/tenants/.landfall/releases/v1'); \
             manifest.write_text(manifest.read_text().replace('evil.sh', 'look.sh')); \
             script = pathlib.Path('/srv/tenants/releases/v1/look.sh'); script.chmod(0o644); \
             script.write_text('echo evil >$1/look'); script.chmod(0o444)",
            "the files of release v1 on this disk are not those that its signers list: look.sh has another content",
        ),
    ] {
        let ended = ask(web, template, id, change);
        let reason = ended["cause"]["reason"].as_str().unwrap_or_default();
        assert!(ended["cause"]["type"] == "not_started" && reason.contains(expected), "{id}: {ended}");
    }
    assert_ne!(web.exec(&["test", "-e", look]).unwrap().code, 0, "nothing has run");

    // What root does when the agent starts, it does to that user's own directories and behind no link.
    web.sh("install -d -o root -g root -m 755 /srv/other /srv/other/shared /srv/tenants/shared/roots")
        .unwrap();
    let plant = "cd /srv/tenants/shared; ln -s /etc etc; ln -s ../../other other; mkdir own; cd ..; mv shared kept; \
                 ln -s /srv/other shared";
    as_user(web, "landfall", &["sh", "-c", plant]).unwrap().expect_code(0).unwrap();
    let restart = |host: &Host| host.sh("systemctl restart landfall-agent").unwrap();
    let modes = |host: &Host, paths: &str| {
        let modes = host.sh(&format!("stat -c '%U:%G %a' {paths}")).unwrap();
        modes.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let theirs = "/etc /srv/other /srv/other/shared";
    let before = modes(web, theirs);
    restart(web);
    assert_eq!(modes(web, theirs), before);
    let back = "cd /srv/tenants; rm shared; mv kept shared";
    as_user(web, "landfall", &["sh", "-c", back]).unwrap().expect_code(0).unwrap();
    let roots = "/srv/tenants/shared/roots";
    let before = [before, modes(web, roots)].concat();
    restart(web);
    assert_eq!([modes(web, theirs), modes(web, roots)].concat(), before);
    assert_eq!(modes(web, "/srv/tenants/shared/own"), ["landfall:landfall-step 2775"]);

    // An agent that says that it was enrolled for another application gets neither its directories nor its steps.
    let forge = "sed -i 's/\"application\": *\"tenants\"/\"application\":\"other\"/' /var/lib/landfall/identity/*.json";
    as_user(web, "landfall", &["sh", "-c", forge]).unwrap().expect_code(0).unwrap();
    let said = web.exec(&["landfall-agent", "setup-steps"]).unwrap();
    assert!(said.code != 0 && said.err.contains("another enrolment"), "{said:?}");
    assert_eq!(modes(web, theirs), before[..3]);
}

#[test]
fn a_step_is_ended_whole_and_outlives_its_agent_where_it_must() {
    let landfall = Installed::new(&["web-1"]).unwrap();
    let web = landfall.fleet.host("web-1");
    let talkative = |text: String| {
        let (quiet, loud) =
            ("[\"python3\", \"server.py\"]", "[\"sh\", \"-c\", \"echo serves; exec python3 server.py\"]");
        text.replace(quiet, loud)
    };
    landfall.commit("v1", talkative).unwrap();
    succeeded(&landfall, &landfall.ctl(&["release", "v1", "--yes"]).unwrap());
    let said = web.sh("journalctl --output=cat -u landfall-holder@tenants.web.service").unwrap();
    assert!(said.lines().any(|line| line == "serves"), "{said}");
    let said = landfall.ctl(&["logs", "web-1", "--service", "web"]).unwrap();
    assert!(said.code == 0 && said.out.lines().any(|line| line == "serves"), "{said:?}");

    // It forks, floods, is deaf, and does not end.
    landfall.file("storm.sh", STORM.as_bytes()).unwrap();
    landfall.commit("v2", with(&format!("{}timeout = \"2s\"\n", prepare("storm", "storm.sh")))).unwrap();
    let said = landfall.ctl(&["release", "v2", "--yes"]).unwrap();
    let text = format!("{}{}", said.out, said.err);
    assert!(
        said.code != 0 && text.contains("storm was ended after") && text.contains("flood flood"),
        "{said:?}"
    );
    let processes = web.exec(&["pgrep", "-u", "landfall-step", "-a"]).unwrap();
    assert_eq!(processes.out, "", "all of it is ended");
    assert_eq!(units(web), "");
    let bytes = web.sh("cat /var/log/landfall-steps/tenants.storm.log* | wc -c").unwrap();
    assert!(bytes.trim().parse::<u64>().unwrap() <= 8 * 1024 * 1024, "{bytes}");
    assert_eq!(landfall.current("web-1").unwrap(), "v1");

    // The agent is killed during a preparation, which is begun anew, and during the migration, which is not.
    landfall
        .file(
            "wait.sh",
            b"echo begun >>$2/$(basename $1).prepare; echo waits; while [ ! -e $2/go ]; do sleep 0.1; done; echo goes\n",
        )
        .unwrap();
    landfall
        .file(
            "migrate.sh",
            b"echo begun >>$1/migrate; while [ ! -e $1/on ]; do sleep 0.1; done; echo done >>$1/migrate\n",
        )
        .unwrap();
    let migrate = "[migrate]\ncommand = [\"sh\", \"{release}/migrate.sh\", \"{shared}\"]\ncompatible_with_previous = true\n";
    landfall.commit("v3", with(&format!("{}{migrate}", prepare("wait", "wait.sh")))).unwrap();
    let follow = {
        let mut command = landfall.ctl_command(&["release", "v3", "--yes"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let has_begun = |file: &str, times: usize| {
        let path = format!("/srv/tenants/shared/{file}");
        web.wait_until(&format!("{file} has begun {times} times"), |host| {
            Ok(host.exec(&["grep", "-c", "begun", &path])?.out.trim() == times.to_string())
        })
        .unwrap();
    };
    let kill = || {
        let before = web.property("landfall-agent", "MainPID").unwrap();
        web.sh("systemctl kill --signal=KILL --kill-who=main landfall-agent").unwrap();
        web.wait_until("another agent is ready", |host| {
            Ok(host.property("landfall-agent", "MainPID")? != before
                && host.property("landfall-agent", "ActiveState")? == "active")
        })
        .unwrap();
    };
    has_begun("v3.prepare", 1);
    kill();
    has_begun("v3.prepare", 2);
    assert_eq!(units(web).lines().count(), 1, "the one that nobody waits for is ended: {}", units(web));

    // An operator sees what it writes while it runs, and is told what else there is to see.
    let mut reading = landfall
        .ctl_command(&["logs", "web-1", "--step", "wait", "--follow", "--lines", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "waits");
    web.sh("touch /srv/tenants/shared/go").unwrap();
    assert_eq!(lines.next().unwrap(), "goes");
    reading.kill().unwrap();
    reading.wait().unwrap();
    let said = landfall.ctl(&["logs", "web-1"]).unwrap();
    assert!(said.code != 0 && said.err.contains("say which: --service web, --step "), "{said:?}");
    has_begun("migrate", 1);
    let running = units(web);
    kill();
    assert_eq!(units(web), running, "the migration goes on");
    web.sh("touch /srv/tenants/shared/on").unwrap();
    let said = Said::from(follow.wait_with_output().unwrap());
    succeeded(&landfall, &said);
    assert_eq!(web.sh("cat /srv/tenants/shared/migrate").unwrap(), "begun\ndone\n", "it has run once");
    assert_eq!(landfall.current("web-1").unwrap(), "v3");
}
