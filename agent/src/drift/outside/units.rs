//! Units of the host's systemd: the agent makes none and changes none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::{Finding, Kind, Remedy};
use landfall_common::Sha256;
use landfall_common::manifest::{Driver, Program, Unit};

use super::applied::{Applied, Files};

/// Where systemd looks for units of the system, those of the administrator first.
pub const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// No unit is larger, nor has more drop-ins.
const MAX_UNIT_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 256;

const BY_HAND: &str = "the agent changes no unit: put it back, then `systemctl daemon-reload`; the next release that \
                       becomes active takes it as it is";

/// The units of the active release.
pub struct Units {
    /// Where units are looked for.
    pub directories: Vec<PathBuf>,
}

impl Units {
    /// How they differ from what was applied, which they are if that is not known yet.
    #[must_use]
    pub fn look(&self, release: &str, program: &Program, applied: &mut Applied) -> Vec<Finding> {
        let names = names(program);
        if names.is_empty() {
            return Vec::new();
        }
        let now = self.files(&names);
        match &applied.files {
            Some(then) => differences(then, &now, release),
            None => {
                applied.files = Some(now);
                Vec::new()
            }
        }
    }

    /// Units of these names, of instances of those that are templates, and their drop-ins.
    fn files(&self, names: &BTreeSet<String>) -> Files {
        let mut files = Files::new();
        for directory in &self.directories {
            for entry in list(directory) {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let unit = name.strip_suffix(".d");
                if !names.iter().any(|wanted| is_of(unit.unwrap_or(&name), wanted)) {
                    continue;
                }
                let found = if unit.is_some() { list(&entry) } else { vec![entry] };
                files.extend(found.into_iter().map(|path| {
                    let content = content(&path);
                    (path, content)
                }));
            }
        }
        while files.len() > MAX_FILES {
            files.pop_last();
        }
        files
    }
}

/// The units of a program, by their full names; templates as such.
fn names(program: &Program) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for service in &program.services {
        let Driver::Systemd { unit, socket, .. } = &service.driver else { continue };
        names.extend(socket.clone());
        names.insert(match unit {
            Unit::Fixed { name, .. } => name.clone(),
            Unit::Slots { template } | Unit::Releases { template } => template.clone(),
        });
    }
    // Of slots, both instances.
    names.into_iter().map(|name| name.replace("{slot}", "")).collect()
}

/// Whether a unit is the wanted one, its template, or an instance of it if it is a template.
fn is_of(unit: &str, wanted: &str) -> bool {
    let parts = |name: &str| {
        let (stem, kind) = name.rsplit_once('.')?;
        let (prefix, instance) = stem.split_once('@')?;
        Some((prefix.to_owned(), instance.to_owned(), kind.to_owned()))
    };
    let both = (parts(unit), parts(wanted));
    let (Some((prefix, instance, kind)), Some((of, which, of_kind))) = both else { return unit == wanted };
    (prefix, kind) == (of, of_kind) && (instance.is_empty() || which.is_empty() || instance == which)
}

fn list(directory: &Path) -> Vec<PathBuf> {
    // A directory that is not there has nothing in it.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// What a file holds; of a link, where it leads to as well.
fn content(path: &Path) -> String {
    let link = fs::read_link(path).map(|target| format!("{} ", target.display())).unwrap_or_default();
    let read = || {
        // Such as /dev/null, to which a unit is linked that is masked.
        if !fs::metadata(path)?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_UNIT_BYTES).read_to_end(&mut bytes)?;
        Ok(Sha256::of(&bytes).to_string())
    };
    let read: std::io::Result<String> = read();
    format!("{link}{}", read.unwrap_or_else(|error| error.kind().to_string()))
}

