//! PyPI's `tuf` reads what our signer writes, and our client reads what it writes.
//!
//! Needs `python3` with `venv`, and PyPI the first time: the packages go to `target/venv-tuf`, and are reused.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test, its helpers too")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use landfall_common::{AppName, ReleaseCounter, ReleaseName, Timestamp};
use landfall_trust::metadata::{Role, Root, TOP_LEVEL, Targets};
use landfall_trust::policy::{ReleaseCustom, policy_path};
use landfall_trust::repository::{Lifetimes, Repository};
use landfall_trust::{Envelope, KeyPair, Limits, TrustError, TrustedStore, Updater};
use serde_json::{Value, json};

/// The version that is tested against.
const PACKAGE: &str = "tuf==7.0.0";

/// The environment's interpreter; made by the first test that asks.
fn python() -> anyhow::Result<PathBuf> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory has a parent")?;
    let venv = target.join("venv-tuf");
    let python = venv.join("bin/python");
    let done = venv.join(PACKAGE);
    // Tests run in processes of their own: one makes it, the others wait.
    let lock = File::create(target.join("venv-tuf.lock"))?;
    lock.lock()?;
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .context("cannot make a Python environment; try: apt-get install python3-venv")?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q", PACKAGE, "securesystemslib[crypto]"]))?;
        fs::write(done, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{told}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn script(command: &str, dir: &Path) -> anyhow::Result<Command> {
    let mut script = Command::new(python()?);
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py")).arg(command).arg(dir);
    Ok(script)
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_ms(u64::try_from(now.as_millis()).unwrap())
}

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32]).unwrap()
}

fn signed<T: Role>(body: &T, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(body).unwrap();
    for seed in seeds {
        envelope.sign(&pair(*seed)).unwrap();
    }
    envelope.to_bytes()
}

/// Two of three root keys, a rotation, an application, its floor: `root.json`, `metadata/`, `targets/`.
fn write_ours(dir: &Path) -> anyhow::Result<()> {
    let expires = now() + Duration::from_secs(86_400);
    let keys = |seeds: &[u8]| seeds.iter().map(|seed| pair(*seed).public().clone()).collect::<Vec<_>>();
    let mut root = Root::first(expires);
    for role in TOP_LEVEL {
        root.set_role(role, &keys(&[4]), 1);
    }
    root.set_role("root", &keys(&[1, 2, 3]), 2);
    let first = signed(&root, &[1, 3]);
    fs::write(dir.join("root.json"), &first)?;
    let mut repository = Repository::new(first)?;
    let mut files = repository.files();
    let mut newer = root.next(expires);
    newer.set_role("root", &keys(&[2, 3, 5]), 2);
    files.push(repository.submit("root", signed(&newer, &[1, 2, 5]), now())?);

    let app = AppName::new("shop")?;
    let mut targets = Targets::first(expires);
    targets.delegate_policy(&keys(&[6]), 1);
    targets.delegate_app(&app, &keys(&[7, 8]), 2);
    files.push(repository.submit("targets", signed(&targets, &[4]), now())?);
    let mut policy = Targets::first(expires);
    let floor = policy.set_floor(&app, ReleaseCounter(3))?;
    files.push(repository.submit("policy", signed(&policy, &[6]), now())?);
    let custom = ReleaseCustom {
        app: app.clone(),
        release: ReleaseName::new("v1.4")?,
        counter: ReleaseCounter(4),
        environments: None,
    };
    let mut shop = Targets::first(expires);
    shop.add_release(b"the manifest", &custom)?;
    files.push(repository.submit("apps/shop", signed(&shop, &[7, 8]), now())?);
    files.extend(repository.publish(&[&pair(4)], &[&pair(4)], now(), &Lifetimes::default())?);

    fs::create_dir(dir.join("metadata"))?;
    for file in files {
        fs::write(dir.join("metadata").join(file.name), file.bytes)?;
    }
    for (role, path, bytes) in
        [(&shop, "shop/v1.4".to_owned(), &b"the manifest"[..]), (&policy, policy_path(&app), &floor)]
    {
        for name in role.targets[&path].consistent_names(&path) {
            let file = dir.join("targets").join(name);
            fs::create_dir_all(file.parent().context("a target is in a directory")?)?;
            fs::write(file, bytes)?;
        }
    }
    Ok(())
}

#[test]
fn python_tuf_reads_what_we_write() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    write_ours(dir.path())?;
    let paths = ["shop/v1.4", "_policy/shop", "shop/v9", "blog/v1"];
    let found: Value = serde_json::from_str(&run(script("read", dir.path())?.args(paths))?)?;
    let expected = json!({
        "shop/v1.4": [{"app": "shop", "release": "v1.4", "counter": 4}, "the manifest"],
        "_policy/shop": [{"min_release_counter": 3}, "{\"min_release_counter\":3}"],
        "shop/v9": null,
        "blog/v1": null,
    });
    assert_eq!(found, expected);

    // And it is our signatures that it believes.
    let file = dir.path().join("metadata/1.apps%2Fshop.json");
    let tampered = fs::read_to_string(&file)?.replace("\"counter\":4", "\"counter\":5");
    fs::write(&file, tampered)?;
    assert!(run(script("read", dir.path())?.arg("shop/v1.4")).is_err());
    Ok(())
}

#[test]
fn we_read_what_python_tuf_writes() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    run(&mut script("write", dir.path())?)?;
    let fetch = |need: &landfall_trust::Need| -> anyhow::Result<Option<Vec<u8>>> {
        Ok(fs::read(dir.path().join("metadata").join(&need.name)).ok())
    };
    let store = TrustedStore::initialise(&fs::read(dir.path().join("root.json"))?)?;
    let mut updater = Updater::start(store, now(), Limits::default())?;
    let mut stored = BTreeMap::new();
    let mut keep = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        stored.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    };
    updater.drive(fetch, &mut keep)?;
    assert_eq!(updater.root().header.version, 2);
    for (path, role, custom) in [
        ("plain.txt", "targets", None),
        ("binned file.txt", "bin", Some(json!({"ä": ["é", {"n": -3}]}))),
        ("team/a.txt", "teams/one", None),
        ("team/nested/b.txt", "../nested", Some(json!({"deep": true}))),
    ] {
        let target = updater.find_with(path, fetch, &mut keep)?.with_context(|| format!("no {path}"))?;
        assert_eq!((target.role.as_str(), &target.file.custom), (role, &custom), "{path}");
        let names = target.file.consistent_names(path);
        assert_eq!(names.len(), 2);
        for name in names {
            target.check(&fs::read(dir.path().join("targets").join(name))?)?;
        }
        assert!(matches!(target.check(b"other"), Err(TrustError::WrongDigest { .. })));
    }
    assert_eq!(updater.find_with("team/none.txt", fetch, &mut keep)?, None);
    assert!(stored.contains_key("..%2Fnested.json"));
    Ok(())
}
