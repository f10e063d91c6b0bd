//! What every driver must do. Each law takes a stage on which nothing has run yet.

use std::time::Duration;

use landfall_agent::drivers::DriverState;
use tokio_util::sync::CancellationToken;

use crate::stage::{Behaviour, CODE, Stage, WORDS};

/// When an agent is killed, in milliseconds after its start, wherever that finds it.
const MOMENTS_MS: [u64; 8] = [0, 2, 8, 20, 60, 150, 400, 900];

pub async fn a_release_is_made_to_run_and_asking_again_changes_nothing(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.expect("v1", "g1").await;
    stage.expect_running("v1", 1).await;
    let before = stage.starts();
    for attempt in ["g1", "g1", "g2"] {
        stage.expect("v1", attempt).await;
    }
    stage.expect_running("v1", 1).await;
    if !stage.traits.repeats {
        assert_eq!(stage.starts(), before);
    }
}

pub async fn a_new_release_replaces_the_old_one_and_so_does_the_way_back(stage: &Stage) {
    for release in ["v1", "v2", "v3-rc.1"] {
        stage.release(release, Behaviour::Serve);
    }
    for (number, release) in ["v1", "v2", "v3-rc.1", "v2", "v1"].into_iter().enumerate() {
        stage.expect(release, &format!("g{number}")).await;
        stage.expect_running(release, 1).await;
    }
}

pub async fn a_release_that_ends_at_its_start_fails_with_its_code_and_its_last_words(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Crash);
    stage.expect("v1", "g1").await;
    let before = stage.starts();
    let failure = stage.activate("v2", "g2").await.unwrap_err();
    assert_eq!(failure.exit_code, Some(CODE), "{failure:?}");
    assert!(failure.tail.iter().any(|line| line == WORDS), "{failure:?}");
    // The same attempt has failed, whoever asks; another one tries again.
    for attempt in ["g2", "g3"] {
        let again = stage.activate("v2", attempt).await.unwrap_err();
        assert_eq!((again.exit_code, again.step), (Some(CODE), failure.step.clone()));
    }
    if stage.traits.keeps_old {
        stage.expect_running("v1", 1).await;
    } else if stage.traits.restarts_old {
        stage.until_running("v1").await;
        stage.expect_running("v1", 1).await;
    } else {
        assert!(stage.running().is_empty(), "{:?}", stage.starts());
        stage.until("failing", |state| matches!(state, DriverState::Failing { .. })).await;
    }
    stage.expect("v1", "g2-back").await;
    stage.expect_running("v1", 1).await;
    if stage.traits.keeps_old {
        assert_eq!(stage.starts(), before, "what ran all the time was started again");
    }
    // The bad one is mended under another name.
    stage.release("v4", Behaviour::Serve);
    stage.expect("v4", "g4").await;
    stage.expect_running("v4", 1).await;
}

pub async fn a_restart_replaces_what_runs_once_for_each_intent(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.expect("v1", "g1").await;
    let count = stage.running().len();
    for attempt in ["g2", "g3"] {
        let before = stage.starts();
        stage.restart("v1", attempt).await.unwrap();
        stage.expect_running("v1", count).await;
        let after = stage.starts();
        assert_eq!(after.len(), before.len() + count, "{after:?}");
        if !stage.traits.repeats {
            stage.restart("v1", attempt).await.unwrap();
            assert_eq!(stage.starts(), after, "what was restarted is restarted again");
        }
    }
    // It goes on with releases as if nothing had been.
    stage.release("v2", Behaviour::Serve);
    stage.expect("v2", "g4").await;
    stage.expect_running("v2", count).await;
    stage.expect("v1", "g4-back").await;
    stage.expect_running("v1", count).await;
}

pub async fn what_is_stopped_twice_has_stopped(stage: &Stage) {
    let is_stopped = |state: &DriverState| match state {
        DriverState::Stopped => true,
        DriverState::Failing { .. } => !stage.traits.knows_stopped,
        _ => false,
    };
    stage.release("v1", Behaviour::Serve);
    stage.until("stopped before the first start", is_stopped).await;
    for attempt in ["g1", "g2"] {
        stage.expect("v1", attempt).await;
        stage.expect_running("v1", 1).await;
        for _ in 0..2 {
            stage.site.deactivate(&stage.service).await.unwrap();
            assert!(stage.running().is_empty(), "{:?}", stage.starts());
            stage.until("stopped", is_stopped).await;
        }
    }
}

pub async fn one_that_is_not_ready_yet_is_starting(stage: &Stage) {
    stage.release("v1", Behaviour::Slow);
    let activation = stage.activate("v1", "g1");
    let starting = stage.until("starting", |state| *state == DriverState::Starting);
    if stage.traits.sees_readiness {
        let (ended, _) = tokio::join!(activation, starting);
        ended.unwrap();
    } else {
        activation.await.unwrap();
    }
    stage.expect_running("v1", 1).await;
}

