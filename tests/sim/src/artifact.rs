//! Releases: manifests with their trees, and what is wrong with them on which host.

use std::collections::BTreeMap;

use landfall_common::assignment::ReleaseRef;
use landfall_common::evidence::{CommitId, Demand, EvidenceKey};
use landfall_common::manifest::Traffic;
use landfall_common::manifest::traffic::{Gate, Proxy, Slots, Switch};
use landfall_common::manifest::{
    Check, Contract, Directory, Driver, Entry, FORMAT, Follows, Manifest, Migration, Origin, Probe, Program,
    Retention, Service, Shared, Step, WayBack,
};
use landfall_common::strategy::Strategy;
use landfall_common::{
    AppName, Duration, EnvName, EvidenceName, ReleaseCounter, ReleaseName, ServiceName, Sha256, StepName,
};

use crate::application::{Shows, errors};

/// What a release will be like.
#[derive(Debug, Clone)]
pub struct ReleasePlan {
    /// Its counter.
    pub number: u64,
    /// How the environment wants it rolled out.
    pub strategy: Strategy,
    /// Whether it has a second service.
    pub worker: bool,
    /// Steps of preparation.
    pub prepare: usize,
    /// Smoke tests.
    pub smoke: usize,
    /// Releases that a host keeps.
    pub retention: u32,
    /// Its migration.
    pub migration: Option<Migration>,
    /// What it takes away in the end.
    pub contract: Option<Contract>,
    /// On so many of a million hosts it is bad, always.
    pub bad_ppm: u32,
    /// And on this one, by its number.
    pub bad_on: Option<usize>,
    /// In what way, see [`Quality`].
    pub badness: u64,
    /// Whether its first service has two slots behind a proxy.
    pub slots: bool,
    /// Whether what stands before the hosts leads requests around one that changes; not beside slots.
    pub gate: bool,
    /// Whether it answers twenty times as slowly as others, everywhere.
    pub slow: bool,
    /// Whether its services end by themselves every few seconds, and are started again, everywhere.
    pub restless: bool,
    /// Whether its services hold four times the memory of others, everywhere.
    pub hungry: bool,
    /// What it shows of itself, if it has a metric.
    pub shows: Option<Shows>,
    /// Whether it has to be proven in staging before.
    pub staged: bool,
    /// What CI must have said passed, and by one of which keys; empty where nothing is asked for.
    pub evidence: BTreeMap<EvidenceName, Vec<usize>>,
    /// The release that a host must have run before, by its number.
    pub follows: Option<u64>,
}

/// How a release does on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Well.
    Good,
    /// Its checks never pass.
    Sick,
    /// Its checks pass and fail by turns.
    Flaps,
    /// Its services cannot be restarted.
    Crashes,
    /// Its smoke test fails, or its checks if it has none.
    Smokes,
    /// It cannot be prepared.
    Unstageable,
}

/// A release with its bytes.
#[derive(Debug, Clone)]
pub struct Release {
    /// What it was made from.
    pub plan: ReleasePlan,
    /// How it is referred to.
    pub reference: ReleaseRef,
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// Its objects.
    pub objects: BTreeMap<Sha256, Vec<u8>>,
    /// The files of its tree by their paths.
    pub files: BTreeMap<String, Sha256>,
}

/// The only application.
#[must_use]
pub fn application() -> AppName {
    AppName::new("tenants").expect("a valid name")
}

/// The environment of most hosts.
#[must_use]
pub fn environment() -> EnvName {
    EnvName::new("production").expect("a valid name")
}

/// The environment in which releases are proven before, in some worlds.
#[must_use]
pub fn staging() -> EnvName {
    EnvName::new("staging").expect("a valid name")
}

/// The commit that a release says it was made from, by its number.
#[must_use]
pub fn commit(number: u64) -> CommitId {
    CommitId::new(format!("{number:040x}")).expect("forty digits")
}

