//! What a scan finds, in a world of plain data.

#![allow(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

mod beside;
mod world;

use std::path::PathBuf;

use landfall_agent_core::Now;
use landfall_agent_core::drift::{Depth, Kind, Looked, Remedy, Rhythm, pace};
use landfall_common::{Duration, Sha256, Timestamp};
use world::{World, at};

#[test]
fn a_host_that_is_as_it_was_applied_has_no_findings_and_each_file_is_read_once() {
    let world = World::applied();
    let (summary, reads) = world.look(&Depth::All);
    assert_eq!(summary.findings.listed, []);
    assert!(!summary.is_blind);
    let mut once = reads.clone();
    once.dedup();
    assert_eq!(reads, once);
    assert_eq!(reads.len(), 5, "{reads:?}");
    assert_eq!(summary.bytes, reads.iter().map(|path| world.size(path)).sum::<u64>());
}

/// What is done to a host, and what is found then.
type Case = (&'static str, fn(&mut World), &'static [(Kind, &'static str)]);

const CASES: [Case; 21] = [
    (
        "a file has other bytes",
        |w| w.write("releases/v1/app/views.py", "VIEWS"),
        &[(Kind::Changed, "releases/v1/app/views.py")],
    ),
    (
        "a file is longer",
        |w| w.write("releases/v1/manage.py", "manage and more"),
        &[(Kind::Changed, "releases/v1/manage.py")],
    ),
    (
        "a file is gone",
        |w| w.remove("releases/v1/app/views.py"),
        &[(Kind::Missing, "releases/v1/app/views.py")],
    ),
    (
        "a file is added",
        |w| w.write("releases/v1/app/debug.py", "x"),
        &[(Kind::Added, "releases/v1/app/debug.py")],
    ),
    (
        "a directory is added",
        |w| w.write("releases/v1/logs/today/one", "x"),
        &[(Kind::Added, "releases/v1/logs")],
    ),
    ("a directory is gone", |w| w.remove("releases/v1/app"), &[(Kind::Missing, "releases/v1/app")]),
    ("the release is gone", |w| w.remove("releases/v1"), &[(Kind::Missing, "releases/v1")]),
    (
        "a file may be written",
        |w| w.chmod("releases/v1/app/views.py", 0o644),
        &[(Kind::Mode, "releases/v1/app/views.py")],
    ),
    (
        "a program may not be run",
        |w| w.chmod("releases/v1/manage.py", 0o444),
        &[(Kind::Mode, "releases/v1/manage.py")],
    ),
    ("a directory may be written", |w| w.chmod("releases/v1/app", 0o755), &[(Kind::Mode, "releases/v1/app")]),
    (
        "a file is a link",
        |w| w.link("releases/v1/app/views.py", "/etc/passwd"),
        &[(Kind::Changed, "releases/v1/app/views.py")],
    ),
    ("a link is a file", |w| w.write("releases/v1/latest", "x"), &[(Kind::Changed, "releases/v1/latest")]),
    (
        "a link leads elsewhere",
        |w| w.link("releases/v1/latest", "app/gone"),
        &[(Kind::Link, "releases/v1/latest")],
    ),
    (
        "what is shared is linked elsewhere",
        |w| w.link("releases/v1/media", "/tmp"),
        &[(Kind::Link, "releases/v1/media")],
    ),
    (
        "what is shared is a directory of its own",
        |w| {
            w.remove("releases/v1/media");
            w.write("releases/v1/media/x", "x");
        },
        &[(Kind::Changed, "releases/v1/media")],
    ),
    ("what is shared is gone", |w| w.remove("shared/media"), &[(Kind::Missing, "shared/media")]),
    (
        "what an administrator keeps is gone",
        |w| w.remove("shared/conf/.env"),
        &[(Kind::Missing, "shared/conf/.env")],
    ),
    ("what is shared is written to", |w| w.write("shared/media/upload.png", "x"), &[]),
    (
        "preparation's file has other bytes",
        |w| w.write("prepared/v1/venv/lib.py", "LIB"),
        &[(Kind::Changed, "prepared/v1/venv/lib.py")],
    ),
    (
        "preparation's directory is gone",
        |w| w.remove("prepared/v1/venv"),
        &[(Kind::Missing, "prepared/v1/venv")],
    ),
    ("current leads elsewhere", |w| w.link("current", "releases/v0"), &[(Kind::Link, "current")]),
];

#[test]
fn whatever_is_done_to_a_host_is_found_by_a_look_at_all_and_by_one_at_what_was_changed() {
    for (what, change, expected) in CASES {
        let mut world = World::applied();
        world.now += 1000;
        change(&mut world);
        let since = Depth::Since { since: at(1000), also: [].into() };
        for depth in [Depth::All, since] {
            let (summary, _) = world.look(&depth);
            let found: Vec<_> =
                summary.findings.listed.iter().map(|f| (f.kind, f.path.to_str().unwrap())).collect();
            assert_eq!(found, expected, "{what}: {depth:?}");
        }
    }
}

#[test]
fn a_quick_look_reads_what_was_changed_and_nothing_else() {
    let mut world = World::applied();
    let since = Depth::Since { since: at(500), also: [].into() };
    assert_eq!(world.look(&since).1, Vec::<String>::new());
    world.now += 1000;
    // The same size; and the times that can be set are as they were.
    world.write("releases/v1/app/views.py", "VIEWS");
    assert_eq!(world.look(&since).1, ["releases/v1/app/views.py"]);
}

#[test]
fn what_was_found_changed_is_read_again_until_it_is_right() {
    let mut world = World::applied();
    world.now += 1000;
    world.write("releases/v1/app/views.py", "VIEWS");
    let now = |s| Now { wall: at(s), mono: Duration::from_secs(s) };
    let rhythm = Rhythm { quick: Duration::from_secs(600), full: Duration::from_secs(86_400) };
    let (summary, _) = world.look(&Depth::All);
    let mut looked = Looked::after(None, &Depth::All, at(2000), &summary, now(2001));
    for time in [3000, 4000, 5000] {
        let (_, depth) = rhythm.next(Some(&looked), now(time));
        let (summary, reads) = world.look(&depth);
        assert_eq!(reads, ["releases/v1/app/views.py"], "{depth:?}");
        assert_eq!(summary.findings.total(), 1);
        looked = Looked::after(Some(&looked), &depth, at(time), &summary, now(time));
    }
    world.now += 4500;
    world.write("releases/v1/app/views.py", "views");
    let (_, depth) = rhythm.next(Some(&looked), now(6000));
    assert_eq!(world.look(&depth).0.findings.total(), 0);
}

#[test]
fn a_directory_that_was_moved_here_is_read_whatever_the_times_in_it() {
    let mut world = World::applied();
    // Made long before, with the same names and sizes: only the directory itself was changed.
    world.write("releases/v1/app/views.py", "VIEWS");
    world.now += 1000;
    world.chmod("releases/v1/app", 0o555);
    let since = Depth::Since { since: at(500), also: [].into() };
    let (summary, reads) = world.look(&since);
    assert_eq!(reads, ["releases/v1/app/views.py"]);
    assert_eq!(summary.findings.total(), 1);
}

#[test]
fn bytecode_is_counted_and_not_reported_unless_it_was_signed() {
    let mut world = World::applied();
    world.write("releases/v1/app/__pycache__/views.cpython-311.pyc", "bytecode");
    world.write("releases/v1/app/__pycache__/views.cpython-311.pyc.140023", "half");
    world.write("prepared/v1/venv/__pycache__/lib.cpython-311.pyc", "compiled again");
    let (summary, _) = world.look(&Depth::All);
    assert_eq!((summary.findings.listed.as_slice(), summary.caches), (&[][..], 3));
    // Nothing else hides there, and no bytecode elsewhere, where it would be imported by its name.
    world.write("releases/v1/app/__pycache__/evil.so", "x");
    world.write("releases/v1/app/evil.pyc", "x");
    world.write("releases/v1/compiled/__pycache__/signed.cpython-311.pyc", "other!");
    let (summary, _) = world.look(&Depth::All);
    let found: Vec<_> = summary.findings.listed.iter().map(|f| (f.kind, f.shown_path())).collect();
    let expected = [
        (Kind::Added, "releases/v1/app/evil.pyc"),
        (Kind::Added, "releases/v1/app/__pycache__/evil.so"),
        (Kind::Changed, "releases/v1/compiled/__pycache__/signed.cpython-311.pyc"),
    ];
    assert_eq!(found, expected.map(|(kind, path)| (kind, path.to_owned())));
}

/// `PYTHONPYCACHEPREFIX = "{prepared}/pycache"`, as the recipes have it.
#[test]
fn the_tree_of_an_interpreters_bytecode_is_no_difference_and_nothing_hides_in_it() {
    let mut world = World::applied();
    let before = world.look(&Depth::All).0.caches;
    world.write("prepared/v1/pycache/srv/site/releases/v1/app/views.cpython-311.pyc", "bytecode");
    world.write("prepared/v1/pycache/usr/lib/python3.11/json/__init__.cpython-311.opt-1.pyc.140023", "half");
    let (summary, _) = world.look(&Depth::All);
    assert_eq!((summary.findings.listed.as_slice(), summary.caches), (&[][..], before + 2));
    world.write("prepared/v1/pycache/usr/evil.so", "x");
    world.write("prepared/v1/pycache/usr/evil.pyc", "x");
    world.write("releases/v1/pycache/views.cpython-311.pyc", "x");
    let (summary, _) = world.look(&Depth::All);
    let found: Vec<_> = summary.findings.listed.iter().map(|f| (f.kind, f.shown_path())).collect();
    let expected =
        ["releases/v1/pycache", "prepared/v1/pycache/usr/evil.pyc", "prepared/v1/pycache/usr/evil.so"];
    assert_eq!(found, expected.map(|path| (Kind::Added, path.to_owned())));
}

#[test]
fn what_may_be_added_may_not_be_changed() {
    let mut world = World::applied();
    world.ignore = vec!["app/*.py".to_owned(), "var*".to_owned()];
    world.write("releases/v1/app/plugin.py", "x");
    world.write("releases/v1/var/state.db", "x");
    assert_eq!(world.look(&Depth::All).0.findings.total(), 0);
    world.write("releases/v1/app/views.py", "VIEWS");
    world.write("releases/v1/app/plugin.pyx", "x");
    assert_eq!(world.look(&Depth::All).0.findings.total(), 2);
}

#[test]
fn only_what_is_signed_is_put_right_by_the_agent() {
    let mut world = World::applied();
    world.write("releases/v1/app/views.py", "VIEWS");
    world.write("releases/v1/app/debug.py", "x");
    world.write("prepared/v1/venv/lib.py", "LIB");
    world.remove("shared/conf/.env");
    world.remove("shared/media");
    let (summary, _) = world.look(&Depth::All);
    for finding in &summary.findings.listed {
        let signed = ["releases/v1/app/views.py", "shared/media"];
        let is_signed = signed.iter().any(|path| finding.path == PathBuf::from(path));
        assert_eq!(finding.remedy.by_hand().is_none(), is_signed, "{finding:?}");
    }
    assert_eq!(summary.findings.total(), 5);
    let views = summary.findings.listed.iter().find(|finding| finding.path.ends_with("views.py")).unwrap();
    let wanted = Remedy::File { digest: Sha256::of(b"views"), size: 5, executable: false };
    assert_eq!(views.remedy, wanted);
}

#[test]
fn findings_are_bounded_and_their_digest_stands_for_all_of_them() {
    let digest_of = |count: usize, size: usize| {
        let mut world = World::applied();
        world.limit = 10;
        for number in 0..count {
            world.write(&format!("releases/v1/app/added-{number:03}"), &"x".repeat(size));
        }
        let (summary, _) = world.look(&Depth::All);
        assert_eq!(summary.findings.listed.len(), count.min(10));
        assert_eq!(summary.findings.total(), count as u64);
        assert_eq!(summary.findings.is_whole(), count <= 10);
        summary.findings.digest
    };
    assert_eq!(digest_of(50, 1), digest_of(50, 1));
    assert_ne!(digest_of(50, 1), digest_of(51, 1));
    assert_ne!(digest_of(0, 1), digest_of(1, 1));
}

#[test]
fn everything_is_read_first_and_once_a_day_and_when_the_clock_was_wrong() {
    let rhythm = Rhythm { quick: Duration::from_secs(600), full: Duration::from_secs(86_400) };
    let now = |wall: u64, mono: u64| Now { wall: at(wall), mono: Duration::from_secs(mono) };
    let (wait, depth) = rhythm.next(None, now(10_000, 5));
    assert_eq!((wait, depth), (Duration::from_secs(60), Depth::All));
    let (summary, _) = World::applied().look(&Depth::All);
    let looked = Looked::after(None, &Depth::All, at(10_000), &summary, now(10_100, 105));
    let (wait, depth) = rhythm.next(Some(&looked), now(10_200, 205));
    let since = Depth::Since { since: at(9998), also: [].into() };
    assert_eq!((wait, depth), (Duration::from_secs(500), since));
    assert_eq!(rhythm.next(Some(&looked), now(96_600, 86_505)).1, Depth::All);
    // What was good at a time that has not come yet was not looked at by a clock that can be believed.
    assert_eq!(rhythm.next(Some(&looked), now(9000, 205)).1, Depth::All);
}

#[test]
fn what_could_not_be_seen_is_read_when_it_can_be_again() {
    let mut world = World::applied();
    let now = |s| Now { wall: at(s), mono: Duration::from_secs(s) };
    let rhythm = Rhythm { quick: Duration::from_secs(600), full: Duration::from_secs(86_400) };
    let (summary, _) = world.look(&Depth::All);
    let looked = Looked::after(None, &Depth::All, at(2000), &summary, now(2000));
    // It is moved away, changed there while nobody sees it, and moved back; its own time stays what it was.
    let app = world.take("releases/v1/app");
    let (_, depth) = rhythm.next(Some(&looked), now(3000));
    let (summary, _) = world.look(&depth);
    assert!(summary.is_blind);
    let looked = Looked::after(Some(&looked), &depth, at(3000), &summary, now(3000));
    world.put_back(app);
    world.now = 2500;
    world.write("releases/v1/app/views.py", "VIEWS");
    let (_, depth) = rhythm.next(Some(&looked), now(4000));
    assert_eq!(world.look(&depth).0.findings.total(), 1, "{depth:?}");
}

#[test]
fn a_look_takes_half_a_per_cent_of_a_core_at_most() {
    let ms = Duration::from_millis;
    assert_eq!(pace::rest(ms(2), ms(2)), ms(398));
    // A disk that takes its time is given more.
    assert_eq!(pace::rest(ms(1), ms(500)), ms(2000));
    assert!(pace::rest(ms(10), Duration::from_secs(3600)) <= Duration::from_secs(60));
    assert!(Timestamp::from_ms(0) < at(1));
}
