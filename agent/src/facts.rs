//! Facts of the host: what a person wants to know when hosts of one group differ.
//!
//! Small files are read and no process is started. What a host does not tell is left out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where a C library may be; the first that is there counts.
const LIBC: [&str; 5] = [
    "lib/x86_64-linux-gnu/libc.so.6",
    "lib/aarch64-linux-gnu/libc.so.6",
    "lib64/libc.so.6",
    "usr/lib/libc.so.6",
    "lib/libc.so.6",
];

/// What stands in glibc before its version.
const GLIBC: &[u8] = b"GNU C Library ";

/// A library larger than this is not looked through.
const MAX_LIBC_BYTES: u64 = 16 * 1024 * 1024;

/// The facts, with the releases in `apps`.
#[must_use]
pub fn read(apps: &Path) -> BTreeMap<String, String> {
    below(Path::new("/"), apps)
}

fn below(root: &Path, apps: &Path) -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let all = [
        ("arch", Some(std::env::consts::ARCH.to_owned())),
        ("agent", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("kernel", Some(rustix::system::uname().release().to_string_lossy().into_owned())),
        ("cores", (cores > 0).then(|| cores.to_string())),
        ("distribution", distribution(root)),
        ("libc", libc(root)),
        ("python", python(root)),
        ("filesystem", filesystem(root, apps)),
        ("disk", disk(root, apps)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn distribution(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("etc/os-release")).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?.trim_matches('"').to_owned();
    // Debian's point releases are in no other place.
    let point = fs::read_to_string(root.join("etc/debian_version")).unwrap_or_default();
    let point = point.trim();
    Some(if point.contains('.') && name.starts_with("Debian") { format!("{name} ({point})") } else { name })
}

/// The host's own, whatever this program was linked with: glibc says its version in a sentence of its own.
fn libc(root: &Path) -> Option<String> {
    let found = LIBC.iter().map(|path| root.join(path)).find_map(|path| fs::File::open(path).ok());
    let Some(file) = found else {
        let musl = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
        let mut names = musl.map(|entry| entry.file_name().to_string_lossy().into_owned());
        return names.any(|name| name.starts_with("ld-musl-")).then(|| "musl".to_owned());
    };
    let mut reader = BufReader::with_capacity(64 * 1024, file.take(MAX_LIBC_BYTES));
    let mut line = Vec::new();
    // It ends with a line feed, and nothing before it in the file is longer than the file.
    while reader.read_until(b'\n', &mut line).ok()? > 0 {
        if let Some(at) = line.windows(GLIBC.len()).position(|window| window == GLIBC) {
            let text = String::from_utf8_lossy(&line[at + GLIBC.len()..]).into_owned();
            let package =
                text.strip_prefix('(').and_then(|text| text.split_once(')')).map(|(package, _)| package);
            let version = text.split("version ").nth(1).map(|rest| rest.trim_end().trim_end_matches('.'));
            return Some(match (version, package) {
                (Some(version), Some(package)) => format!("glibc {version} ({package})"),
                (Some(version), None) => format!("glibc {version}"),
                (None, _) => "glibc".to_owned(),
            });
        }
        line.clear();
    }
    None
}

/// The system's Python: the version that its link names, and of which package it is, where dpkg knows.
fn python(root: &Path) -> Option<String> {
    let link = fs::read_link(root.join("usr/bin/python3")).ok()?;
    let name = link.file_name()?.to_str()?.to_owned();
    let plain = name.strip_prefix("python").unwrap_or(&name).to_owned();
    Some(package_version(root, &name).unwrap_or(plain))
}

/// The version of an installed package.
fn package_version(root: &Path, package: &str) -> Option<String> {
    let file = fs::File::open(root.join("var/lib/dpkg/status")).ok()?;
    let wanted = format!("Package: {package}");
    let mut is_it = false;
    for line in BufReader::new(file).lines() {
        let line = line.ok()?;
        if line.starts_with("Package: ") {
            is_it = line == wanted;
        } else if is_it && let Some(version) = line.strip_prefix("Version: ") {
            return Some(version.to_owned());
        }
    }
    None
}

/// The kind of file system that holds the releases.
fn filesystem(root: &Path, apps: &Path) -> Option<String> {
    let (kind, _) = mounted(root, apps)?;
    Some(kind)
}

/// The kind and the source of the file system that holds a path.
fn mounted(root: &Path, path: &Path) -> Option<(String, PathBuf)> {
    let text = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let wanted = number(fs::metadata(path).ok()?.dev());
    // `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: proc(5)
    let line = text.lines().find(|line| line.split(' ').nth(2) == Some(&wanted))?;
    let mut words = line.split_once(" - ")?.1.split(' ');
    Some((words.next()?.to_owned(), words.next()?.into()))
}

/// A device as the kernel names it.
fn number(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// Whether that disk turns.
fn disk(root: &Path, apps: &Path) -> Option<String> {
    let held = fs::metadata(apps).ok()?.dev();
    // A file system of several disks, such as btrfs, has a number of its own, which is none of a disk; it names one.
    let source =
        mounted(root, apps).and_then(|(_, source)| fs::metadata(source).ok()).map(|source| source.rdev());
    let turns = |device: u64| {
        let link = root.join(format!("sys/dev/block/{}", number(device)));
        let place: PathBuf = fs::canonicalize(link).ok()?;
        // A partition has no queue of its own; the disk that it is on does.
        let queue = [place.join("queue/rotational"), place.parent()?.join("queue/rotational")];
        queue.iter().find_map(|path| fs::read_to_string(path).ok())
    };
    let turns = turns(held).or_else(|| turns(source.filter(|device| *device != 0)?))?;
    Some(if turns.trim() == "1" { "rotating" } else { "solid state" }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_debian_host_says_of_itself_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let write = |path: &str, content: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("etc/os-release", b"NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        write("etc/debian_version", b"12.8\n");
        let library = b"\x7fELF\n\0\0GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable release version 2.36.\nCopyright";
        write("lib/x86_64-linux-gnu/libc.so.6", library);
        write("usr/bin/python3.11", b"");
        std::os::unix::fs::symlink("python3.11", root.join("usr/bin/python3")).unwrap();
        write("var/lib/dpkg/status", b"Package: python3\nVersion: 3.11.2-1\n\nPackage: python3.11\nStatus: x\nVersion: 3.11.2-6+deb12u4\n\n");
        let device = fs::metadata(root).unwrap().dev();
        let mounts = format!("36 35 {} / /srv rw - ext4 /dev/sda1 rw\n", number(device));
        write("proc/self/mountinfo", mounts.as_bytes());
        write(&format!("sys/dev/block/{}/queue/rotational", number(device)), b"1\n");
        let facts = below(root, root);
        assert_eq!((&*facts["filesystem"], &*facts["disk"]), ("ext4", "rotating"));
        assert_eq!(facts["distribution"], "Debian GNU/Linux 12 (bookworm) (12.8)");
        assert_eq!(facts["libc"], "glibc 2.36 (Debian GLIBC 2.36-9+deb12u9)");
        assert_eq!(facts["python"], "3.11.2-6+deb12u4");
        assert!(!facts["kernel"].is_empty() && !facts["arch"].is_empty());
    }

    #[test]
    fn what_a_host_does_not_tell_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let facts = below(directory.path(), Path::new("/nonexistent"));
        assert!(
            !["distribution", "libc", "python", "disk", "filesystem"].iter().any(|f| facts.contains_key(*f))
        );
    }
}
