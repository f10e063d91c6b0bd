//! The driver `systemd` on the stage: real units on a test host, asked by an agent that is not root and has
//! nothing but the polkit rules of `deploy/`.
//!
//! The test boots a host, installs the units as its administrator would, and runs this same binary there in
//! the agent's own unit, with its user and its sandbox, once for each kind of unit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::drivers::DriverState;
use landfall_common::manifest::{Driver, Renewal, Seat, Service, Unit};
use landfall_hosts::fleet::Plan;
use landfall_hosts::host::Host;

use crate::stage::{Behaviour, Stage, Traits};
use crate::suite::{self, laws};
use crate::world::load::Load;
use crate::world::site::{SERVICE, Site};

/// Says to this binary which kind it is to try, on the host.
const CASE: &str = "LANDFALL_DRIVER_CASE";
const ROOT: &str = "/srv/drivers";
const ADDRESS: &str = "127.0.0.1:8000";

/// A kind of unit.
struct Case {
    name: &'static str,
    /// Units by file name; `ROOT` is the case's directory, `SERVER` a program that answers HTTP.
    units: &'static [(&'static str, &'static str)],
    /// What the agent may act on.
    listed: &'static [&'static str],
    work: Work,
}

/// What is tried of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Laws,
    /// Requests, of which none may fail.
    Load,
    /// What is told when something is wrong.
    Wrong,
}

const CASES: &[Case] = &[
    // It says nothing of being ready, and is started again by systemd.
    Case {
        name: "fixed",
        units: &[(
            "drv-fixed.service",
            "[Service]\nType=exec\nUser=landfall\nWorkingDirectory=ROOT/app/current\nExecStart=/bin/sh run\n\
             Restart=always\nTimeoutStopSec=5s\n",
        )],
        listed: &["drv-fixed.service"],
        work: Work::Laws,
    },
    // It says that it is ready. Nobody may look at its processes.
    Case {
        name: "notify",
        units: &[(
            "drv-notify.service",
            "[Service]\nType=notify\nNotifyAccess=all\nUser=landfall\nWorkingDirectory=ROOT/app/current\n\
             ExecStart=/bin/sh run\nRestart=on-failure\nTimeoutStopSec=5s\n",
        )],
        listed: &["drv-notify.service"],
        work: Work::Laws,
    },
    Case {
        name: "slots",
        units: &[(
            "drv-slots@.service",
            "[Service]\nType=exec\nUser=landfall\nWorkingDirectory=ROOT/app/current\nExecStart=/bin/sh run\n\
             Restart=always\nTimeoutStopSec=5s\n",
        )],
        listed: &["drv-slots@*.service"],
        work: Work::Laws,
    },
    Case {
        name: "releases",
        units: &[(
            "drv-releases@.service",
            "[Service]\nType=notify\nNotifyAccess=all\nUser=landfall\n\
             WorkingDirectory=ROOT/app/releases/%I\nExecStart=/bin/sh run\nRestart=on-failure\nTimeoutStopSec=5s\n",
        )],
        listed: &["drv-releases@*.service"],
        work: Work::Laws,
    },
    // One instance of two, behind a proxy: its link and its file say what it runs and where.
    Case {
        name: "seat",
        units: &[(
            "drv-seat@.service",
            "[Service]\nType=notify\nNotifyAccess=all\nUser=landfall\nWorkingDirectory=ROOT/app/slots/%i\n\
             EnvironmentFile=ROOT/app/slots/%i.env\n\
             ExecStart=/bin/sh -c '[ \"$LANDFALL_ADDRESS $LANDFALL_SLOT\" = \"127.0.0.1:8002 %i\" ] && exec /bin/sh run'\n\
             Restart=on-failure\nTimeoutStopSec=5s\n",
        )],
        listed: &["drv-seat@*.service"],
        work: Work::Laws,
    },
    Case {
        name: "load-releases",
        units: &[
            (
                "drv-load@.service",
                "[Service]\nType=notify\nUser=landfall\nSockets=drv-load.socket\n\
                 Environment=LANDFALL_RELEASE=%I\nExecStart=SERVER notify=yes start_ms=200\nTimeoutStopSec=20s\n",
            ),
            (
                "drv-load.socket",
                "[Socket]\nListenStream=127.0.0.1:8000\nBacklog=1024\nService=drv-load@none.service\n",
            ),
        ],
        listed: &["drv-load@*.service", "drv-load.socket"],
        work: Work::Load,
    },
    Case {
        name: "load-fixed",
        units: &[
            (
                "drv-load1.service",
                "[Service]\nType=notify\nUser=landfall\nSockets=drv-load1.socket\n\
                 WorkingDirectory=ROOT/app/current\nEnvironmentFile=ROOT/app/current/environment\n\
                 ExecStart=SERVER notify=yes start_ms=200\nTimeoutStopSec=20s\n",
            ),
            ("drv-load1.socket", "[Socket]\nListenStream=127.0.0.1:8000\nBacklog=1024\n"),
        ],
        listed: &["drv-load1.service", "drv-load1.socket"],
        work: Work::Load,
    },
    Case {
        name: "wrong",
        units: &[
            ("drv-unlisted.service", "[Service]\nExecStart=/bin/sleep 1000000\n"),
            (
                "drv-pinned.service",
                "[Service]\nType=exec\nUser=landfall\nWorkingDirectory=ROOT/app/releases/v1\nExecStart=/bin/sh run\n",
            ),
            (
                "drv-reload.service",
                "[Service]\nType=exec\nUser=landfall\nWorkingDirectory=ROOT/app/current\nExecStart=/bin/sh run\n\
                 ExecReload=/bin/sh -c 'echo cannot reload >&2; exit 7'\n",
            ),
        ],
        listed: &["drv-pinned.service", "drv-missing.service", "drv-reload.service"],
        work: Work::Wrong,
    },
];

