use super::live;
use super::*;
use crate::view::{Batch, Failure, HostState, Progress, Rollout, Status};

fn host(name: &str, progress: Progress, detail: &str) -> HostState {
    let (host, detail) = (name.into(), detail.into());
    HostState { host, progress, detail, failure: None, done_bytes: 0, total_bytes: 0, touched: false }
}

fn fetching(name: &str, done_mib: u64, total_mib: u64) -> HostState {
    let (done_bytes, total_bytes) = (done_mib << 20, total_mib << 20);
    HostState { done_bytes, total_bytes, ..host(name, Progress::Staging, "fetching, 40 %") }
}

pub(crate) fn rollout() -> Rollout {
    let many = (1..=18).map(|n| host(&format!("web-{n:02}"), Progress::Committed, ""));
    let batch = many.chain([host("web-19", Progress::Proving, "healthy for 4 s of 10 s")]).collect();
    Rollout {
        id: "r-7".into(),
        application: "tenants".into(),
        environment: "production".into(),
        from: Some("v1.3".into()),
        to: "v1.4".into(),
        to_digest: "00".into(),
        status: Status::Running,
        reasons: vec!["batch 2 waits: web-19 healthy for 4 s of 10 s".into()],
        batches: vec![
            Batch {
                number: 1,
                canary: true,
                group: String::new(),
                hosts: vec![host("db-1", Progress::Activating, "activating: restart-web")],
            },
            Batch { number: 2, canary: false, group: String::new(), hosts: batch },
        ],
        started_by: "ana".into(),
        started: Some("2026-11-21T16:00:00Z".parse().unwrap()),
        ended: None,
        changes: vec![],
        is_rollback: false,
        is_drill: false,
        restart: None,
        in_line: false,
        analysis: None,
        left_out: vec![],
        gates: vec![],
        migration: String::new(),
        approvals: None,
    }
}

#[test]
fn a_rollout_is_one_line_per_batch_with_healthy_hosts_folded() {
    let rollout = rollout();
    let now = "2026-11-21T16:01:12Z".parse().unwrap();
    let lines = rollout.batches.iter().map(live::batch_line);
    let text: Vec<String> = std::iter::once(live::head(&rollout, now)).chain(lines).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    v1.3 -> v1.4, tenants in production: running, 1m 12s; batch 2 waits: web-19 healthy for 4 s of 10 s
      canary   db-1 activating: restart-web
      batch 2  18 ok, web-19 proving: healthy for 4 s of 10 s
    "#);
}