pub async fn an_activation_that_is_not_wanted_any_more_ends_and_can_be_asked_for_again(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Slow);
    stage.expect("v1", "g1").await;
    let unwanted = CancellationToken::new();
    unwanted.cancel();
    let failure = stage.activate_until("v2", unwanted).await.unwrap_err();
    assert!(failure.reason.contains("cancelled"), "{failure:?}");
    let later = CancellationToken::new();
    let started = stage.starts().len();
    let cancelling = async {
        while stage.starts().len() == started {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        later.cancel();
    };
    // In the middle, or just too late: either way it is told, and the next one finishes it.
    let (_, ended) = tokio::join!(cancelling, stage.activate_until("v2", later.clone()));
    if let Err(failure) = ended {
        assert!(failure.reason.contains("cancelled"), "{failure:?}");
    }
    stage.expect("v2", "cancelled").await;
    stage.expect_running("v2", 1).await;
}

pub async fn an_agent_that_is_killed_in_the_middle_and_asks_again_finishes_it(stage: &Stage) {
    stage.release("v0", Behaviour::Serve);
    stage.expect("v0", "g0").await;
    for (number, ms) in MOMENTS_MS.into_iter().enumerate() {
        let (release, attempt) = (format!("v{}", number + 1), format!("g{}", number + 1));
        stage.release(&release, Behaviour::Serve);
        let mut agent = stage.agent(&release, &attempt);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        agent.kill();
        let result = stage.agent(&release, &attempt).result().await;
        assert_eq!(result, "ok", "killed after {ms} ms; starts: {:?}", stage.starts());
        stage.expect_running(&release, 1).await;
        if !stage.traits.repeats {
            let starts = stage.starts();
            let count = starts.iter().filter(|(started, _)| *started == release).count();
            assert_eq!(count, 1, "killed after {ms} ms, it was started {count} times");
        }
    }
}

pub async fn an_agent_that_is_killed_while_the_new_one_fails_is_told_how_it_ended(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.release("v2", Behaviour::Crash);
    for (number, ms) in MOMENTS_MS.into_iter().enumerate() {
        stage.expect("v1", &format!("g{number}-back")).await;
        let attempt = format!("g{number}");
        let mut agent = stage.agent("v2", &attempt);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        agent.kill();
        let result = stage.agent("v2", &attempt).result().await;
        assert!(result.contains("Some(3)") && result.contains(WORDS), "killed after {ms} ms: {result}");
    }
    stage.expect("v1", "back").await;
    stage.expect_running("v1", 1).await;
}

pub async fn what_ends_by_itself_is_started_again_and_counted(stage: &Stage) {
    stage.release("v1", Behaviour::Serve);
    stage.expect("v1", "g1").await;
    stage.expect_seen(&stage.state().await);
    if !stage.traits.counts_restarts {
        return;
    }
    let restarts = |state: &DriverState| match state {
        DriverState::Running { restarts, .. } => Some(*restarts),
        _ => None,
    };
    assert_eq!(restarts(&stage.state().await), Some(0));
    let starts = stage.starts().len();
    let (_, pid) = stage.starts().pop().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    stage.until("counted", |state| restarts(state).is_some_and(|count| count > 0)).await;
    assert!(stage.starts().len() > starts);
    // Another release is counted from the beginning.
    stage.release("v2", Behaviour::Serve);
    stage.expect("v2", "g2").await;
    assert_eq!(restarts(&stage.state().await), Some(0));
}

/// Every law, by name.
macro_rules! laws {
    ($with:ident) => {
        $with! {
            a_release_is_made_to_run_and_asking_again_changes_nothing
            a_new_release_replaces_the_old_one_and_so_does_the_way_back
            a_release_that_ends_at_its_start_fails_with_its_code_and_its_last_words
            what_is_stopped_twice_has_stopped
            one_that_is_not_ready_yet_is_starting
            an_activation_that_is_not_wanted_any_more_ends_and_can_be_asked_for_again
            an_agent_that_is_killed_in_the_middle_and_asks_again_finishes_it
            an_agent_that_is_killed_while_the_new_one_fails_is_told_how_it_ended
            what_ends_by_itself_is_started_again_and_counted
            a_restart_replaces_what_runs_once_for_each_intent
        }
    };
}

/// A test for each law, with the stage that `stage()` of the module sets up.
macro_rules! tests_of_all_laws {
    ($($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                crate::suite::$law(&stage().await).await;
            }
        )*
    };
}

pub(crate) use {laws, tests_of_all_laws};
