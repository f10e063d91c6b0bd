//! Bytecode that an interpreter writes beside its sources, or to a tree of its own.

use std::ffi::OsStr;
use std::path::Path;

use super::question::Area;

/// What interpreters call the directory of their bytecode,
pub(super) const CACHE: &str = "__pycache__";
/// and how the recipes call the one to which `PYTHONPYCACHEPREFIX` leads, below `{prepared}`: a tree of its own.
const CACHES: &str = "pycache";

/// `__pycache__/name.cpython-311.pyc`, or what such a file is called while it is written.
pub(super) fn is_bytecode(area: Area, path: &Path) -> bool {
    let in_cache = path.parent().and_then(Path::file_name) == Some(OsStr::new(CACHE));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, tail) = name.rsplit_once(".pyc").unwrap_or_default();
    let is_compiled = !stem.is_empty() && (tail.is_empty() || tail.strip_prefix('.').is_some_and(is_number));
    // Without the interpreter's tag it could be imported by its name.
    is_compiled && (in_cache || is_in_caches(area, path) && stem.contains('.'))
}

/// Whether this is the tree of an interpreter's bytecode, or below it.
pub(super) fn is_in_caches(area: Area, path: &Path) -> bool {
    area == Area::Prepared && path.components().any(|part| part.as_os_str() == CACHES)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
