//! What is released: a published release as it is, a tree that was packed before, or a new one.

use std::path::{Path, PathBuf};

use landfall_common::definition::{Definition, FILE_NAME};
use landfall_common::manifest::{FORMAT, Follows, Manifest, Origin};
use landfall_common::{AppName, ReleaseName, Sha256};
use rustix::fs::FlockOperation;

use super::preflight::{self, Who};
use crate::builder;
use crate::cli::Release;
use crate::client::Client;
use crate::client::status::OBJECT_DAMAGED;
use crate::command::{Session, parse_definition, read_definition};
use crate::config::Profile;
use crate::error::Error;
use crate::files::{self, Access};
use crate::git::{self, Commit, Repository};
use crate::output::format;
use crate::output::progress::{Bar, BuildOutput};
use crate::pack::{self, Globs, ObjectCache, Packed, unpack};
use crate::view;

/// What is released.
pub enum Content {
    /// Published already, with the same origin.
    Published(Box<Manifest>),
    /// Packed here.
    New(Box<New>),
}

/// A release that is to be published.
pub struct New {
    /// Its manifest.
    pub manifest: Manifest,
    /// The canonical bytes.
    pub bytes: Vec<u8>,
    /// What changed, for people.
    pub notes: String,
    /// Where its objects are.
    pub cache: ObjectCache,
}

impl Content {
    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Published(manifest) => manifest,
            Self::New(new) => &new.manifest,
        }
    }
}

/// Makes or finds what is released.
///
/// # Errors
/// What is wrong with the tag, the definition, the build, the tree, or the name.
pub async fn obtain(
    session: &Session,
    arguments: &Release,
    profile: &Profile,
    (client, who): (&Client, &Who),
) -> Result<Content, Error> {
    let cache = ObjectCache::open(session.places.cache.join("objects"))?;
    let asked = Asked { session, arguments, profile, client, who };
    match &arguments.artifact {
        Some(path) => artifact(asked, path, cache).await,
        None => tag(asked, cache).await,
    }
}

/// Who asks for what, of whom.
#[derive(Clone, Copy)]
struct Asked<'a> {
    session: &'a Session,
    arguments: &'a Release,
    profile: &'a Profile,
    client: &'a Client,
    who: &'a Who,
}

async fn tag(asked: Asked<'_>, cache: ObjectCache) -> Result<Content, Error> {
    let Asked { session, arguments, profile, client, who } = asked;
    let output = session.output;
    let repository = Repository::discover(&session.directory)?;
    let tag = repository.tag(arguments.name.as_str())?;
    let commit = repository.commit(&tag.commit)?;
    if repository.is_dirty()? {
        output.note(format!(
            "note: the working directory has changes that are not committed; released is the tag {}",
            arguments.name
        ));
    }
    let root = repository.application_root(&commit.id)?;
    let text = repository.file(&commit.id, &git::join(&root, FILE_NAME))?;
    let definition = parse_definition(
        &git::join(&root, FILE_NAME),
        text,
        "correct the file, commit, and tag that commit",
    )?;
    check_application(session, &definition.application)?;
    preflight::definition(session, arguments, who, &definition)?;
    let known = published(client, &definition.application, &arguments.name).await?;
    if let Some(Known { manifest: published, release }) = &known {
        let theirs = match &published.origin {
            Origin::Git { commit, .. } => format!("commit {}", git::short(commit)),
            Origin::Artifact { .. } => "an artifact".to_owned(),
        };
        let same = matches!(&published.origin, Origin::Git { commit: theirs, .. } if *theirs == commit.id);
        if !same {
            let ours = format!("commit {}", git::short(&commit.id));
            return Err(Error::NameTaken { release: arguments.name.to_string(), theirs, ours });
        }
        if release.is_whole() {
            return Ok(Content::Published(Box::new(published.clone())));
        }
        output.note(lacking(release));
    }
    if known.is_none() {
        preflight::signer(profile, arguments, client, &definition.application).await?;
    }
    let notes = arguments.notes.clone().or(tag.message).unwrap_or_default();
    let kept = session
        .places
        .cache
        .join("releases")
        .join(definition.application.as_str())
        .join(format!("{}-{}.json", arguments.name, commit.id));
    if let Some(bytes) = files::read(&kept)?
        && let Ok(manifest) = Manifest::from_bytes(&bytes)
        && pack::objects(manifest.tree, &cache).ok().flatten().is_some()
    {
        output
            .note(format!("{} was built and packed before on this machine; not built again", arguments.name));
        return restored(known.as_ref(), New { manifest, bytes, notes, cache });
    }
    let follows = preflight::follows(session, profile, arguments, client, &definition).await?;
    let packed = build_and_pack(session, &repository, &commit, &root, &definition, &cache).await?;
    let Commit { id, author, committed_at, subject } = commit;
    let origin = Origin::Git { commit: id, author, committed_at, subject };
    let new = assemble((definition, follows), &arguments.name, origin, packed, notes, cache)?;
    if known.is_none() {
        files::write(&kept, &new.bytes, Access::Public)?;
    }
    restored(known.as_ref(), new)
}

