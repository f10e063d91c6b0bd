//! The driver `exec` on the stage, with commands as a careful person writes them.

use std::time::Duration;

use landfall_common::manifest::{Driver, Service, Step};

use crate::stage::{Stage, Traits};
use crate::suite::{laws, tests_of_all_laws};
use crate::world::site::{SERVICE, Site};

const STOP: &str = r#"
cd "$1"
if [ -s pid ] && kill -0 "$(cat pid)" 2>/dev/null; then
    kill "$(cat pid)"
    while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.02; done
fi
rm -f pid
"#;

/// The lock is held until the old process has gone and the new one has written its id, even if this script is
/// killed before: what it has started goes on without it. It ends once the program tells of its start, or is gone.
const RESTART: &str = r#"
cd "$1"
exec 9>lock
flock 9
sh ./stop.sh "$1"
setsid sh -c 'echo $$ >pid; exec 9>&-; cd app/current; exec sh ./run' >/dev/null 2>words </dev/null &
while kill -0 $! 2>/dev/null; do
    grep -q " $!\$" starts 2>/dev/null && exit 0
    sleep 0.02
done
cat words >&2
wait $!
"#;

const STATUS: &str = r#"test -s "$1/pid" && kill -0 "$(cat "$1/pid")""#;

/// The service, with its commands written to the site.
pub fn service(site: &Site) -> Service {
    let step = |name: &str, script: &str| {
        let file = site.root.join(format!("{name}.sh"));
        std::fs::write(&file, script).unwrap();
        let command = ["sh".into(), file.to_string_lossy().into_owned(), site.root.display().to_string()];
        Step {
            name: name.parse().unwrap(),
            command: command.to_vec(),
            environment: Default::default(),
            timeout: Duration::from_secs(30),
            network: None,
        }
    };
    let driver = Driver::Exec {
        restart: step("restart", RESTART),
        stop: Some(step("stop", STOP)),
        status: Some(step("status", STATUS)),
    };
    Service { name: SERVICE.parse().unwrap(), driver, on: Default::default() }
}

async fn stage() -> Stage {
    let site = Site::new();
    let traits = Traits {
        keeps_old: false,
        restarts_old: false,
        repeats: true,
        counts_restarts: false,
        sees_readiness: false,
        knows_release: false,
        knows_stopped: false,
    };
    Stage { service: service(&site), site, traits }
}

laws!(tests_of_all_laws);
