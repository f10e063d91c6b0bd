//! `ctl runbook`: how one would go back from here, to be read by somebody who has never done it, and to be printed.

use landfall_common::Timestamp;

use super::{Session, why};
use crate::cli;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::{NextCommand, Rehearsal, Runbook, RunbookRelease, RunbookWay};

/// As wide as a sheet of paper takes it.
const WIDTH: usize = 100;

pub(super) async fn run(session: &Session, arguments: &cli::Runbook) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = session.local_environment(arguments.environment.env.as_ref())?;
    let book = client.runbook(&application, &environment).await?;
    output.line(text(&book));
    output.json("runbook", &book);
    Ok(Exit::Succeeded)
}

/// Lines of a page.
#[derive(Default)]
struct Page(Vec<String>);

impl Page {
    fn heading(&mut self, text: &str) {
        self.0.push(String::new());
        self.0.push(text.to_owned());
    }

    /// A text behind what stands before it, and its further lines below.
    fn item(&mut self, before: &str, text: &str) {
        let indent = before.chars().count();
        let mut line = before.to_owned();
        for word in text.split_whitespace() {
            let room = line.chars().count() + 1 + word.chars().count() <= WIDTH;
            if !room && line.chars().count() > indent {
                self.0.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
            if line.chars().count() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.0.push(line);
    }

    /// Commands in their order, each on a line of its own as it is typed.
    fn commands(&mut self, commands: &[NextCommand]) {
        for command in commands {
            self.0.push(format!("  {}", command.command));
            self.item("      ", &command.does);
        }
    }
}

fn text(book: &Runbook) -> String {
    let mut page = Page::default();
    let title = format!("HOW TO GO BACK: {} in {}", book.application, book.environment);
    page.0.push(title);
    let at = book.at.map(utc).unwrap_or_default();
    page.item(
        "",
        &format!("as of {at}. What is said here holds at that moment: print it anew with `ctl runbook`."),
    );

    page.heading("NOW");
    let (by, since) = (&book.in_force_by, book.in_force_since.map(utc).unwrap_or_default());
    let by = if by.is_empty() { String::new() } else { format!(", asked for by {by}") };
    page.item(
        "  in force    ",
        &match &book.in_force {
            Some(release) => {
                format!("{release}, since {since}, brought by rollout {}{by}", book.in_force_rollout)
            }
            None => "nothing yet".to_owned(),
        },
    );
    for runs in &book.runs {
        page.item("  hosts run   ", &why::runs(runs));
    }
    for note in &book.notes {
        page.item("  note        ", note);
    }
    page.item("  rehearsed   ", &rehearsed(book.rehearsed.as_ref()));

    match (&book.way, &book.refused) {
        (Some(way), _) => can(&mut page, book, way),
        (None, refused) => {
            page.heading("GOING BACK IS REFUSED NOW");
            page.item("  ", refused.as_deref().unwrap_or("the controller does not say why"));
            if !book.instead.is_empty() {
                page.heading("WHAT TO TYPE INSTEAD, OR FIRST");
                page.commands(&book.instead);
            }
            stays(&mut page, book);
        }
    }

    if !book.others.is_empty() {
        page.heading("OTHER RELEASES THAT WERE IN FORCE");
        book.others.iter().for_each(|other| of_other(&mut page, other, book));
    }
    page.0.join("\n")
}

fn can(page: &mut Page, book: &Runbook, way: &RunbookWay) {
    let proven = way.proven.map(|at| format!(", proven there at {}", utc(at))).unwrap_or_default();
    page.heading(&format!("GOING BACK CAN BE DONE NOW: TO {}{proven}", way.to));
    match (&way.rollout, way.goes_back, way.paused) {
        (None, ..) => page.item("  ", "Windows, freezes, gates and approvals do not hold it."),
        (Some(rollout), false, _) => {
            page.item(
                "  ",
                &format!("Rollout {rollout} is under way: it turns, with the hosts that it has changed."),
            );
        }
        (Some(rollout), true, false) => {
            page.item("  ", &format!("It is on its way: rollout {rollout} goes back already. Watch it."));
        }
        (Some(rollout), true, true) => {
            page.item("  ", &format!("It was begun: rollout {rollout} goes back, and is paused."));
        }
    }
    stays(page, book);
    if !book.begin.is_empty() {
        page.heading("1. WHAT TO TYPE (needs the role deployer; `ctl doctor` tells yours)");
        page.commands(&book.begin);
    }
    page.heading("2. WHAT HAPPENS THEN, IN THIS ORDER");
    for (number, step) in way.steps.iter().enumerate() {
        let number = (b'a' + u8::try_from(number % 26).unwrap_or_default()) as char;
        page.item(&format!("  {number}. "), &step.what);
        for detail in &step.detail {
            page.item("     - ", detail);
        }
    }
    page.heading("3. HOW TO WATCH IT, AND WHAT TO TYPE WHERE IT STOPS");
    page.commands(&book.watch);
    page.heading("4. HOW TO SEE THAT IT IS DONE");
    page.commands(&book.verify);
}

fn of_other(page: &mut Page, other: &RunbookRelease, book: &Runbook) {
    let name = format!("  {:<11} ", other.release);
    if let Some(why) = &other.refused {
        return page.item(&name, &format!("no: {why}"));
    }
    let part = if other.whole { "" } else { "; it was proven on some hosts only" };
    let down = if other.down { "; a migration is taken back first" } else { "" };
    let at = other.proven.map(|at| format!(", it came into force at {}", utc(at))).unwrap_or_default();
    page.item(&name, &format!("yes{at}{part}{down}"));
    let (app, env) = (&book.application, &book.environment);
    page.0
        .push(format!("              ctl rollback {} --app {app} --env {env} --reason 'WHY'", other.release));
}

fn stays(page: &mut Page, book: &Runbook) {
    page.heading("WHAT GOING BACK DOES NOT TAKE BACK");
    for stays in &book.stays {
        page.item("  - ", stays);
    }
}

fn rehearsed(rehearsal: Option<&Rehearsal>) -> String {
    let Some(Rehearsal { release, back_to, hosts, back_ms, at, .. }) = rehearsal else {
        return "never: `ctl drill` rehearses it on the canary, while nothing is wrong".to_owned();
    };
    let at = at.map(utc).unwrap_or_default();
    let took = format::duration(std::time::Duration::from_millis(*back_ms));
    let hosts = format::count(*hosts, "host");
    format!(
        "at {at}, to {release} and back to {back_to} on {hosts}; the way back took {took}, with its proof"
    )
}

fn utc(at: Timestamp) -> String {
    format!("{} UTC", format::time(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{RunbookBatch, RunbookStep, Runs};

    fn next(command: &str, does: &str) -> NextCommand {
        NextCommand { command: command.to_owned(), does: does.to_owned() }
    }

    fn book() -> Runbook {
        let at = |text: &str| Some(text.parse().unwrap());
        let step = |what: &str, detail: &[&str]| RunbookStep {
            what: what.to_owned(),
            detail: detail.iter().map(|&line| line.to_owned()).collect(),
        };
        let batch = |hosts: &[&str], why: &str| RunbookBatch {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            why: why.to_owned(),
        };
        let other = |release: &str, refused: Option<&str>| RunbookRelease {
            release: release.to_owned(),
            proven: at("2026-11-20T08:00:00Z"),
            whole: true,
            refused: refused.map(str::to_owned),
            down: false,
        };
        Runbook {
            application: "tenants".into(),
            environment: "production".into(),
            at: at("2026-11-22T15:04:05Z"),
            in_force: Some("v1.4".into()),
            in_force_since: at("2026-11-22T10:00:00Z"),
            in_force_rollout: "r-20261122-7f3a".into(),
            in_force_by: "ana".into(),
            runs: vec![Runs {
                release: "v1.4".into(),
                proven: true,
                hosts: vec!["web-1".into(), "web-2".into(), "web-3".into()],
                fresh: 3,
            }],
            way: Some(RunbookWay {
                to: "v1.3".into(),
                proven: at("2026-11-21T10:00:00Z"),
                rollout: None,
                goes_back: false,
                paused: false,
                down: Some("v1.4".into()),
                steps: vec![
                    step("every host fetches and prepares v1.3 beside what it runs", &[]),
                    step(
                        "web-1, or the next that answers, takes the schema back, once, before any host changes: the \
                         `down` of v1.4, for 5m at most",
                        &["python manage.py migrate tenants 0007"],
                    ),
                    step(
                        "batch by batch, one host out at a time, without a canary",
                        &["a batch begins later"],
                    ),
                ],
                batches: vec![batch(&["web-1"], "zone=a"), batch(&["web-2", "web-3"], "")],
                max_unavailable: 1,
            }),
            refused: None,
            others: vec![
                other("v1.2", None),
                other("v1.1", Some("cannot go back to v1.1: the migration of v1.2 cannot be undone")),
            ],
            stays: vec!["what was written meanwhile to the database stays".into()],
            notes: vec!["web-7 is cordoned by ana: its disk; it stays as it is".into()],
            rehearsed: Some(Rehearsal {
                rollout: "r-1".into(),
                release: "v1.3".into(),
                back_to: "v1.4".into(),
                at: at("2026-11-22T12:00:00Z"),
                hosts: 1,
                there_ms: 11_000,
                back_ms: 12_000,
            }),
            instead: Vec::new(),
            begin: vec![next(
                "ctl rollback --app tenants --env production --reason 'WHY'",
                "goes back to v1.3",
            )],
            watch: vec![next("ctl status --watch --app tenants --env production", "follows it")],
            verify: vec![next("ctl hosts --app tenants --env production", "every host runs v1.3")],
        }
    }

    #[test]
    fn it_reads_from_top_to_bottom() {
        insta::assert_snapshot!(text(&book()), @r"
        HOW TO GO BACK: tenants in production
        as of 2026-11-22 15:04:05 UTC. What is said here holds at that moment: print it anew with `ctl
        runbook`.

        NOW
          in force    v1.4, since 2026-11-22 10:00:00 UTC, brought by rollout r-20261122-7f3a, asked for by
                      ana
          hosts run   v1.4 on 3: web-1, web-2, web-3
          note        web-7 is cordoned by ana: its disk; it stays as it is
          rehearsed   at 2026-11-22 12:00:00 UTC, to v1.3 and back to v1.4 on 1 host; the way back took 12s,
                      with its proof

        GOING BACK CAN BE DONE NOW: TO v1.3, proven there at 2026-11-21 10:00:00 UTC
          Windows, freezes, gates and approvals do not hold it.

        WHAT GOING BACK DOES NOT TAKE BACK
          - what was written meanwhile to the database stays

        1. WHAT TO TYPE (needs the role deployer; `ctl doctor` tells yours)
          ctl rollback --app tenants --env production --reason 'WHY'
              goes back to v1.3

        2. WHAT HAPPENS THEN, IN THIS ORDER
          a. every host fetches and prepares v1.3 beside what it runs
          b. web-1, or the next that answers, takes the schema back, once, before any host changes: the
             `down` of v1.4, for 5m at most
             - python manage.py migrate tenants 0007
          c. batch by batch, one host out at a time, without a canary
             - a batch begins later

        3. HOW TO WATCH IT, AND WHAT TO TYPE WHERE IT STOPS
          ctl status --watch --app tenants --env production
              follows it

        4. HOW TO SEE THAT IT IS DONE
          ctl hosts --app tenants --env production
              every host runs v1.3

        OTHER RELEASES THAT WERE IN FORCE
          v1.2        yes, it came into force at 2026-11-20 08:00:00 UTC
                      ctl rollback v1.2 --app tenants --env production --reason 'WHY'
          v1.1        no: cannot go back to v1.1: the migration of v1.2 cannot be undone
        ");
    }

    #[test]
    fn what_is_refused_says_so_first_and_what_to_type() {
        let refused = Runbook {
            way: None,
            refused: Some("tenants in production is locked by ben until 18:00: moving the database".into()),
            instead: vec![next("ctl unlock production --app tenants --reason 'WHY'", "takes the lock away")],
            begin: Vec::new(),
            rehearsed: None,
            others: Vec::new(),
            notes: Vec::new(),
            ..book()
        };
        insta::assert_snapshot!(text(&refused), @r"
        HOW TO GO BACK: tenants in production
        as of 2026-11-22 15:04:05 UTC. What is said here holds at that moment: print it anew with `ctl
        runbook`.

        NOW
          in force    v1.4, since 2026-11-22 10:00:00 UTC, brought by rollout r-20261122-7f3a, asked for by
                      ana
          hosts run   v1.4 on 3: web-1, web-2, web-3
          rehearsed   never: `ctl drill` rehearses it on the canary, while nothing is wrong

        GOING BACK IS REFUSED NOW
          tenants in production is locked by ben until 18:00: moving the database

        WHAT TO TYPE INSTEAD, OR FIRST
          ctl unlock production --app tenants --reason 'WHY'
              takes the lock away

        WHAT GOING BACK DOES NOT TAKE BACK
          - what was written meanwhile to the database stays
        ");
    }
}
