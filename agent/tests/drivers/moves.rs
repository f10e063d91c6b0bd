//! A service that a release gives to another driver, and the way back.

use crate::stage::{Behaviour, Stage, Traits};
use crate::world::site::Site;
use crate::{exec, process, supervisor};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_moves_leaves_nothing_behind() {
    let site = Site::new();
    let services = [process::service(), exec::service(&site), supervisor::service(&site)];
    supervisor::start(&site, "").await;
    let traits = Traits {
        keeps_old: false,
        restarts_old: false,
        repeats: false,
        counts_restarts: false,
        sees_readiness: false,
        knows_release: false,
        knows_stopped: false,
    };
    let mut stage = Stage { service: process::service(), site, traits };
    for (number, to) in [0, 1, 2, 1, 0, 2, 0].into_iter().enumerate() {
        let release = format!("v{number}");
        stage.release(&release, Behaviour::Serve);
        stage.service = services[to].clone();
        stage.expect(&release, &format!("g{number}")).await;
        stage.expect_running(&release, 1).await;
    }
    // One that fails where it goes, and is put back where it was.
    stage.release("bad", Behaviour::Crash);
    stage.service = services[2].clone();
    stage.activate("bad", "g-bad").await.unwrap_err();
    stage.service = services[0].clone();
    stage.expect("v6", "g-back").await;
    stage.expect_running("v6", 1).await;
    stage.site.deactivate(&stage.service).await.unwrap();
    assert!(stage.running().is_empty());
}
