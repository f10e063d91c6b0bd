//! A client for any TUF repository over HTTP, in three commands:
//!
//! ```text
//! tuf_client --metadata-dir D init ROOT
//! tuf_client --metadata-dir D --metadata-url U refresh
//! tuf_client --metadata-dir D --metadata-url U --target-name T --target-base-url B --target-dir D2 download
//! ```
//!
//! Exit code 0 or 1. It shows all that a shell around [`Updater`] has to do: load files, fetch, write durably,
//! tell the time. The public TUF conformance suite drives it (`tests/tuf-conformance.sh`).

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use landfall_common::Timestamp;
use landfall_trust::store::FLOORS;
use landfall_trust::updater::Target;
use landfall_trust::{Limits, Need, TrustedStore, Updater};

#[derive(Parser)]
struct Args {
    /// Where trusted metadata is kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Where the repository serves metadata.
    #[arg(long)]
    metadata_url: Option<String>,
    /// A target to download; may be repeated.
    #[arg(long)]
    target_name: Vec<String>,
    /// Where the repository serves targets.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where downloaded targets are put.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trust this root from now on.
    Init {
        /// The root's metadata file.
        trusted_root: PathBuf,
    },
    /// Bring the top-level metadata up to date.
    Refresh,
    /// Refresh, then download the named targets.
    Download,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Init { trusted_root } => init(&args.metadata_dir, trusted_root),
        Command::Refresh => Client::refreshed(args).map(drop),
        Command::Download => {
            let mut client = Client::refreshed(args)?;
            args.target_name.iter().try_for_each(|name| client.download(args, name))
        }
    }
}

fn init(dir: &Path, trusted_root: &Path) -> anyhow::Result<()> {
    let root = fs::read(trusted_root).with_context(|| format!("cannot read {}", trusted_root.display()))?;
    let store = TrustedStore::initialise(&root)?;
    store.files().iter().try_for_each(|(name, bytes)| write_durably(&dir.join(name), bytes))
}

struct Client {
    updater: Updater,
    metadata: Files,
}

/// What the updater fetches from and stores to.
struct Files {
    http: ureq::Agent,
    url: String,
    dir: PathBuf,
}

impl Client {
    fn refreshed(args: &Args) -> anyhow::Result<Self> {
        let url = args.metadata_url.clone().context("--metadata-url is missing")?;
        let dir = args.metadata_dir.clone();
        let http = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let now = Timestamp::from_ms(u64::try_from(now.as_millis())?);
        let updater = Updater::start(load(&dir)?, now, Limits::default())?;
        let mut client = Self { updater, metadata: Files { http, url, dir } };
        let files = &client.metadata;
        client.updater.drive(|need| files.fetch(need), |name, bytes| files.store(name, bytes))?;
        Ok(client)
    }

    fn download(&mut self, args: &Args, name: &str) -> anyhow::Result<()> {
        let base = args.target_base_url.as_ref().context("--target-base-url is missing")?;
        let dir = args.target_dir.as_ref().context("--target-dir is missing")?;
        let files = &self.metadata;
        let found =
            self.updater.find_with(name, |need| files.fetch(need), |name, bytes| files.store(name, bytes))?;
        let target = found.with_context(|| format!("no trusted role knows {name:?}"))?;
        // As one path component, whatever the target is called.
        let path = dir.join(landfall_trust::metadata::file_name(name, None));
        if fs::read(&path).is_ok_and(|bytes| target.check(&bytes).is_ok()) {
            return Ok(());
        }
        write_durably(&path, &self.fetch_target(base, &target)?)
    }

    fn fetch_target(&self, base: &str, target: &Target) -> anyhow::Result<Vec<u8>> {
        let name = match self.updater.root().consistent_snapshot {
            true => target.file.consistent_names(&target.path).into_iter().next(),
            false => Some(target.path.clone()),
        };
        let name = name.context("the target has no digest")?;
        let bytes = get(&self.metadata.http, base, &name, target.file.length)?
            .with_context(|| format!("the repository has no {name}"))?;
        target.check(&bytes)?;
        Ok(bytes)
    }
}

impl Files {
    fn fetch(&self, need: &Need) -> anyhow::Result<Option<Vec<u8>>> {
        get(&self.http, &self.url, &need.name, need.max_length)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_durably(&self.dir.join(name), bytes)
    }
}

/// Reads one byte more than is allowed, so that the updater sees that there is too much.
fn get(http: &ureq::Agent, base: &str, name: &str, max_length: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let url = format!("{}/{name}", base.trim_end_matches('/'));
    let mut response = http.get(&url).call().with_context(|| format!("cannot fetch {url}"))?;
    match response.status().as_u16() {
        200 => {}
        403 | 404 => return Ok(None),
        status => bail!("{url} answers with status {status}"),
    }
    let mut bytes = Vec::new();
    let reader = response.body_mut().as_reader();
    reader
        .take(max_length.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {url}"))?;
    Ok(Some(bytes))
}

fn load(dir: &Path) -> anyhow::Result<TrustedStore> {
    let mut files = Vec::new();
    for (part, prefix) in [(dir.to_owned(), ""), (dir.join("root_history"), "root_history/")] {
        let entries = match fs::read_dir(&part) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", part.display())),
        };
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_file() && (name == FLOORS || path.extension().is_some_and(|end| end == "json")) {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                files.push((format!("{prefix}{name}"), bytes));
            }
        }
    }
    Ok(TrustedStore::from_files(files))
}

/// Temporary file, fsync, rename, fsync of the directory: after a loss of power there is the old content or
/// the new one.
fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = dir.join(name);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
