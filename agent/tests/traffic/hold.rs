//! A service that may not run twice and takes two seconds to start, behind an nginx that knows nothing of releases:
//! requests wait on the socket that its holder keeps.

use std::time::Duration;

use landfall_proto::v1::OutcomeKind;

use crate::host::{Host, Plan, ask, free_ports};
use crate::load::{Counts, Load};
use crate::nginx::{Nginx, more};

const START: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(30);

struct Scene {
    /// Its files are in the host's directory, which is to go after it.
    _nginx: Nginx,
    host: Host,
    port: u16,
    /// Says to each process that no other may run beside it.
    alone: &'static str,
}

impl Scene {
    async fn new() -> Self {
        let [port, answer, blue, green] = free_ports();
        let directory = tempfile::tempdir().unwrap();
        let alone = format!("alone={}", directory.path().join("alone").display());
        let nginx = Nginx::before(directory.path(), port, blue);
        let host = Host::new(directory, &nginx.settings(answer), blue, green).await;
        Self { host, _nginx: nginx, port, alone: alone.leak() }
    }

    fn plan(&self, name: &'static str, more: &[&'static str]) -> Plan {
        let arguments = [&["notify=yes", self.alone], more].concat();
        Plan { arguments, hold: Some(HOLD), ..Plan::new(name) }
    }

    /// Half as fast as elsewhere: many of them wait at the same time.
    fn load(&self) -> Load {
        Load::start(vec![format!("127.0.0.1:{}", self.port)], "/", 50).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_while_one_that_cannot_run_twice_is_replaced() {
    let mut scene = Scene::new().await;
    let slow = ["start_ms=2000"];
    let v1 = scene.plan("v1", &slow);
    let v1 = scene.host.publish(&v1, 1);
    scene.host.activate(&v1).await;
    assert_eq!(ask(scene.port).0, "v1");

    let mut all = Counts::default();
    let load = scene.load();
    more(&load, &mut all, 50).await;
    let v2 = scene.plan("v2", &slow);
    let v2 = scene.host.publish(&v2, 2);
    for (name, release) in [("v2", &v2), ("v1", &v1)] {
        scene.host.activate(release).await;
        assert_eq!(ask(scene.port).0, name);
        more(&load, &mut all, 50).await;
    }
    // An agent that is killed on the way; each time a little later.
    for (at, name) in ["v3", "v4", "v5"].into_iter().enumerate() {
        let plan = scene.plan(name, &slow);
        let release = scene.host.publish(&plan, at as u64 + 3);
        let generation = scene.host.order(&release);
        tokio::time::sleep(Duration::from_millis(700 * (at as u64 + 1))).await;
        scene.host.kill().await;
        scene.host.start();
        scene.host.ends(generation, OutcomeKind::Committed).await;
        assert_eq!(ask(scene.port).0, name);
        more(&load, &mut all, 50).await;
    }
    // One that cannot start: what served before is started again, and requests wait for that.
    let bad = scene.plan("v6", &["exit=3"]);
    let bad = scene.host.publish(&bad, 6);
    let generation = scene.host.order(&bad);
    let report = scene.host.ends(generation, OutcomeKind::Reverted).await;
    assert_eq!(report.outcome.unwrap().failure.unwrap().exit_code, Some(3));
    assert_eq!(ask(scene.port).0, "v5");
    more(&load, &mut all, 50).await;

    all.add(&load.stop());
    assert_eq!((all.failed, &all.failures[..]), (0, &[][..]), "{} sent", all.sent);
    let (longest, usual) = (all.latency(1.0), all.latency(0.5));
    assert!(longest < HOLD, "a request waited for {longest:?}");
    assert!(longest >= START / 2, "no request has waited: {longest:?}");
    println!(
        "{} requests, none failed; the longest wait {longest:?}, half of them below {usual:?}",
        all.sent
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_have_waited_for_as_long_as_they_may_are_refused_and_the_release_goes_back() {
    let mut scene = Scene::new().await;
    let v1 = scene.plan("v1", &[]);
    let v1 = scene.host.publish(&v1, 1);
    scene.host.activate(&v1).await;
    let mut all = Counts::default();
    let load = scene.load();
    more(&load, &mut all, 20).await;
    assert_eq!(all.failed, 0, "{:?}", all.failures);
    // Never ready in its time, and deaf until it is killed.
    let late = Plan { hold: Some(Duration::from_secs(1)), ..scene.plan("v2", &["start_ms=600000"]) };
    let late = scene.host.publish(&late, 2);
    let generation = scene.host.order(&late);
    let report = scene.host.ends(generation, OutcomeKind::Reverted).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("within the 1s for which connections are held"), "{failure:?}");
    more(&load, &mut all, 20).await;
    let during = all.failed;
    assert!(during > 0, "they were held for longer than they may be: {:?}", all.latency(1.0));
    assert!(all.failures.iter().all(|failure| !failure.contains("no answer")), "{:?}", all.failures);
    // From here on it serves as before.
    let mut after = Counts::default();
    more(&load, &mut after, 20).await;
    after.add(&load.stop());
    assert_eq!(after.failed, 0, "{:?}", after.failures);
    assert_eq!(ask(scene.port).0, "v1");
}
