use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_common::Timestamp;
use landfall_common::report::TAIL_LINES;
use tempfile::TempDir;

use super::*;
use crate::git::Repository;

fn cache(directory: &TempDir) -> ObjectCache {
    ObjectCache::open(directory.path().join("objects")).unwrap()
}

fn globs(list: &[&str]) -> Globs {
    Globs::new(&list.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn pack_all(root: &Path, cache: &ObjectCache) -> Result<Packed, Error> {
    pack(root, &globs(&[]), &globs(&[]), cache, &Silent)
}

fn problems(root: &Path) -> Vec<String> {
    let scratch = TempDir::new().unwrap();
    match pack_all(root, &cache(&scratch)) {
        Err(Error::Tree { problems }) => problems,
        other => panic!("it should have been refused: {other:?}"),
    }
}

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (name, content) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

#[test]
fn two_packings_of_the_same_tree_give_the_same_digest_and_all_its_objects() {
    let files = [("a.txt", "a"), ("sub/b.txt", "b"), ("sub/deep/c", "a"), ("run", "#!/bin/sh\n")];
    let (first, second) = (tree(&files), tree(&files));
    for root in [&first, &second] {
        fs::set_permissions(root.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("sub/b.txt", root.path().join("link")).unwrap();
    }
    // Neither times nor the rest of the mode count.
    fs::set_permissions(second.path().join("a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let packed = pack_all(first.path(), &cache(&one)).unwrap();
    assert_eq!(packed, pack_all(second.path(), &cache(&two)).unwrap());
    assert_eq!((packed.file_count, packed.total_bytes), (4, 13));
    // Three directories and three different contents.
    let found = objects(packed.tree, &cache(&one)).unwrap().unwrap();
    assert_eq!(found.len(), 6);
    for digest in found.keys() {
        cache(&one).verify(digest).unwrap();
    }

    fs::set_permissions(second.path().join("run"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_ne!(packed.tree, pack_all(second.path(), &cache(&two)).unwrap().tree);
}

#[test]
fn a_file_larger_than_a_piece_is_packed_in_pieces() {
    let root = tree(&[]);
    let content: Vec<u8> = (0..3_000_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    fs::write(root.path().join("large"), &content).unwrap();
    let scratch = TempDir::new().unwrap();
    let packed = pack_all(root.path(), &cache(&scratch)).unwrap();
    assert_eq!(packed.total_bytes, 3_000_000);
    let digest = Sha256::of(&content);
    assert_eq!(cache(&scratch).read(&digest, content.len()).unwrap(), content);
}

#[test]
fn a_damaged_object_is_noticed_and_removed() {
    let scratch = TempDir::new().unwrap();
    let cache = cache(&scratch);
    let digest = cache.put(b"content").unwrap();
    fs::write(cache.path(&digest), b"torn").unwrap();
    assert!(matches!(cache.verify(&digest), Err(Error::CacheDamaged { .. })));
    assert!(!cache.has(&digest));
}

#[test]
fn excluded_files_and_the_git_directory_are_left_out() {
    let root = tree(&[
        (".git/config", "x"),
        ("keep.txt", "x"),
        ("docs/a.md", "x"),
        ("sub/readme.md", "x"),
        ("node_modules/x/y.js", "x"),
        ("static/app.map", "x"),
    ]);
    // What is excluded need not be fit for a release either.
    symlink("/etc/passwd", root.path().join("node_modules/link")).unwrap();
    let scratch = TempDir::new().unwrap();
    let exclude = globs(&["*.md", "node_modules/**", "static/*.map"]);
    let packed = pack(root.path(), &exclude, &globs(&[]), &cache(&scratch), &Silent).unwrap();
    assert_eq!(packed.file_count, 1);
    let bytes = cache(&scratch).read(&packed.tree, 10_000).unwrap();
    let names: Vec<_> = Directory::from_bytes(&bytes).unwrap().entries.into_keys().collect();
    assert_eq!(names, ["docs", "keep.txt", "static", "sub"]);
}

#[test]
fn the_schema_is_the_digest_of_the_files_that_define_it() {
    let root = tree(&[("app/migrations/0001.py", "one"), ("app/views.py", "v")]);
    let scratch = TempDir::new().unwrap();
    let schema = || {
        let files = globs(&["*/migrations/*.py"]);
        pack(root.path(), &globs(&[]), &files, &cache(&scratch), &Silent).unwrap().schema.unwrap()
    };
    let before = schema();
    fs::write(root.path().join("app/views.py"), "other").unwrap();
    assert_eq!(schema(), before);
    fs::write(root.path().join("app/migrations/0002.py"), "two").unwrap();
    assert_ne!(schema(), before);
    assert_eq!(pack_all(root.path(), &cache(&scratch)).unwrap().schema, None);
}

#[test]
fn everything_that_a_release_must_not_hold_is_named_at_once() {
    use std::os::unix::ffi::OsStrExt as _;
    let root =
        tree(&[("ok", ""), ("Readme", ""), ("README", ""), ("line\nbreak", ""), ("suid", ""), ("d/x", "")]);
    fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "").unwrap();
    fs::write(root.path().join("caf\u{e9}"), "").unwrap();
    fs::write(root.path().join("cafe\u{301}"), "").unwrap();
    fs::set_permissions(root.path().join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/etc/passwd", root.path().join("absolute")).unwrap();
    symlink("../../x", root.path().join("d/up")).unwrap();
    symlink("../ok", root.path().join("d/inside")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let pipe = root.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    insta::assert_snapshot!(problems(root.path()).join("\n"), @r#"
    Readme: its name differs from "README" only by case or Unicode form
    absolute: the link to "/etc/passwd" is absolute: make it relative, so that it holds wherever the release lies
    café: its name differs from "cafe\u{301}" only by case or Unicode form
    d/up: the link to "../../x" leaves the release
    latin-�: its name is not UTF-8
    line\nbreak: its name holds a control character or is too long
    pipe: it is a pipe; only files, directories and links can be released
    socket: it is a socket; only files, directories and links can be released
    suid: it has mode 4755; set-uid, set-gid and sticky bits are refused
    "#);
    drop(socket);
}

#[test]
fn an_empty_tree_is_refused() {
    let root = tree(&[(".git/config", "x")]);
    let scratch = TempDir::new().unwrap();
    assert!(matches!(pack_all(root.path(), &cache(&scratch)), Err(Error::EmptyTree)));
}

/// A tar archive of these entries, names written as they are.
fn archive(entries: &[(&str, tar::EntryType, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let data = if link { &[] } else { content.as_bytes() };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_writes_nowhere_but_below_its_directory() {
    use tar::EntryType as T;
    for (entries, reason) in [
        (vec![("../x", T::Regular, "", 0o644)], "outside"),
        (vec![("/tmp/x", T::Regular, "", 0o644)], "outside"),
        (vec![("a/../../x", T::Regular, "", 0o644)], "outside"),
        (vec![("a", T::Symlink, "/tmp", 0o777), ("a/x", T::Regular, "", 0o644)], "not a directory"),
        (vec![("a", T::Symlink, "/etc/passwd", 0o777), ("a", T::Regular, "x", 0o644)], "twice"),
        (vec![("a", T::Link, "/etc/passwd", 0o644)], "hard link"),
        (vec![("a", T::Link, "../../etc/passwd", 0o644)], "hard link"),
        (vec![("a", T::Char, "", 0o644)], "devices"),
        (vec![("a", T::Fifo, "", 0o644)], "pipes"),
        (vec![("a", T::Regular, "", 0o4755)], "mode 4755"),
    ] {
        let into = TempDir::new().unwrap();
        let root = into.path().join("inner");
        fs::create_dir(&root).unwrap();
        let error = unpack::tar(&archive(&entries)[..], &root, None, "x.tar").unwrap_err().to_string();
        assert!(error.contains(reason), "{entries:?}: {error}");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1, "{entries:?} wrote outside");
    }
}

#[test]
fn an_archive_unpacks_to_no_more_than_its_bounds() {
    use tar::EntryType as T;
    let unpack = |entries: &[(&str, T, &str, u32)], bytes, entries_bound| {
        let into = TempDir::new().unwrap();
        let bounds = unpack::Bounds { bytes, entries: entries_bound };
        let result = unpack::tar_within(bounds, &archive(entries)[..], into.path(), None, "x.tar");
        let written = fs::metadata(into.path().join("b")).map_or(0, |file| file.len());
        (result.map_err(|error| error.to_string()), written)
    };
    let file = |name| (name, T::Regular, "12345678", 0o644);
    assert_eq!(unpack(&[file("a"), file("b")], 16, 2).0, Ok(()));
    let (refused, written) = unpack(&[file("a"), file("b")], 10, 2);
    insta::assert_snapshot!(refused.unwrap_err(), @r#"x.tar is refused: "b": with it the archive unpacks to more than 2 entries or 10 B, which no release may hold"#);
    assert!(written <= 3, "{written} bytes were written, although 2 were left");
    assert!(unpack(&[file("a"), file("b"), file("c")], 100, 2).0.unwrap_err().contains("\"c\""));
    // A link is a copy.
    assert!(unpack(&[file("a"), ("b", T::Link, "a", 0o644)], 10, 2).0.is_err());
}

#[test]
fn a_cut_archive_is_refused_and_a_whole_one_is_unpacked_in_any_compression() {
    use tar::EntryType as T;
    let plain = archive(&[
        ("./", T::Directory, "", 0o755),
        ("./d/a", T::Regular, "hello", 0o755),
        ("l", T::Symlink, "d/a", 0o777),
        ("h", T::Link, "d/a", 0o644),
    ]);
    let scratch = TempDir::new().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    let forms = [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()];
    for (index, form) in forms.iter().enumerate() {
        let file = scratch.path().join(format!("{index}.tar"));
        fs::write(&file, form).unwrap();
        let root = scratch.path().join(format!("{index}"));
        fs::create_dir(&root).unwrap();
        unpack::tar(unpack::open(&file).unwrap(), &root, None, "x.tar").unwrap();
        assert_eq!(fs::read_to_string(root.join("h")).unwrap(), "hello");
        assert_eq!(fs::read_link(root.join("l")).unwrap(), Path::new("d/a"));
    }
    let root = TempDir::new().unwrap();
    let cut = &plain[..plain.len() - 2048 - 300];
    assert!(matches!(unpack::tar(cut, root.path(), None, "x.tar"), Err(Error::Archive { .. })));
}

/// A repository with one commit, made without the configuration of whoever runs the test.
struct Repo {
    root: TempDir,
}

impl Repo {
    fn new(files: &[(&str, &str)]) -> Self {
        let repo = Self { root: tree(files) };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo.commit("first");
        repo
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.root.path())
            .args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", "2026-11-21T10:00:00Z")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    fn open(&self) -> Repository {
        Repository::discover(self.root.path()).unwrap()
    }
}

#[test]
fn a_tag_gives_the_tree_of_its_commit_and_never_the_working_directory() {
    let repo = Repo::new(&[("landfall.toml", "x"), ("a", "committed")]);
    repo.git(&["tag", "--annotate", "v1.0", "--message", "Notes\n\nwith a body"]);
    repo.git(&["tag", "light"]);
    assert!(!repo.open().is_dirty().unwrap());
    fs::write(repo.root.path().join("a"), "dirty").unwrap();
    fs::write(repo.root.path().join("untracked"), "").unwrap();

    let opened = repo.open();
    assert!(opened.is_dirty().unwrap());
    let tag = opened.tag("v1.0").unwrap();
    assert_eq!(tag.message.as_deref(), Some("Notes\n\nwith a body"));
    let light = opened.tag("light").unwrap();
    assert_eq!((light.commit.as_str(), light.message), (tag.commit.as_str(), None));
    let commit = opened.commit(&tag.commit).unwrap();
    assert_eq!(commit.author, "Ana <ana@example.org>");
    assert_eq!(
        (commit.subject.as_str(), commit.committed_at),
        ("first", "2026-11-21T10:00:00Z".parse().unwrap())
    );

    let into = TempDir::new().unwrap();
    opened.archive(&commit, "", into.path()).unwrap();
    assert_eq!(fs::read_to_string(into.path().join("a")).unwrap(), "committed");
    assert!(!into.path().join("untracked").exists());
    let modified = fs::metadata(into.path().join("a")).unwrap().modified().unwrap();
    assert_eq!(
        modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
        u128::from(commit.committed_at.ms())
    );
}

#[test]
fn a_tag_that_is_missing_is_answered_with_the_one_most_like_it() {
    let repo = Repo::new(&[("a", "")]);
    repo.git(&["tag", "v1.4"]);
    repo.git(&["tag", "nightly"]);
    let Err(Error::NoTag { near, .. }) = repo.open().tag("v1.5") else { panic!() };
    assert_eq!(near.as_deref(), Some("v1.4"));
    assert!(matches!(repo.open().tag("--help"), Err(Error::NoTag { .. })));
}

#[test]
fn a_directory_without_a_repository_is_named() {
    let nowhere = TempDir::new().unwrap();
    assert!(matches!(Repository::discover(nowhere.path()), Err(Error::NotARepository { .. })));
}

#[test]
fn the_definition_is_looked_for_from_where_the_command_was_typed_upwards() {
    let repo = Repo::new(&[("apps/web/landfall.toml", ""), ("apps/web/src/x", ""), ("other/x", "")]);
    repo.git(&["tag", "v1"]);
    let from = |path: &str| {
        let repository = Repository::discover(&repo.root.path().join(path)).unwrap();
        repository.application_root(&repository.tag("v1").unwrap().commit)
    };
    assert_eq!(from("apps/web/src").unwrap(), "apps/web");
    assert!(matches!(from("other"), Err(Error::NoDefinition { .. })));
    let repository = Repository::discover(&repo.root.path().join("apps/web/src")).unwrap();
    let commit = repository.commit("v1").unwrap();
    let into = TempDir::new().unwrap();
    repository.archive(&commit, "apps/web", into.path()).unwrap();
    assert!(into.path().join("src/x").exists() && !into.path().join("apps").exists());
}

#[test]
fn submodules_and_lfs_pointers_are_named() {
    let repo = Repo::new(&[("a", "")]);
    let commit = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},vendor/lib")]);
    repo.git(&["commit", "--quiet", "--message", "submodule"]);
    let archive = |repo: &Repo| {
        let opened = repo.open();
        let commit = opened.commit("HEAD").unwrap();
        opened.archive(&commit, "", TempDir::new().unwrap().path()).unwrap_err()
    };
    assert!(matches!(archive(&repo), Error::Submodules(names) if names == ["vendor/lib"]));

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    let repo = Repo::new(&[("big.bin", pointer)]);
    assert!(matches!(archive(&repo), Error::LfsPointers(names) if names == ["big.bin"]));
}

#[test]
fn changes_are_the_commits_between_two_releases() {
    let repo = Repo::new(&[("a", "1")]);
    let first = repo.git(&["rev-parse", "HEAD"]);
    fs::write(repo.root.path().join("a"), "2").unwrap();
    repo.commit("second");
    let changes = repo.open().changes(Some(&first), "HEAD").unwrap();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].ends_with(" second"), "{changes:?}");
    assert_eq!(repo.open().changes(Some(&"0".repeat(40)), "HEAD").unwrap().len(), 2);
}

#[derive(Default)]
struct Lines(Vec<String>);

impl crate::builder::Listener for Lines {
    fn step(&mut self, name: &str, _command: &[String]) {
        self.0.push(format!("[{name}]"));
    }
    fn line(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

fn build(script: &str, timeout_ms: u64) -> (Result<(), Error>, Vec<String>, PathBuf, TempDir) {
    let scratch = TempDir::new().unwrap();
    let step = landfall_common::manifest::Step {
        name: landfall_common::StepName::new("styles").unwrap(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("WORD".to_owned(), "given".to_owned())].into(),
        timeout: std::time::Duration::from_millis(timeout_ms),
        network: None,
    };
    let log = scratch.path().join("logs/build.log");
    let mut lines = Lines::default();
    let time: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let built = runtime.block_on(crate::builder::run(&[step], scratch.path(), time, &log, &mut lines));
    (built, lines.0, log, scratch)
}

#[test]
fn a_build_step_runs_in_the_tree_with_its_environment_and_its_output_is_kept() {
    let (built, lines, log, scratch) =
        build("echo $WORD $SOURCE_DATE_EPOCH; echo oops >&2; echo x > made", 60_000);
    built.unwrap();
    assert!(
        lines.contains(&"given 1795255200".to_owned()) && lines.contains(&"oops".to_owned()),
        "{lines:?}"
    );
    assert!(scratch.path().join("made").exists());
    assert!(fs::read_to_string(log).unwrap().contains("oops\n"));
}

#[test]
fn a_build_step_that_fails_shows_its_exit_code_and_last_lines() {
    let (built, ..) = build("seq 1 50; echo broken >&2; exit 3", 60_000);
    let Err(Error::Build { step, reason, tail, .. }) = built else { panic!("{built:?}") };
    assert_eq!((step.as_str(), reason.as_str(), tail.len()), ("styles", "exit code 3", TAIL_LINES));
    assert!(tail.contains(&"broken".to_owned()), "{tail:?}");
}

#[test]
fn a_build_step_that_hangs_is_ended_with_all_that_it_started() {
    let (built, lines, ..) = build("sleep 600 & echo started; wait", 300);
    let Err(Error::Build { reason, .. }) = built else { panic!("{built:?}") };
    assert!(reason.contains("timeout of 300ms"), "{reason}");
    assert_eq!(lines, ["[styles]", "started"]);
}

#[test]
fn a_build_step_that_leaves_a_process_behind_does_not_hold_the_build_up() {
    let (built, ..) = build("sleep 600 & exit 0", 60_000);
    built.unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let (built, ..) = build("exec /no/such/program", 60_000);
    assert!(matches!(built, Err(Error::Build { .. })));
}

#[test]
fn a_file_is_found_by_its_path_and_what_is_none_is_refused() {
    let root = tree(&[("images/web.tar", "saved"), ("images/deep/x", "y")]);
    symlink("images/web.tar", root.path().join("link")).unwrap();
    let scratch = TempDir::new().unwrap();
    let cache = cache(&scratch);
    let packed = pack_all(root.path(), &cache).unwrap();
    assert_eq!(file(&packed.tree, "images/web.tar", &cache).unwrap(), Sha256::of(b"saved"));
    for path in ["images", "images/deep", "images/web.tar/x", "web.tar", "link", "images/other"] {
        let error = file(&packed.tree, path, &cache).unwrap_err();
        assert!(matches!(error, Error::ImageFile { .. }), "{path}: {error}");
    }
}
