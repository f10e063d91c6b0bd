//! Two slots of a template unit on a real server, nginx before them, and requests all the time: forward, back, an
//! agent that is killed in the middle, a release that does not start, a reboot.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::process::{Command, Stdio};

use landfall_e2e::load::{Counts, Load};
use landfall_e2e::scene::SERVER;
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::Installed;

const DEFINITION: &str = r#"[application]
name = "tenants"

[[service]]
name = "web"
driver = "systemd"
unit = "tenants-web@{slot}.service"
settle = "1s"

[[check]]
name = "healthz"
http = { url = "http://{address}/healthz" }
interval = "200ms"

[traffic]
proxy = "nginx"

[traffic.slots]
service = "web"
blue = "127.0.0.1:8001"
green = "127.0.0.1:8002"
warm_up = ["/healthz"]

[environment.production]
min_healthy = "1s"
healthy_deadline = "60s"
"#;

/// What `docs/reference` says of such a unit, for the small server of these tests.
const UNIT: &str = r"[Unit]
Description=Tenants (%i)

[Service]
User=tenants
WorkingDirectory=/srv/tenants/slots/%i
ExecStart=/bin/sh -c 'set -a; . /srv/tenants/slots/%i.env; exec /usr/bin/python3 bind.py'
Restart=on-failure
TimeoutStopSec=30s
";

/// Binds where its slot is, and goes on as the server, to which it hands the socket as systemd would.
const BIND: &str = r#"import os, socket, sys
host, port = os.environ["LANDFALL_ADDRESS"].rsplit(":", 1)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, int(port)))
listener.listen(1024)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.execv(sys.executable, [sys.executable, "server.py"])
"#;

const NGINX: &str = r"include /var/lib/landfall/nginx/*.conf;
server {
    listen 80 default_server;
    location / {
        proxy_pass http://tenants;
        proxy_next_upstream off;
    }
}
";

const SITE: &str = "/var/lib/landfall/nginx/tenants.conf";

struct Shop {
    landfall: Installed,
}

impl Shop {
    fn begin() -> Self {
        let make = |tree: &std::path::Path| {
            let releases = ["v1", "v2", "v3", "v4", "v5"];
            std::fs::create_dir_all(tree)?;
            git(tree, &["init", "--quiet", "--initial-branch", "main"])?;
            std::fs::write(tree.join("landfall.toml"), DEFINITION)?;
            std::fs::write(tree.join("server.py"), SERVER)?;
            for release in releases {
                // The last one does not start.
                let program = if release == "v5" { "raise SystemExit('no database')\n" } else { BIND };
                std::fs::write(tree.join("bind.py"), program)?;
                std::fs::write(tree.join("release.txt"), release)?;
                git(tree, &["add", "."])?;
                git(tree, &["commit", "--quiet", "-m", release])?;
                git(tree, &["tag", "-a", release, "-m", release])?;
            }
            Ok(())
        };
        let shop = Self { landfall: Installed::with_application(&["web-1"], &[], make).unwrap() };
        let web = shop.web();
        web.put("/etc/systemd/system/tenants-web@.service", UNIT.as_bytes(), 0o644).unwrap();
        web.put("/etc/nginx/conf.d/tenants.conf", NGINX.as_bytes(), 0o644).unwrap();
        web.sh(&format!(
            "useradd --system tenants
             sed -i 's/^var units = \\[/&\"tenants-web@*.service\", \"nginx.service\",/' \\
                 /etc/polkit-1/rules.d/40-landfall-units.rules
             rm -f /etc/nginx/sites-enabled/default
             install -d -o landfall -g landfall /var/lib/landfall/nginx
             echo 'upstream tenants {{ server 127.0.0.1:8001; }}' >{SITE}
             chown landfall {SITE}
             sed -i 's/^test = .*/test = []/' /etc/landfall/agent.toml
             systemctl daemon-reload
             systemctl enable --now nginx landfall-agent
             systemctl restart landfall-agent"
        ))
        .unwrap();
        shop
    }

    fn web(&self) -> &Host {
        self.landfall.fleet.host("web-1")
    }