/// What the controller lacks of a release that it lists.
fn lacking(release: &view::Release) -> String {
    let name = &release.name;
    match release.removed {
        Some(at) => format!(
            "the controller let go of the files of {name} at {}; they are uploaded again",
            format::time(at)
        ),
        None => format!(
            "{} of {name} were damaged on the controller's disk; they are uploaded again",
            format::count(release.damaged_objects, "object")
        ),
    }
}

/// What was made here stands in for what the controller has lost only if it is the very same: a published name
/// never gets other content, and what is signed again is what was made here, not what the controller says.
fn restored(known: Option<&Known>, new: New) -> Result<Content, Error> {
    let ours = Sha256::of(&new.bytes);
    match known {
        Some(known) if known.release.digest != ours.to_string() => Err(Error::NotReproduced {
            release: new.manifest.release.to_string(),
            theirs: known.manifest.tree.short(),
            ours: new.manifest.tree.short(),
        }),
        _ => Ok(Content::New(Box::new(new))),
    }
}

async fn artifact(asked: Asked<'_>, path: &Path, cache: ObjectCache) -> Result<Content, Error> {
    let Asked { session, arguments, profile, client, who } = asked;
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::usage(
                format!("there is no {}", path.display()),
                "--artifact takes the path of a directory or of a tar archive (.gz, .zst)",
            ));
        }
        other => other.map_err(|source| Error::io("read", path, source))?,
    };
    let scratch;
    let root: &Path = if metadata.is_dir() {
        path
    } else {
        let inside = session.places.cache.join("unpacked");
        files::make_directory(&inside)?;
        scratch = tempfile::TempDir::new_in(&inside).map_err(|source| Error::io("write", &inside, source))?;
        let label = path.display().to_string();
        tokio::task::block_in_place(|| unpack::tar(unpack::open(path)?, scratch.path(), None, &label))?;
        scratch.path()
    };
    let file = arguments.definition.clone().unwrap_or_else(|| root.join(FILE_NAME));
    if arguments.definition.is_none() && !file.is_file() {
        return Err(Error::usage(
            format!("{} holds no landfall.toml", path.display()),
            "put one into its root, or add --definition FILE",
        ));
    }
    let definition = read_definition(&file, "correct the file, then the same command again")?;
    check_application(session, &definition.application)?;
    preflight::definition(session, arguments, who, &definition)?;
    let known = published(client, &definition.application, &arguments.name).await?;
    if known.is_none() {
        preflight::commit(session, arguments, client, &definition).await?;
        preflight::signer(profile, arguments, client, &definition.application).await?;
    }
    let follows = preflight::follows(session, profile, arguments, client, &definition).await?;
    if !definition.build.is_empty() {
        session.output.note("note: an artifact is built already; the [[build]] commands are not run");
    }
    if definition.list_migrations.is_some() {
        session.output.note("note: nothing of an artifact is run here; its migrations are not named");
    }
    let packed = pack_tree(session, root, &definition, &cache)?;
    let origin = Origin::Artifact { commit: arguments.commit.clone() };
    let notes = arguments.notes.clone().unwrap_or_default();
    let new = assemble((definition, follows), &arguments.name, origin, (packed, Vec::new()), notes, cache)?;
    match known {
        None => Ok(Content::New(Box::new(new))),
        Some(known) if known.manifest == new.manifest => {
            if known.release.is_whole() {
                return Ok(Content::Published(Box::new(known.manifest)));
            }
            session.output.note(lacking(&known.release));
            restored(Some(&known), new)
        }
        Some(known) => Err(Error::NameTaken {
            release: arguments.name.to_string(),
            theirs: format!("tree {}", known.manifest.tree.short()),
            ours: format!("tree {}", new.manifest.tree.short()),
        }),
    }
}

/// `--app` beside a definition must say the same.
fn check_application(session: &Session, application: &AppName) -> Result<(), Error> {
    match &session.global.app {
        Some(asked) if asked != application => Err(Error::usage(
            format!("landfall.toml is that of {application}, and --app says {asked}"),
            "leave out --app, or go to the other repository",
        )),
        _ => Ok(()),
    }
}