#[test]
fn staging_shows_bytes() {
    let mut rollout = rollout();
    rollout.status = Status::Staging;
    rollout.reasons = vec!["staging: 2 of 8 hosts are ready".into()];
    let many = (3..=8).map(|n| fetching(&format!("web-{n}"), 10 * n, 100));
    rollout.batches = vec![
        Batch { number: 1, canary: true, group: String::new(), hosts: vec![fetching("web-1", 34, 120)] },
        Batch {
            number: 2,
            canary: false,
            group: String::new(),
            hosts: many.chain([host("web-2", Progress::Staging, "preparing: venv")]).collect(),
        },
    ];
    let now = "2026-11-21T16:00:12Z".parse().unwrap();
    let lines = rollout.batches.iter().map(live::batch_line);
    let text: Vec<String> = std::iter::once(live::head(&rollout, now)).chain(lines).collect();
    insta::assert_snapshot!(text.join("\n"), @"
    v1.3 -> v1.4, tenants in production: staging, 12s; fetched 364 MiB of 720 MiB; staging: 2 of 8 hosts are ready
      canary   web-1 fetching 34.0 MiB of 120 MiB
      batch 2  6 fetching 330 MiB of 600 MiB, web-2 staging: preparing: venv
    ");
    insta::assert_snapshot!(live::heartbeat(&rollout, now), @"2026-11-21 16:00:12  v1.4 staging: fetched 364 MiB of 720 MiB; staging: 2 of 8 hosts are ready");
}

#[test]
fn a_failure_shows_step_exit_code_last_lines_and_the_next_command() {
    let mut failed = host("web-3", Progress::Reverted, "");
    failed.failure = Some(Failure {
        step: "front-page".into(),
        reason: "it exited with 1".into(),
        exit_code: Some(1),
        tail: vec!["Traceback".into(), "AssertionError".into()],
    });
    insta::assert_snapshot!(live::failure(&Output::plain(), &rollout(), &failed), @r#"
    web-3 reverted: step front-page, exit code 1: it exited with 1
      | Traceback
      | AssertionError
      next: ctl pause r-7, or ctl rollback; state of every host: ctl status r-7
    "#);
}

#[test]
fn a_table_is_plain_columns() {
    let rows =
        vec![vec!["web-1".into(), "v1.4".into(), "-".into()], vec!["w".into(), "v1".into(), "".into()]];
    insta::assert_snapshot!(table(&["host", "release", "state"], rows, None), @r#"
    HOST   RELEASE  STATE
    web-1  v1.4     -
    w      v1
    "#);
}

#[test]
fn the_reference_page_has_every_exit_code_in_the_words_of_the_program() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/exit-codes.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (code, meaning) in EXIT_CODES {
        let row = format!("| `{}` | {meaning}", *code as u8);
        assert!(page.contains(&row), "no row that begins with {row:?}");
    }
}

#[test]
fn json_has_a_version() {
    insta::assert_snapshot!(envelope("hosts", &["web-1"]), @r#"
    {
      "hosts": [
        "web-1"
      ],
      "version": 1
    }
    "#);
}

#[test]
fn an_error_says_what_why_and_what_next() {
    let tail = vec!["npm ERR! missing script: build".to_owned()];
    let log = "/tmp/build.log".into();
    let build = Error::Build { step: "styles".into(), reason: "exit code 1".into(), tail, log };
    insta::assert_snapshot!(error_text(&build, false), @r#"
    error: build step styles failed: exit code 1
      | npm ERR! missing script: build
    next:  all of its output: less /tmp/build.log
    "#);
    let io = Error::io("read", std::path::Path::new("/x"), std::io::Error::from_raw_os_error(13));
    insta::assert_snapshot!(error_text(&io, false), @r#"
    error: cannot read /x: Permission denied (os error 13)
    "#);
    let tag = Error::NoTag { tag: "v1.5".into(), near: Some("v1.4".into()) };
    insta::assert_snapshot!(error_text(&tag, false), @r#"
    error: there is no tag "v1.5" in this repository
    next:  the tag most like it is v1.4; to make it: git tag -a v1.5 -m "what changed"
    "#);
    let Err(mistakes) = landfall_common::definition::Definition::parse("landfall.toml", "[aplication]\n")
    else {
        panic!()
    };
    insta::assert_snapshot!(error_text(&Error::Definition { mistakes, next: "correct the file" }, false), @r#"
    error: landfall.toml is not valid: 2 mistakes found
      landfall.toml:1:1: the definition has no [application]
        1 | [aplication]
          | ^
        help: begin with `[application]` and `name = "…"`
      landfall.toml:1:2: unknown key `aplication` at the top level
        1 | [aplication]
          |  ^^^^^^^^^^
        help: did you mean `application`?
    next:  correct the file
    "#);
    let json: serde_json::Value = serde_json::from_str(&envelope("error", &error_value(&tag))).unwrap();
    assert_eq!((&json["version"], &json["error"]["exit_code"]), (&json!(1), &json!(2)));
}

/// Whoever excludes all hosts of a batch reads of the others by the numbers that they had.
#[test]
fn a_batch_keeps_its_number_when_one_before_it_is_left_out() {
    let mut rollout = rollout();
    let third = Batch { number: 3, ..rollout.batches[1].clone() };
    rollout.batches[1] = third;
    let lines: Vec<String> = rollout.batches.iter().map(live::batch_line).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
      canary   db-1 activating: restart-web
      batch 3  18 ok, web-19 proving: healthy for 4 s of 10 s
    ");
}

#[test]
fn one_of_two_groups_is_shown_by_its_name() {
    let mut rollout = rollout();
    for (batch, group) in rollout.batches.iter_mut().zip(["color=blue", "color=green"]) {
        batch.canary = false;
        batch.group = group.to_owned();
    }
    let lines: Vec<String> = rollout.batches.iter().map(live::batch_line).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
      color=blue db-1 activating: restart-web
      color=green 18 ok, web-19 proving: healthy for 4 s of 10 s
    ");
}

#[test]
fn an_error_that_quotes_what_somebody_has_written_steers_no_terminal() {
    let hostile = Error::usage("a file says \u{1b}[2J\u{202e}all is well", "look at it");
    assert_eq!(
        error_text(&hostile, false),
        "error: a file says \\u{1b}[2J\\u{202e}all is well\nnext:  look at it"
    );
}
