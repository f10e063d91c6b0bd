//! The driver `supervisor` on the stage: a real supervisord, without root.

use std::path::Path;
use std::time::Duration;

use landfall_agent::drivers::DriverState;
use landfall_agent_core::drift::Finding;
use landfall_agent_core::drift::beside::Things;
use landfall_common::manifest::{Driver, ReloadSignal, Seat, Service, Supervised};

use crate::stage::{Behaviour, CODE, Stage, Traits, WORDS};
use crate::suite::{laws, tests_of_all_laws};
use crate::world::site::{SERVICE, Site, release_digest};
use crate::world::supervisor as supervisord;

const TRAITS: Traits = Traits {
    keeps_old: false,
    restarts_old: false,
    repeats: false,
    counts_restarts: true,
    sees_readiness: true,
    knows_release: true,
    knows_stopped: true,
};

pub fn service(site: &Site) -> Service {
    of(site, Supervised::Program { name: "web".to_owned() }, None)
}

fn of(site: &Site, target: Supervised, signal: Option<ReloadSignal>) -> Service {
    let driver = Driver::Supervisor {
        target,
        server: supervisord::socket(&site.root).to_string_lossy().into_owned(),
        signal,
        settle: Duration::from_millis(500),
        timeout: Duration::from_secs(30),
        slot: None,
    };
    Service { name: SERVICE.parse().unwrap(), driver, on: Default::default() }
}

/// Starts a supervisord with the program `web`; `more` is added to its section.
pub async fn start(site: &Site, more: &str) {
    start_in(site, "current", more).await;
}

async fn start_in(site: &Site, directory: &str, more: &str) {
    let root = site.root.display();
    let program = format!(
        "[program:web]\ncommand=sh run\ndirectory={root}/app/{directory}\nautostart=false\nautorestart=true\n\
         startsecs=1\nstartretries=1\nstopasgroup=true\nkillasgroup=true\nenvironment=SITE=\"{root}\"\n{more}"
    );
    supervisord::start(&site.root, &program).await;
}

async fn stage() -> Stage {
    let site = Site::new();
    start(&site, "").await;
    Stage { service: service(&site), site, traits: TRAITS }
}

laws!(tests_of_all_laws);

/// The program of a slot, which runs what the slot's link names, whatever `current` does.
mod slots {
    use super::*;

    fn seated(mut service: Service) -> Service {
        if let Driver::Supervisor { slot, .. } = &mut service.driver {
            *slot = Some(Seat { slot: "green".to_owned(), address: "127.0.0.1:8002".to_owned() });
        }
        service
    }

    async fn stage() -> Stage {
        let site = Site::new();
        start_in(&site, "slots/green", "").await;
        Stage { service: seated(service(&site)), site, traits: TRAITS }
    }

    laws!(tests_of_all_laws);