/// What CI looks at.
#[must_use]
pub fn tests() -> EvidenceName {
    EvidenceName::new("tests").expect("a valid name")
}

/// And what else.
#[must_use]
pub fn load() -> EvidenceName {
    EvidenceName::new("load").expect("a valid name")
}

/// A key of CI, or of a stranger. Nothing is signed here: signatures are verified before they come to the core.
#[must_use]
pub fn evidence_key(number: usize) -> EvidenceKey {
    EvidenceKey::new(format!("{number:064x}")).expect("sixty-four digits")
}

fn follows(number: u64) -> Follows {
    let release = ReleaseName::new(format!("v{number}")).expect("a valid name");
    Follows { release, counter: ReleaseCounter(number) }
}

pub(crate) fn step_name(text: &str) -> StepName {
    StepName::new(text).expect("a valid name")
}

fn step(text: &str, timeout: Duration) -> Step {
    Step {
        name: step_name(text),
        command: vec![text.to_owned()],
        environment: BTreeMap::new(),
        timeout,
        network: None,
    }
}

/// A way back by a step of its own.
#[must_use]
pub fn reversible() -> WayBack {
    WayBack::Reversible { down: step("unmigrate", Duration::from_secs(15)) }
}

impl ReleasePlan {
    /// A release with which nothing is wrong.
    #[must_use]
    pub fn good(number: u64, strategy: Strategy) -> Self {
        Self {
            number,
            strategy,
            worker: false,
            prepare: 1,
            smoke: 1,
            retention: 2,
            migration: None,
            contract: None,
            bad_ppm: 0,
            bad_on: None,
            badness: 0,
            slots: false,
            gate: false,
            slow: false,
            restless: false,
            hungry: false,
            shows: None,
            staged: false,
            evidence: BTreeMap::new(),
            follows: None,
        }
    }

    /// Gives it a migration.
    pub fn migrates(&mut self, way_back: WayBack, idempotent: bool, lease: Duration) {
        let step = step("migrate", lease - Duration::from_secs(2));
        self.migration =
            Some(Migration { step, lease, way_back, idempotent, schema: None, names: Vec::new() });
    }

    /// Gives it a contract.
    pub fn contracts(&mut self, idempotent: bool, lease: Duration) {
        let step = step("contract", lease - Duration::from_secs(2));
        self.contract = Some(Contract { step, lease, idempotent });
    }