#[test]
fn on_a_host_units_keep_every_law_of_the_drivers() {
    let program = std::env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    let fleet = Plan::new().host("web-1").share(directory, "/programs").boot().unwrap();
    let host = fleet.host("web-1");
    let program = format!("/programs/{}", program.file_name().unwrap().to_string_lossy());
    prepare(host, &program);
    for case in CASES {
        let unit = format!("drv-agent@{}.service", case.name);
        let said = host.exec(&["systemctl", "start", &unit]).unwrap();
        let journal = host.sh(&format!("journalctl --no-pager -o cat -u {unit}")).unwrap();
        assert_eq!(said.code, 0, "{}:\n{journal}\n{}", case.name, host.last_words());
        assert!(journal.contains("1 passed"), "{}: {journal}", case.name);
    }
}

/// Runs this binary instead of the agent, to its end.
const INSTEAD: &str = "[Unit]\nConditionPathExists=\n[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\n\
    KillMode=control-group\nTimeoutStartSec=infinity\nEnvironment=RUST_BACKTRACE=0\n\
    Environment=LANDFALL_DRIVER_CASE=%i\nExecStart=\n\
    ExecStart=PROGRAM --exact systemd::inside_a_host --nocapture\n";

/// What an administrator does.
fn prepare(host: &Host, program: &str) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy");
    let copy = |from: &str, to: &str| {
        host.put(to, &std::fs::read(deploy.join(from)).unwrap(), 0o644).unwrap();
    };
    copy("systemd/sysusers.d/landfall-agent.conf", "/usr/lib/sysusers.d/landfall-agent.conf");
    copy("systemd/system/landfall-agent.service", "/etc/systemd/system/drv-agent@.service");
    let instead = INSTEAD.replace("PROGRAM", program);
    host.put("/etc/systemd/system/drv-agent@.service.d/test.conf", instead.as_bytes(), 0o644).unwrap();
    host.sh("systemd-sysusers").unwrap();
    let listed: Vec<_> = CASES.iter().flat_map(|case| case.listed).map(|unit| format!("{unit:?},")).collect();
    for name in ["40-landfall-units.rules", "50-landfall.rules"] {
        let text = std::fs::read_to_string(deploy.join("polkit").join(name)).unwrap();
        let text = text.replacen("var units = [", &format!("var units = [{}", listed.join(" ")), 1);
        host.put(&format!("/etc/polkit-1/rules.d/{name}"), text.as_bytes(), 0o644).unwrap();
    }
    for case in CASES {
        let root = format!("{ROOT}/{}", case.name);
        host.sh(&format!("install -d -o landfall {root}")).unwrap();
        for (name, text) in case.units {
            let text = text.replace("ROOT", &root);
            let text = text.replace("SERVER", &format!("{program} {} serve", crate::world::roles::MARK));
            host.put(&format!("/etc/systemd/system/{name}"), text.as_bytes(), 0o644).unwrap();
        }
    }
    host.sh("systemctl daemon-reload; systemctl restart polkit").unwrap();
}

/// On the host, as the agent's user; anywhere else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_host() {
    let Ok(name) = std::env::var(CASE) else { return };
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    match case.work {
        Work::Laws => every_law(case).await,
        Work::Load => no_request_fails(case).await,
        Work::Wrong => what_is_wrong_is_told(case).await,
    }
}