/// A release that the controller lists.
struct Known {
    release: view::Release,
    manifest: Manifest,
}

async fn published(
    client: &Client,
    application: &AppName,
    name: &ReleaseName,
) -> Result<Option<Known>, Error> {
    let found = match client.release(application, name).await {
        // Its manifest has to be uploaded again, and so it is as if it were not there.
        Err(Error::Refused(refusal)) if refusal.reason == OBJECT_DAMAGED => None,
        other => other?,
    };
    match found {
        Some((release, bytes)) => Ok(Some(Known { release, manifest: Manifest::from_bytes(&bytes)? })),
        None => Ok(None),
    }
}

async fn build_and_pack(
    session: &Session,
    repository: &Repository,
    commit: &Commit,
    root: &str,
    definition: &Definition,
    cache: &ObjectCache,
) -> Result<(Packed, Vec<String>), Error> {
    let place = BuildPlace::take(&session.places.cache, &definition.application)?;
    tokio::task::block_in_place(|| repository.archive(commit, root, &place.tree))?;
    let mut listener = BuildOutput::new(session.output);
    builder::run(&definition.build, &place.tree, commit.committed_at, &place.log, &mut listener).await?;
    let packed = pack_tree(session, &place.tree, definition, cache)?;
    // What it leaves behind is no part of the release.
    let names = match &definition.list_migrations {
        None => Vec::new(),
        Some(list) => {
            let log = place.log.with_file_name("list-migrations.log");
            let names = builder::list(list, &place.tree, commit.committed_at, &log, &mut listener).await?;
            landfall_common::manifest::migration_names(&names).map_err(|reason| Error::Build {
                step: list.name.to_string(),
                reason,
                tail: Vec::new(),
                log,
            })?;
            names
        }
    };
    Ok((packed, names))
}

fn pack_tree(
    session: &Session,
    root: &Path,
    definition: &Definition,
    cache: &ObjectCache,
) -> Result<Packed, Error> {
    let exclude = Globs::new(&definition.exclude)?;
    let schema = Globs::new(&definition.schema_files)?;
    let bar = Bar::new(session.output, "packing");
    let packed = tokio::task::block_in_place(|| pack::pack(root, &exclude, &schema, cache, &bar))?;
    drop(bar);
    if !definition.schema_files.is_empty() && packed.schema.is_none() {
        session.output.note("note: no file matches [migrate] files; the schema is taken as unknown");
    }
    Ok(packed)
}

fn assemble(
    (definition, follows): (Definition, Option<Follows>),
    name: &ReleaseName,
    origin: Origin,
    (packed, names): (Packed, Vec<String>),
    notes: String,
    cache: ObjectCache,
) -> Result<New, Error> {
    let mut program = definition.program;
    program.follows = follows;
    if let Some(migration) = &mut program.migrate {
        migration.schema = packed.schema;
        migration.names = names;
    }
    for (path, digest) in program.image_files_mut() {
        *digest = Some(pack::file(&packed.tree, path, &cache)?);
    }
    let manifest = Manifest {
        format: FORMAT,
        application: definition.application,
        release: name.clone(),
        origin,
        tree: packed.tree,
        file_count: packed.file_count,
        total_bytes: packed.total_bytes,
        program,
        environments: definition.environments,
    };
    let bytes = manifest.to_bytes()?;
    // What hosts would refuse is refused here.
    Manifest::from_bytes(&bytes)?;
    Ok(New { manifest, bytes, notes, cache })
}

/// Where one application is built. The path is the same each time, since compilers write paths into what
/// they make; so only one build at a time has it.
struct BuildPlace {
    tree: PathBuf,
    log: PathBuf,
    _lock: std::fs::File,
}

impl BuildPlace {
    fn take(cache: &Path, application: &AppName) -> Result<Self, Error> {
        let base = cache.join("build");
        files::make_directory(&base)?;
        let lock_path = base.join(format!("{application}.lock"));
        let lock =
            std::fs::File::create(&lock_path).map_err(|source| Error::io("create", &lock_path, source))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::BuildLocked { application: application.to_string() });
        }
        let tree = base.join(application.as_str());
        match std::fs::remove_dir_all(&tree) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &tree, error));
            }
            _ => {}
        }
        files::make_directory(&tree)?;
        let log = cache.join("logs").join(format!("{application}.log"));
        Ok(Self { tree, log, _lock: lock })
    }
}

impl Drop for BuildPlace {
    fn drop(&mut self) {
        // What is left over costs only space, and the next build begins with removing it.
        let _ = std::fs::remove_dir_all(&self.tree);
    }
}
