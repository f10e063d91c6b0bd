//! Drift on a real disk: what a look sees, that a file changed under the same size and time is seen, and how it is put
//! right.

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfall_agent::apply::store::Store;
use landfall_agent::drift::look::{Interrupted, Looker};
use landfall_agent::drift::outside::{Beside, Seen};
use landfall_agent::drift::{self, Parts, Report, Settings};
use landfall_agent::engine::standing::Standing;
use landfall_agent::{clock, runtime};
use landfall_agent_core::drift::{Ask, Depth, Kind, Remedy, Rhythm, Scan, Summary};
use landfall_common::Timestamp;
use landfall_common::manifest::Shared;
use landfall_common::report::HostReport;
use tokio::sync::watch;

use crate::world::{Release, World};

/// However loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

fn world() -> World {
    let shared = Shared { directories: vec!["media".into(), "var/cache".into()], files: vec![] };
    let release = |name, counter| {
        let mut release = Release::with(name, counter, super::files(name), shared.clone());
        // What is signed below a shared path is hidden by the link.
        release.files.retain(|(path, ..)| !path.starts_with("media"));
        release
    };
    let mut world = World::new(&[release("v1", 1), release("v2", 2)]);
    world.activate(1, "v1");
    world.activate(2, "v2");
    world
}

fn look(world: &World, depth: Depth) -> Summary {
    let release = world.releases["v2"].reference.clone();
    let (mut looker, target, note) = Looker::new(&world.app(), &release, &[]).unwrap();
    assert_eq!(note, None);
    let mut scan = Scan::new(target, depth, 100);
    let mut go_on = || true;
    while let Some(ask) = scan.ask() {
        match ask {
            Ask::Directory(place) => looker.directory(&mut scan, &place, &mut go_on).unwrap(),
            Ask::Content(read) => looker.content(&mut scan, &read, &mut go_on).unwrap(),
            Ask::Current => scan.current(looker.current().as_deref()),
        }
    }
    scan.into_summary()
}

fn found(summary: &Summary) -> Vec<(Kind, String)> {
    summary.findings.listed.iter().map(|finding| (finding.kind, finding.shown_path())).collect()
}

/// Changes one byte of a file, and puts back everything about it that can be put back.
fn change_a_byte(path: &Path) {
    let before = fs::metadata(path).unwrap();
    let mut content = fs::read(path).unwrap();
    content[0] ^= 1;
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(
        (before.len(), before.mtime(), before.mtime_nsec(), before.mode()),
        (after.len(), after.mtime(), after.mtime_nsec(), after.mode())
    );
}

#[test]
fn a_host_after_its_releases_is_as_it_was_applied() {
    let world = world();
    let summary = look(&world, Depth::All);
    assert_eq!(found(&summary), []);
    assert!(summary.bytes > 0 && summary.entries > 8, "{summary:?}");
    // What an application keeps is its own.
    fs::write(world.app().join("shared/media/upload.png"), "x").unwrap();
    assert_eq!(found(&look(&world, Depth::All)), []);
}

#[test]
fn a_byte_changed_under_the_same_size_and_time_is_seen_by_a_quick_look() {
    let world = world();
    // Everything was changed before now, by the clock that file systems use.
    let later = Timestamp::from_ms(clock::wall().ms() + 3_600_000);
    let since = |since| Depth::Since { since, also: [].into() };
    assert_eq!(look(&world, since(later)).bytes, 0);
    let path = world.app().join("releases/v2/app/views.py");
    let before = Timestamp::from_ms((fs::metadata(&path).unwrap().ctime().unsigned_abs()) * 1000);
    change_a_byte(&path);
    let expected = [(Kind::Changed, "releases/v2/app/views.py".to_owned())];
    assert_eq!(found(&look(&world, since(before))), expected);
    assert_eq!(found(&look(&world, Depth::All)), expected);
}

#[test]
fn what_preparation_made_is_known_and_what_is_written_there_later_is_seen() {
    let world = world();
    let prepared = world.app().join("prepared/v2");
    change_a_byte(&prepared.join("venv"));
    fs::write(prepared.join("more"), "x").unwrap();
    let summary = look(&world, Depth::All);
    let expected = [(Kind::Added, "prepared/v2/more"), (Kind::Changed, "prepared/v2/venv")];
    assert_eq!(found(&summary), expected.map(|(kind, path)| (kind, path.to_owned())));
    assert!(summary.findings.listed.iter().all(|finding| finding.remedy.by_hand().is_some()));
    // The record goes with its release.
    assert_eq!(world.names(".landfall/prepared"), ["v1", "v2"]);
}

/// Nothing lies beside the files.
struct Nothing;

impl Beside for Nothing {
    fn look(
        &self,
        _: &HostReport,
        _: &Standing,
        breath: &mut dyn FnMut() -> bool,
    ) -> Result<Seen, Interrupted> {
        if breath() { Ok(Seen::default()) } else { Err(Interrupted) }
    }

    fn mend(&self, _: &Standing, _: &Remedy) -> Result<(), String> {
        Err("there is nothing".to_owned())
    }
}

/// A watcher over a host whose agent was started again.
struct Watched {
    world: World,
    engine: runtime::EngineHandle,
    _outlet: runtime::Outlet,
    handle: drift::Handle,
    reports: watch::Receiver<Option<Report>>,
}