    #[tokio::test]
    async fn a_slot_is_told_its_release_and_its_address_and_forgets_them_when_it_is_left() {
        let stage = stage().await;
        let slots = stage.site.root.join("app/slots");
        for (attempt, release) in ["v1", "v2"].into_iter().enumerate() {
            stage.release(release, Behaviour::Serve);
            stage.expect(release, &format!("g{attempt}")).await;
            let link = std::fs::read_link(slots.join("green")).unwrap();
            assert_eq!(link, Path::new("../releases").join(release));
        }
        let text = std::fs::read_to_string(slots.join("green.env")).unwrap();
        let told = [
            "LANDFALL_RELEASE=v2",
            "LANDFALL_SLOT=green",
            "LANDFALL_ADDRESS=127.0.0.1:8002",
            "LANDFALL_PORT=8002",
        ];
        for line in told {
            assert!(text.lines().any(|known| known == line), "no {line} in {text}");
        }
        stage.site.deactivate(&stage.service).await.unwrap();
        assert_eq!(std::fs::read_dir(&slots).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_program_that_runs_current_instead_of_its_slot_is_noticed() {
        let site = Site::new();
        start(&site, "").await;
        let plain = Stage { service: service(&site), site, traits: TRAITS };
        plain.release("v1", Behaviour::Serve);
        plain.release("v2", Behaviour::Serve);
        plain.swap("v1");
        let stage = Stage { service: seated(service(&plain.site)), ..plain };
        let failure = stage.site.activate(&stage.service, "v2", "g1").await.unwrap_err();
        assert!(failure.reason.contains("was started in the directory of v1"), "{failure:?}");
        assert!(failure.reason.ends_with("app/slots/green"), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_two_is_renewed_one_after_the_other_and_never_has_none() {
    let site = Site::new();
    start(&site, "process_name=%(program_name)s_%(process_num)d\nnumprocs=2").await;
    let service = of(&site, Supervised::Group { name: "web".to_owned() }, None);
    let stage = Stage { service, site, traits: TRAITS };
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Serve);
    stage.release("v3", Behaviour::Crash);
    stage.expect("v1", "g1").await;
    stage.expect_running("v1", 2).await;
    let mut least = usize::MAX;
    {
        let mut renewal = std::pin::pin!(stage.activate("v2", "g2"));
        loop {
            tokio::select! {
                ended = &mut renewal => break ended.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(5)) => least = least.min(stage.running().len()),
            }
        }
    }
    assert_eq!(least, 1, "one at a time, and never none");
    stage.expect_running("v2", 2).await;
    // A bad release takes one of them and leaves the other.
    let failure = stage.activate("v3", "g3").await.unwrap_err();
    assert!(failure.reason.contains("web:web_0"), "{failure:?}");
    assert_eq!(stage.running(), ["v2"]);
    assert!(matches!(stage.state().await, DriverState::Failing { .. }));
    // The way back leaves alone what was not touched.
    let kept = stage.starts();
    stage.expect("v2", "g3-back").await;
    stage.expect_running("v2", 2).await;
    let starts = stage.starts();
    assert!(starts.starts_with(&kept) && starts.len() == kept.len() + 1, "{kept:?} {starts:?}");
}

/// On SIGHUP it goes to where `current` points now and runs the program there, as the same process.
const LOADS_ANEW: &str = r#"
trap 'cd "$SITE/app/current" && exec sh ./run' HUP
echo "$(basename "$(pwd -P)") $$" >>"$SITE/starts"
while :; do sleep 0.05 & wait $!; done
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_signal_nothing_is_stopped() {
    let site = Site::new();
    start(&site, "").await;
    let target = Supervised::Program { name: "web:web".to_owned() };
    let stage = Stage { service: of(&site, target, Some(ReloadSignal::Hup)), site, traits: TRAITS };
    for release in ["v1", "v2"] {
        stage.release(release, Behaviour::Serve);
        let run = stage.site.root.join(format!("app/releases/{release}/run"));
        std::fs::write(run, LOADS_ANEW).unwrap();
    }
    stage.release("v3", Behaviour::Crash);
    stage.expect("v1", "g1").await;
    stage.expect("v2", "g2").await;
    stage.expect("v2", "g2").await;
    let starts = stage.starts();
    assert_eq!(starts.iter().map(|(release, _)| release.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
    assert_eq!(starts[0].1, starts[1].1, "it is the same process");
    let state = stage.state().await;
    assert!(
        matches!(state, DriverState::Running { release: Some(told), restarts: 0, .. } if told == release_digest("v2")),
        "{state:?}"
    );
    let failure = stage.activate("v3", "g3").await.unwrap_err();
    assert!(failure.reason.contains("SIGHUP ended it"), "{failure:?}");
    assert!(failure.tail.iter().any(|line| line == WORDS), "{failure:?}");
    assert!(failure.exit_code.is_none_or(|code| code == CODE), "{failure:?}");
    stage.expect("v2", "g3-back").await;
    assert_eq!(stage.running(), ["v2"]);
    // Without a release, a reload is the same process, and a restart is not.
    let newest = |stage: &Stage| stage.starts().last().unwrap().clone();
    let (before, count) = (newest(&stage), stage.starts().len());
    stage.reload("v2", "g4").await.unwrap();
    stage.until("it has told of it", |_| stage.starts().len() == count + 1).await;
    assert_eq!(newest(&stage), before);
    stage.restart("v2", "g5").await.unwrap();
    assert_eq!(stage.starts().len(), count + 2);
    assert_ne!(newest(&stage), before);
    assert_eq!(stage.running(), ["v2"]);
}

#[tokio::test]
async fn what_cannot_be_asked_is_unknown_and_the_failure_says_what_to_do() {
    let site = Site::new();
    let stage = Stage { service: service(&site), site, traits: TRAITS };
    stage.release("v1", Behaviour::Serve);
    let failure = stage.activate("v1", "g1").await.unwrap_err();
    assert!(failure.reason.contains("Supervisor does not answer at"), "{failure:?}");
    assert!(matches!(stage.state().await, DriverState::Unknown { .. }));

    start(&stage.site, "").await;
    let unknown = of(&stage.site, Supervised::Program { name: "nope".to_owned() }, None);
    let stage = Stage { service: unknown, ..stage };
    let failure = stage.activate("v1", "g1").await.unwrap_err();
    assert!(failure.reason.contains("Supervisor knows no program \"nope\""), "{failure:?}");
    let DriverState::Unknown { reason } = stage.state().await else { panic!() };
    assert!(reason.contains("supervisorctl status"), "{reason}");
    stage.site.deactivate(&stage.service).await.unwrap();
}

#[tokio::test]
async fn a_program_that_names_a_release_instead_of_current_is_noticed() {
    let site = Site::new();
    start_in(&site, "releases/v1", "").await;
    let stage = Stage { service: service(&site), site, traits: TRAITS };
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Serve);
    stage.expect("v1", "g1").await;
    let failure = stage.activate("v2", "g2").await.unwrap_err();
    assert!(failure.reason.contains("was started in the directory of v1"), "{failure:?}");
}

#[tokio::test]
async fn a_process_that_still_runs_the_release_before_and_another_configuration_are_seen() {
    let stage = stage().await;
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Serve);
    stage.expect("v1", "g1").await;
    let seen = async |release: &'static str, applied: Option<&Things>| {
        let context = stage.site.context(release);
        let driver = landfall_agent::drivers::of(&stage.site.host, &stage.service, &context);
        driver.differs(release_digest(release), applied).await
    };
    let told = |found: &[Finding]| {
        let line = |f: &Finding| format!("{} {}: {}", f.kind, f.shown_path(), f.detail);
        found.iter().map(line).collect::<Vec<_>>()
    };
    let first = seen("v1", None).await.unwrap();
    assert_eq!((told(&first.findings), first.applied.len()), (vec![], 1));
    // Somebody, or an agent before this one, swapped `current` and never came to starting it anew.
    stage.swap("v2");
    let found = seen("v2", Some(&first.applied)).await.unwrap().findings;
    assert_eq!(told(&found), ["changed supervisor web:web: it runs in the directory of v1 instead of v2"]);
    assert!(found[0].remedy.by_hand().unwrap().contains("`supervisorctl restart web:web`"), "{found:?}");

    let root = &stage.site.root;
    let file = root.join("supervisord.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("command=sh run", "command=sh run --token=secret");
    std::fs::write(&file, text.replace("app/current", "app/releases/v1")).unwrap();
    assert!(supervisord::control(root, &["reread"]).contains("web: changed"));
    let found = told(&seen("v1", Some(&first.applied)).await.unwrap().findings);
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = "changed supervisor web:web: command is another; directory is";
    assert!(found[0].starts_with(expected) && !found[0].contains("secret"), "{found:?}");
    // Whoever cannot be asked has said nothing.
    supervisord::control(root, &["shutdown"]);
    for _ in 0..6_000 {
        if seen("v1", Some(&first.applied)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("Supervisor still answers");
}