fn stage_of(case: &Case, unit: Unit, socket: Option<&str>) -> Stage {
    let root = PathBuf::from(ROOT).join(case.name);
    for entry in std::fs::read_dir(&root).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    let is_fixed = matches!(unit, Unit::Fixed { .. });
    let driver = Driver::Systemd {
        unit,
        socket: socket.map(str::to_owned),
        settle: Duration::from_millis(700),
        timeout: Duration::from_secs(40),
        slot: (case.name == "seat")
            .then(|| Seat { slot: "green".to_owned(), address: "127.0.0.1:8002".to_owned() }),
    };
    let traits = Traits {
        keeps_old: !is_fixed,
        restarts_old: false,
        repeats: false,
        counts_restarts: true,
        sees_readiness: matches!(case.name, "notify" | "releases" | "seat"),
        knows_release: true,
        knows_stopped: true,
    };
    Stage {
        site: Site::at(&root),
        service: Service { name: SERVICE.parse().unwrap(), driver, on: Default::default() },
        traits,
    }
}

fn unit(case: &Case) -> Unit {
    match case.name {
        "fixed" | "notify" => {
            Unit::Fixed { name: format!("drv-{}.service", case.name), how: Renewal::Restart }
        }
        "seat" => Unit::Fixed { name: "drv-seat@green.service".to_owned(), how: Renewal::Restart },
        "load-fixed" => Unit::Fixed { name: "drv-load1.service".to_owned(), how: Renewal::Restart },
        "slots" => Unit::Slots { template: "drv-slots@.service".to_owned() },
        "releases" => Unit::Releases { template: "drv-releases@.service".to_owned() },
        _ => Unit::Releases { template: "drv-load@.service".to_owned() },
    }
}

async fn every_law(case: &Case) {
    macro_rules! one_after_the_other {
        ($($law:ident)*) => {
            $(
                eprintln!("{}: {}", case.name, stringify!($law));
                let stage = stage_of(case, unit(case), None);
                suite::$law(&stage).await;
                stage.site.deactivate(&stage.service).await.unwrap();
            )*
        };
    }
    laws!(one_after_the_other);
}

async fn no_request_fails(case: &Case) {
    let socket = if case.name == "load-fixed" { "drv-load1.socket" } else { "drv-load.socket" };
    let stage = stage_of(case, unit(case), Some(socket));
    let release = |name: &str| {
        stage.release(name, Behaviour::Serve);
        let file = stage.site.root.join(format!("app/releases/{name}/environment"));
        std::fs::write(file, format!("LANDFALL_RELEASE={name}\n")).unwrap();
    };
    release("v1");
    stage.expect("v1", "g1").await;
    let load = Load::start(ADDRESS);
    load.more(100).await;
    for number in 2..=5 {
        let name = format!("v{number}-rc");
        release(&name);
        stage.expect(&name, &format!("g{number}")).await;
        load.more(100).await;
    }
    let told = load.stop().await;
    assert_eq!(told.failed, Vec::<String>::new(), "of {:?}", told.answered);
    assert_eq!(told.answered.len(), 5, "{:?}", told.answered);
    stage.site.deactivate(&stage.service).await.unwrap();
    assert!(std::net::TcpStream::connect(ADDRESS).is_err(), "the socket still listens");
}

async fn what_is_wrong_is_told(case: &Case) {
    let fixed = |name: &str, how| Unit::Fixed { name: name.to_owned(), how };
    let first = |name: &str, how| {
        let stage = stage_of(case, fixed(name, how), None);
        stage.release("v1", Behaviour::Serve);
        stage.release("v2", Behaviour::Serve);
        stage
    };

    let denied = first("drv-unlisted.service", Renewal::Restart);
    let failure = denied.activate("v1", "g1").await.unwrap_err();
    for part in
        ["polkit does not let", "drv-unlisted.service", "/etc/polkit-1/rules.d/40-landfall-units.rules"]
    {
        assert!(failure.reason.contains(part), "{failure:?}");
    }
    assert_eq!(denied.state().await, DriverState::Stopped);

    let missing = first("drv-missing.service", Renewal::Restart);
    let failure = missing.activate("v1", "g1").await.unwrap_err();
    assert!(failure.reason.contains("systemd knows no drv-missing.service"), "{failure:?}");
    let state = missing.state().await;
    assert!(matches!(state, DriverState::Unknown { .. }), "{state:?}");
    missing.site.deactivate(&missing.service).await.unwrap();

    let pinned = first("drv-pinned.service", Renewal::Restart);
    pinned.expect("v1", "g1").await;
    let failure = pinned.activate("v2", "g2").await.unwrap_err();
    assert!(failure.reason.contains("was started in the directory of v1"), "{failure:?}");
    pinned.site.deactivate(&pinned.service).await.unwrap();

    let reload = first("drv-reload.service", Renewal::Reload);
    reload.expect("v1", "g1").await;
    let failure = reload.activate("v2", "g2").await.unwrap_err();
    assert!(failure.reason.contains("could not reload"), "{failure:?}");
    assert!(failure.tail.iter().any(|line| line == "cannot reload"), "{failure:?}");
    assert_eq!(reload.running(), ["v1"]);
    reload.site.deactivate(&reload.service).await.unwrap();
}