impl Watched {
    fn new(mut world: World) -> Self {
        world.engine = None;
        let (engine, outlet, _) = runtime::start(world.disks()).unwrap();
        engine.request_report();
        let mut said = outlet.reports.clone();
        within(said.wait_for(Option::is_some)).expect("the engine says how it is").unwrap();
        let (out, reports) = watch::channel(None);
        let second = Duration::from_secs(1);
        let app = world.disks().app;
        let handle = drift::start(Parts {
            settings: Settings { rhythm: Rhythm { quick: second, full: PATIENCE * 100 }, ignore: Vec::new() },
            root: world.app(),
            reports: outlet.reports.clone(),
            engine: engine.clone(),
            outside: Arc::new(Nothing),
            restore: Arc::new(move |files, directories| {
                assert!(directories.is_empty());
                let lacking = Store::new(app.clone()).borrow(files).map_err(|error| error.to_string())?;
                if lacking.is_empty() { Ok(()) } else { Err("no controller".to_owned()) }
            }),
            out,
        });
        Self { world, engine, _outlet: outlet, handle: handle.unwrap(), reports }
    }

    /// Waits for a report that is as it should be.
    fn wait(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let waiting = self.reports.wait_for(|report| report.as_ref().is_some_and(&wanted));
        within(waiting).unwrap_or_else(|| panic!("never: {what}")).unwrap().clone().unwrap()
    }
}

fn within<T>(waiting: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, waiting).await.ok() })
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.handle.stop();
        self.engine.stop();
    }
}

#[test]
fn a_watched_host_says_what_differs_and_puts_right_what_is_signed_when_it_is_asked_to() {
    let mut watched = Watched::new(world());
    let report = watched.wait("a first look", |_| true);
    assert_eq!(found(&report.summary), []);
    assert!(report.read.is_some());

    let app = watched.world.app();
    let place = |path: &str| app.join("releases/v2").join(path);
    // As editors do: another file takes the place, and its twins stay as they are.
    let models = place("app/models.py");
    fs::copy(&models, place("models.new")).unwrap();
    change_a_byte(&place("models.new"));
    fs::rename(place("models.new"), &models).unwrap();
    fs::set_permissions(place("manage.py"), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(app.join("releases/v2"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(place("media")).unwrap();
    fs::remove_dir(app.join("shared/var/cache")).unwrap();
    fs::write(place("debug.py"), "x").unwrap();
    fs::set_permissions(app.join("releases/v2"), Permissions::from_mode(0o555)).unwrap();
    fs::remove_file(app.join("current")).unwrap();
    std::os::unix::fs::symlink("releases/v1", app.join("current")).unwrap();
    let expected = [
        (Kind::Missing, "releases/v2/media"),
        (Kind::Mode, "releases/v2/manage.py"),
        (Kind::Added, "releases/v2/debug.py"),
        (Kind::Missing, "shared/var/cache"),
        (Kind::Changed, "releases/v2/app/models.py"),
        (Kind::Link, "current"),
    ];
    let mut expected = expected.map(|(kind, path)| (kind, path.to_owned()));
    expected.sort();
    let sorted = |report: &Report| {
        let mut found = found(&report.summary);
        found.sort();
        found
    };
    watched.wait("all of it is seen", |report| sorted(report) == expected);

    // Nothing is put right by itself; and what was added is never removed.
    watched.handle.repair("request-1".to_owned());
    let report = watched.wait("it was repaired", |report| report.repair.is_some());
    let repair = report.repair.clone().unwrap();
    assert_eq!(repair.request, "request-1");
    assert_eq!(sorted(&report), [(Kind::Added, "releases/v2/debug.py".to_owned())], "{repair:?}");
    assert_eq!((repair.restored, repair.failed), (5, vec![]));
    let current: PathBuf = fs::read_link(app.join("current")).unwrap();
    assert_eq!(current, Path::new("releases/v2"));
    for (path, content, executable) in &watched.world.releases["v2"].files {
        if path.starts_with("media") {
            continue;
        }
        assert_eq!(&fs::read(place(path)).unwrap(), content, "{path}");
        let mode = fs::metadata(place(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode, if *executable { 0o555 } else { 0o444 }, "{path}");
    }
    assert!(fs::metadata(place("media")).unwrap().is_dir());
    assert_eq!(watched.world.names(".landfall/objects"), Vec::<String>::new());
    assert_eq!(fs::metadata(place("app")).unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn what_cannot_be_got_is_told_and_the_rest_is_put_right() {
    let mut watched = Watched::new(world());
    watched.wait("a first look", |_| true);
    let app = watched.world.app();
    // No other file has this content.
    change_a_byte(&app.join("releases/v2/app/views.py"));
    fs::set_permissions(app.join("releases/v2/manage.py"), Permissions::from_mode(0o700)).unwrap();
    watched.handle.repair("request-2".to_owned());
    let report = watched.wait("it was repaired", |report| report.repair.is_some());
    let repair = report.repair.clone().unwrap();
    assert_eq!((repair.restored, repair.failed), (1, vec!["no controller".to_owned()]));
    assert_eq!(found(&report.summary), [(Kind::Changed, "releases/v2/app/views.py".to_owned())]);
}