    /// How it does on a host; the same whenever it is asked.
    #[must_use]
    pub fn quality(&self, host: usize) -> Quality {
        let hash = Sha256::of(format!("{}/{host}", self.number).as_bytes());
        let draw =
            u32::from_be_bytes([0, hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2]]) % 1_000_000;
        if draw >= self.bad_ppm && self.bad_on != Some(host) {
            return Quality::Good;
        }
        match self.badness {
            0 => Quality::Sick,
            1 => Quality::Flaps,
            2 => Quality::Crashes,
            3 => Quality::Smokes,
            _ => Quality::Unstageable,
        }
    }

    /// Makes it.
    #[must_use]
    pub fn build(&self) -> Release {
        let name = ReleaseName::new(format!("v{}", self.number)).expect("a valid name");
        let mut objects = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut add = |path: &str, bytes: Vec<u8>| {
            let digest = Sha256::of(&bytes);
            let size = bytes.len() as u64;
            objects.insert(digest, bytes);
            files.insert(path.to_owned(), digest);
            Entry::File { digest, size, executable: path == "run" }
        };
        // One file is that of every release, one is its own, one changes with every other release.
        let static_entries = BTreeMap::from([
            ("logo".to_owned(), add("static/logo", vec![7; 900])),
            ("site".to_owned(), add("static/site", vec![u8::try_from(self.number / 2).unwrap_or(0); 300])),
        ]);
        let run = add("run", format!("release {}\n", self.number).into_bytes());
        let directory = Directory { entries: static_entries }.to_bytes().expect("a small directory");
        let child = Entry::Directory { digest: Sha256::of(&directory), size: directory.len() as u64 };
        let root =
            Directory { entries: BTreeMap::from([("run".to_owned(), run), ("static".to_owned(), child)]) };
        let root = root.to_bytes().expect("a small directory");
        let tree = Sha256::of(&root);
        let total_bytes = files.values().map(|digest| objects[digest].len() as u64).sum();
        objects.insert(Sha256::of(&directory), directory);
        objects.insert(tree, root);
        let manifest = Manifest {
            format: FORMAT,
            application: application(),
            release: name.clone(),
            origin: Origin::Artifact {
                commit: (!self.evidence.is_empty()).then(|| commit(self.number).to_string()),
            },
            tree,
            file_count: files.len() as u64,
            total_bytes,
            program: self.program(),
            environments: self.environments(),
        };
        let bytes = manifest.to_bytes().expect("a small manifest");
        let reference = ReleaseRef {
            name,
            counter: ReleaseCounter(self.number),
            digest: Sha256::of(&bytes),
            length: bytes.len() as u64,
        };
        Release { plan: self.clone(), reference, manifest, bytes, objects, files }
    }

    fn environments(&self) -> BTreeMap<EnvName, Strategy> {
        let mut here = self.strategy.clone();
        let demand = |(name, keys): (&EvidenceName, &Vec<usize>)| {
            let keys = keys.iter().map(|key| evidence_key(*key)).collect();
            Demand { name: name.clone(), keys }
        };
        here.entry.evidence = self.evidence.iter().map(demand).collect();
        if !self.staged {
            return BTreeMap::from([(environment(), here)]);
        }
        here.entry.after = [staging()].into();
        BTreeMap::from([(environment(), here), (staging(), self.strategy.clone())])
    }

    fn program(&self) -> Program {
        let seconds = Duration::from_secs;
        let service = |name: &str| Service {
            name: ServiceName::new(name).expect("a valid name"),
            on: BTreeMap::new(),
            driver: Driver::Exec {
                restart: step("restart", seconds(20)),
                stop: None,
                status: Some(step("status", seconds(5))),
            },
        };
        let mut services = vec![service("web")];
        if self.worker {
            services.push(service("worker"));
        }
        Program {
            prepare: (0..self.prepare).map(|n| step(&format!("prepare-{n}"), seconds(20))).collect(),
            migrate: self.migration.clone(),
            contract: self.contract.clone(),
            services,
            checks: vec![Check {
                name: step_name("healthz"),
                probe: Probe::Tcp { address: "127.0.0.1:80".to_owned() },
                interval: seconds(2),
                timeout: seconds(1),
            }],
            metrics: self.shows.iter().map(|_| errors()).collect(),
            smoke: (0..self.smoke).map(|n| step(&format!("smoke-{n}"), seconds(20))).collect(),
            shared: Shared { directories: vec!["media".to_owned()], files: Vec::new() },
            retention: Retention { releases: self.retention },
            traffic: self.traffic(),
            follows: self.follows.map(follows),
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        let seconds = Duration::from_secs;
        if self.gate && !self.slots {
            let gate = Gate::Haproxy { backend: "tenants".to_owned(), server: "{host}".to_owned() };
            return Some(Traffic { proxy: Proxy::Gate { gate }, drain: seconds(10) });
        }
        self.slots.then(|| Traffic {
            proxy: Proxy::Slots {
                slots: Slots {
                    service: ServiceName::new("web").expect("a valid name"),
                    blue: "127.0.0.1:8001".to_owned(),
                    green: "127.0.0.1:8002".to_owned(),
                    keep: seconds(60),
                    warm_up: vec!["/".to_owned()],
                    warm_up_headers: Default::default(),
                    warm_up_timeout: seconds(10),
                },
                switch: Switch::Nginx { upstream: "tenants".to_owned() },
            },
            drain: seconds(10),
        })
    }
}