fn differences(applied: &Files, now: &Files, release: &str) -> Vec<Finding> {
    let paths: BTreeSet<&PathBuf> = applied.keys().chain(now.keys()).collect();
    let difference = |path: &PathBuf| {
        let (kind, what) = match (applied.get(path), now.get(path)) {
            (Some(then), Some(now)) if then == now => return None,
            (Some(_), Some(_)) => (Kind::Changed, "other content than"),
            (Some(_), None) => (Kind::Missing, "it was there"),
            (None, _) => (Kind::Added, "it was not there"),
        };
        let detail = format!("{what} when {release} became active");
        Some(Finding { path: path.clone(), kind, detail, remedy: Remedy::ByHand { what: BY_HAND.into() } })
    };
    paths.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::drift::outside::applied::Record;
    use landfall_common::assignment::ReleaseRef;
    use landfall_common::disk::RealDisk;
    use landfall_common::manifest::{Renewal, Service};
    use landfall_common::report::{Active, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic};
    use landfall_common::{Duration, Generation, ReleaseCounter, Timestamp};

    /// A look as the agent makes it, with the record in `state`.
    fn looked(units: &Units, state: &Path, report: &HostReport, program: &Program) -> Vec<Finding> {
        let record = Record { state: Arc::new(RealDisk::new(state)) };
        let release = &report.active.as_ref().unwrap().release;
        let before = record.read(report, release.digest);
        let mut applied = before.clone();
        let found = units.look(release.name.as_str(), program, &mut applied);
        record.keep(&applied, &before);
        found
    }

    fn report(release: &str, generation: u64, result: OutcomeKind) -> HostReport {
        let release = ReleaseRef {
            name: release.parse().unwrap(),
            counter: ReleaseCounter(1),
            digest: Sha256::of(release.as_bytes()),
            length: 1,
        };
        HostReport {
            incarnation: 1,
            sequence: 1,
            at: Timestamp::default(),
            generation: Generation(generation),
            phase: Phase::Idle,
            active: Some(Active { release, proven: true }),
            outcome: Some(Outcome { generation: Generation(generation), result }),
            health: Health::Unknown,
            restarts: true,
            traffic: Traffic::Ungated,
        }
    }

    fn program(units: Vec<Unit>) -> Program {
        let services = units.into_iter().enumerate().map(|(number, unit)| Service {
            name: format!("s{number}").parse().unwrap(),
            on: BTreeMap::new(),
            driver: Driver::Systemd {
                unit,
                socket: Some("shop-web.socket".to_owned()),
                settle: Duration::ZERO,
                timeout: Duration::from_secs(1),
                slot: None,
            },
        });
        Program { services: services.collect(), ..Program::default() }
    }

    #[test]
    fn a_unit_is_held_against_what_it_was_when_the_release_became_active() {
        let directory = tempfile::tempdir().unwrap();
        let (etc, usr) = (directory.path().join("etc"), directory.path().join("usr"));
        for path in [&etc.join("shop-web@a.service.d"), &etc.join("other.service.d"), &usr] {
            fs::create_dir_all(path).unwrap();
        }
        let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
        write(&usr.join("shop-web@.service"), "[Service]\nUser=shop\n");
        write(&etc.join("shop-web.socket"), "[Socket]\n");
        write(&etc.join("other.service.d/x.conf"), "");
        let units = Units { directories: vec![etc.clone(), usr.clone(), directory.path().join("gone")] };
        let program = program(vec![Unit::Slots { template: "shop-web@.service".to_owned() }]);
        let look = |report: &HostReport| -> Vec<(Kind, PathBuf)> {
            let found = looked(&units, directory.path(), report, &program);
            assert!(found.iter().all(|finding| finding.remedy.by_hand().is_some()));
            found.into_iter().map(|finding| (finding.kind, finding.path)).collect()
        };
        let active = report("v1", 3, OutcomeKind::Committed);
        assert_eq!(look(&active), []);
        assert_eq!(look(&active), []);

        write(&usr.join("shop-web@.service"), "[Service]\nUser=root\n");
        write(&etc.join("shop-web@a.service.d/more.conf"), "[Service]\n");
        write(&etc.join("other.service.d/y.conf"), "");
        fs::remove_file(etc.join("shop-web.socket")).unwrap();
        let expected = [
            (Kind::Missing, etc.join("shop-web.socket")),
            (Kind::Added, etc.join("shop-web@a.service.d/more.conf")),
            (Kind::Changed, usr.join("shop-web@.service")),
        ];
        assert_eq!(look(&active), expected);
        // Neither a start of the agent nor another release that is staged makes it as it was applied.
        assert_eq!(look(&report("v1", 4, OutcomeKind::Staged)), expected);
        // What becomes active is: another release, or the same after a way back.
        assert_eq!(look(&report("v2", 5, OutcomeKind::Committed)), []);
        write(&usr.join("shop-web@.service"), "[Service]\n");
        assert_eq!(look(&report("v2", 5, OutcomeKind::Committed)).len(), 1);
        assert_eq!(look(&report("v2", 6, OutcomeKind::Committed)), []);
    }

    #[test]
    fn a_masked_unit_and_one_of_another_name_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.service");
        fs::write(&path, "[Service]\n").unwrap();
        fs::write(directory.path().join("shop-admin.service"), "").unwrap();
        let units = Units { directories: vec![directory.path().to_owned()] };
        let unit = Unit::Fixed { name: "shop.service".to_owned(), how: Renewal::Restart };
        let (program, active) = (program(vec![unit]), report("v1", 1, OutcomeKind::Committed));
        assert_eq!(looked(&units, directory.path(), &active, &program), []);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        fs::write(directory.path().join("shop-admin.service"), "x").unwrap();
        let found = looked(&units, directory.path(), &active, &program);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, &*found[0].path), (Kind::Changed, &*path));
    }

    #[test]
    fn templates_their_instances_and_nothing_else_belong_to_a_unit() {
        for (unit, wanted, belongs) in [
            ("shop.service", "shop.service", true),
            ("shop.socket", "shop.service", false),
            ("shop@.service", "shop@.service", true),
            ("shop@a.service", "shop@.service", true),
            ("shop@v1.4.service", "shop@.service", true),
            ("shop@.service", "shop@blue.service", true),
            ("shop@green.service", "shop@blue.service", false),
            ("shop@a.socket", "shop@.service", false),
            ("shop-admin@a.service", "shop@.service", false),
            ("shop.service", "shop@.service", false),
        ] {
            assert_eq!(is_of(unit, wanted), belongs, "{unit} {wanted}");
        }
    }
}
