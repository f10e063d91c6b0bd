//! One server with systemd, and a controller on a host of its own, both with Landfall's packages on them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::{DEPLOY, Installed};

use super::{APPLICATION, ASIDE, PEERS, Place, packages, put_aside};
use crate::traffic::ways::Way;

const SERVER: &str = "web-1";

/// A server that serves.
pub struct Server {
    landfall: Installed,
    /// Releases that `ctl` may still release: they are committed before any request is sent.
    committed: Vec<String>,
    by_hand: usize,
}

impl Server {
    /// Boots it, sets `way` up, and brings a first release to both applications.
    ///
    /// # Errors
    /// What did not work.
    pub fn new(way: &Way, releases: usize) -> anyhow::Result<Self> {
        let definition = way.definition();
        let packages = packages()?;
        let landfall = Installed::with_application(&[SERVER], &[], |tree| {
            std::fs::write(tree.join("landfall.toml"), &definition)?;
            git(tree, &["init", "--quiet", "--initial-branch", "main"])
        })?;
        let mut place = Self { landfall, committed: Vec::new(), by_hand: 0 };
        for (name, text) in APPLICATION {
            place.landfall.file(name, text.as_bytes())?;
        }
        for number in (0..=releases).rev() {
            place.committed.push(format!("v{number}"));
        }
        for number in 0..=releases {
            place.landfall.commit(&format!("v{number}"), |_| definition.clone())?;
        }
        place.prepare(way, &packages)?;
        place.release()?;
        place.by_hand("by_hand.sh", &way.start)?;
        for port in way.ports.into_iter().take(way.rows.len()) {
            let url = format!("http://127.0.0.1:{port}/");
            place.server().wait_until(&format!("{url} answers"), |server| {
                Ok(server.exec(&["curl", "-sf", "--max-time", "5", "-o", "/dev/null", &url])?.code == 0)
            })?;
        }
        Ok(place)
    }

    fn prepare(&self, way: &Way, packages: &Path) -> anyhow::Result<()> {
        let server = self.server();
        let archive = Command::new("tar").args(["-c", "-C"]).arg(packages).arg(".").output()?.stdout;
        server.put("/opt/packages.tar", &archive, 0o644)?;
        for (name, text) in APPLICATION {
            server.put(&format!("/srv/hand/incoming/{name}"), text.as_bytes(), 0o644)?;
        }
        for (name, text) in PEERS {
            server.put(&format!("/opt/peers/{name}"), text.as_bytes(), 0o755)?;
        }
        for (path, text) in &way.files {
            server.put(path, text.as_bytes(), 0o644)?;
        }
        server.sh(
            "mkdir -p /opt/packages /srv/hand/releases
             tar -x -f /opt/packages.tar -C /opt/packages
             python3 -m compileall -q /opt/packages /usr/lib/python3 >/dev/null || true
             useradd --system tenants
             sed -i 's/^var units = \\[/&\"web.service\", \"web.socket\", \"web@*.service\", \"nginx.service\",/' \\
                 /etc/polkit-1/rules.d/40-landfall-units.rules
             rm -f /etc/nginx/sites-enabled/default
             systemctl daemon-reload",
        )?;
        server.sh(&way.setup)?;
        server.sh("systemctl enable --now landfall-agent && systemctl restart landfall-agent")?;
        // The controller is another machine, and what it does is not on the way of a request.
        let space = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let controllers = space(&self.landfall.fleet.host(DEPLOY).init()?.to_string());
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if id.bytes().all(|byte| byte.is_ascii_digit()) && space(&id) == controllers {
                put_aside(&id)?;
            }
        }
        Ok(())
    }

    fn server(&self) -> &Host {
        self.landfall.fleet.host(SERVER)
    }
}

impl Place for Server {
    fn address(&self, port: u16) -> String {
        format!("{}:{port}", self.server().address())
    }

    fn release(&mut self) -> anyhow::Result<String> {
        let name = self.committed.pop().context("more releases than were committed")?;
        if let Err(error) =
            self.landfall.shell(&format!("chrt --other 0 nice --adjustment={ASIDE} ctl release {name} --yes"))
        {
            bail!("{error}\n{}", self.landfall.fleet.last_words());
        }
        Ok(name)
    }

    fn by_hand(&mut self, script: &str, restart: &str) -> anyhow::Result<String> {
        self.by_hand += 1;
        let name = format!("h{}", self.by_hand);
        if let Err(error) = self.server().sh(&format!("sh -e /opt/peers/{script} {name} {restart}")) {
            bail!("{error}\n{}", self.server().last_words());
        }
        Ok(name)
    }
}

fn git(tree: &Path, arguments: &[&str]) -> std::io::Result<()> {
    let output = Command::new("git").args(arguments).current_dir(tree).output()?;
    Said::from(output).expect_code(0).map(|_| ())
}
