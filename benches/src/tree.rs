//! The tree that is released: as many files, and as large when compressed, as a virtualenv with Django.

use std::fs;
use std::io;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// As in the peers' figures: 6,000 files, about 10 MB as tar.gz.
pub const FILES: usize = 6_000;

/// How many of them a code-only release changes.
pub const CHANGED: usize = 20;

const FILES_PER_DIRECTORY: usize = 40;

/// Writes the tree of `version` below `directory`, the same one each time. Two versions differ in
/// [`CHANGED`] files.
///
/// # Errors
/// If a file cannot be written.
pub fn write(directory: &Path, version: u64) -> io::Result<()> {
    (0..FILES).filter(|index| !changes(*index)).try_for_each(|index| write_file(directory, index, 0))?;
    change(directory, version)
}

/// Writes only the files in which `version` differs from the others.
///
/// # Errors
/// If a file cannot be written.
pub fn change(directory: &Path, version: u64) -> io::Result<()> {
    (0..FILES).filter(|index| changes(*index)).try_for_each(|index| write_file(directory, index, version))
}

fn changes(index: usize) -> bool {
    index.is_multiple_of(FILES / CHANGED)
}

fn write_file(directory: &Path, index: usize, version: u64) -> io::Result<()> {
    let folder = directory.join(format!("package{:03}", index / FILES_PER_DIRECTORY));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("module{index:05}.py")), source(index as u64 + version * 1_000_000))
}

/// Something that compresses like source code: words of a small vocabulary with a few rare ones.
fn source(seed: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let words = random.random_range(300..1_400);
    let mut text = String::new();
    for number in 0..words {
        if random.random_ratio(1, 6) {
            text.push_str(&format!("{:08x}", random.random::<u32>()));
        } else {
            text.push_str(VOCABULARY[random.random_range(0..VOCABULARY.len())]);
        }
        text.push(if number % 9 == 8 { '\n' } else { ' ' });
    }
    text
}

const VOCABULARY: [&str; 24] = [
    "def", "self", "return", "import", "from", "class", "if", "not", "None", "for", "in", "raise", "request",
    "response", "value", "result", "field", "model", "name", "settings", "context", "objects", "query",
    "kwargs",
];