    #[track_caller]
    fn ctl(&self, arguments: &[&str], code: i32) -> Said {
        let said = self.landfall.ctl(arguments).unwrap();
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, self.landfall.fleet.last_words());
        said
    }

    /// Releases, and kills the agent as soon as the host looks so.
    fn killed_when(&self, release: &str, what: &str, looks: &str) {
        let mut ctl = self.landfall.ctl_command(&["release", release, "--yes"]);
        let ctl = ctl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before = self.web().property("landfall-agent", "MainPID").unwrap();
        self.web().wait_until(what, |web| Ok(web.exec(&["sh", "-c", looks])?.code == 0)).unwrap();
        self.web().sh("systemctl kill --kill-who=main --signal=KILL landfall-agent").unwrap();
        let said = Said::from(ctl.wait_with_output().unwrap());
        assert_eq!(said.code, 0, "{said:?}\n{}", self.landfall.fleet.last_words());
        assert_ne!(self.web().property("landfall-agent", "MainPID").unwrap(), before);
    }

    /// The release is active, served by nginx, and runs in a slot of its own.
    #[track_caller]
    fn serves(&self, release: &str, slot: &str) {
        assert_eq!(self.landfall.current("web-1").unwrap(), release);
        let said = self.web().sh("curl -sS -o /dev/null -D - http://127.0.0.1/").unwrap();
        assert!(said.contains(&format!("X-Release: {release}\r")), "{said}");
        let id = self.process(slot);
        let directory = self.web().sh(&format!("readlink /proc/{id}/cwd")).unwrap();
        assert_eq!(directory.trim(), format!("/srv/tenants/releases/{release}"));
        let link = self.web().sh(&format!("readlink /srv/tenants/slots/{slot}")).unwrap();
        assert_eq!(link.trim(), format!("../releases/{release}"));
    }

    fn process(&self, slot: &str) -> String {
        self.web().property(&format!("tenants-web@{slot}"), "MainPID").unwrap()
    }
}

fn git(tree: &std::path::Path, arguments: &[&str]) -> std::io::Result<()> {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=operator", "-c", "user.email=operator@example.org"]);
    Said::from(command.args(arguments).current_dir(tree).output()?).expect_code(0).map(|_| ())
}

#[track_caller]
fn nothing_lost(counts: &Counts, releases: &[&str]) {
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    let served: Vec<_> = counts.by_release.keys().map(String::as_str).collect();
    assert_eq!(served, releases, "{counts:?}");
}

#[test]
fn instances_of_a_unit_are_slots_behind_nginx_and_no_request_is_lost() {
    let shop = Shop::begin();
    shop.ctl(&["release", "v1", "--yes"], 0);
    shop.serves("v1", "blue");
    let load = Load::start(vec![format!("{}:80", shop.web().address())], "/", 100).unwrap();

    shop.ctl(&["release", "v2", "--yes"], 0);
    shop.serves("v2", "green");
    nothing_lost(&load.take(), &["v1", "v2"]);

    // The way back, and forth again: what served before still runs, and is led to.
    let (blue, green) = (shop.process("blue"), shop.process("green"));
    shop.ctl(&["rollback", "v1", "--yes"], 0);
    shop.serves("v1", "blue");
    nothing_lost(&load.take(), &["v1", "v2"]);
    assert_eq!((shop.process("blue"), shop.process("green")), (blue, green));

    // An agent that is killed while the new one starts, and one that is killed as requests change over.
    shop.killed_when("v3", "v3 has its slot", "readlink /srv/tenants/slots/green | grep -q v3");
    shop.serves("v3", "green");
    nothing_lost(&load.take(), &["v1", "v3"]);
    shop.killed_when("v4", "nginx is to lead to v4", &format!("grep -q v4 {SITE}"));
    shop.serves("v4", "blue");
    nothing_lost(&load.take(), &["v3", "v4"]);

    // One that does not start never gets a request, and leaves its slot.
    let before = shop.process("blue");
    let said = shop.ctl(&["release", "v5", "--yes"], 3);
    assert!(format!("{said:?}").contains("no database"), "{said:?}");
    shop.serves("v4", "blue");
    assert_eq!(shop.process("blue"), before);
    nothing_lost(&load.stop(), &["v4"]);
    shop.web()
        .wait_until("the slot is free", |web| {
            Ok(web.exec(&["systemctl", "is-failed", "tenants-web@green"])?.code != 0
                && web.exec(&["test", "-e", "/srv/tenants/slots/green"])?.code != 0)
        })
        .unwrap();

    // A server that boots serves what it served.
    shop.web().reboot().unwrap();
    shop.web()
        .wait_until("it serves v4", |web| {
            Ok(web.exec(&["curl", "-sS", "-f", "-o", "/dev/null", "http://127.0.0.1/"])?.code == 0)
        })
        .unwrap();
    shop.serves("v4", "blue");
}
