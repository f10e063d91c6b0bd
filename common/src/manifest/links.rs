//! Symbolic links of a release, followed as the system follows them: through each other.
//!
//! One by one, `sub/up -> ..` and `out -> sub/up/../..` stay inside; together they do not. A link that is nobody's
//! target is judged by where it leads from its own place.

use std::collections::{BTreeMap, VecDeque};

/// Links that are followed for one before it is taken for a loop: as many as Linux follows (path_resolution(7)). It
/// refuses the link from then on, so that it leads nowhere.
const MAX_FOLLOWED: usize = 40;

/// The links of a release, by their path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(BTreeMap<Vec<String>, String>);

impl Links {
    /// Adds the link at a path below the release's root, such as `sub/up`.
    pub fn add(&mut self, path: &str, target: &str) {
        self.0.insert(path.split('/').map(str::to_owned).collect(), target.to_owned());
    }

    /// Follows every link, and gives the path of the first that leaves the release, with the rule that it breaks.
    ///
    /// # Errors
    /// The path and a sentence.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (path, target) in &self.0 {
            self.follow(path, target).map_err(|rule| (path.join("/"), rule))?;
        }
        Ok(())
    }

    fn follow(&self, path: &[String], target: &str) -> Result<(), String> {
        let parent = path.len().saturating_sub(1);
        let mut place: Vec<String> = path[..parent].to_vec();
        let mut ahead: VecDeque<&str> = target.split('/').collect();
        let mut followed = 1;
        while let Some(part) = ahead.pop_front() {
            match part {
                "" | "." => continue,
                ".." => {
                    let left = || format!("the link to {target:?} leaves the release by way of another link");
                    place.pop().ok_or_else(left)?;
                    continue;
                }
                name => place.push(name.to_owned()),
            }
            let Some(next) = self.0.get(&place) else { continue };
            followed += 1;
            if followed > MAX_FOLLOWED {
                return Ok(());
            }
            if next.starts_with('/') {
                return Err(format!("the link to {target:?} leads to {next:?}, which is absolute"));
            }
            place.pop();
            for part in next.split('/').rev() {
                ahead.push_front(part);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn links(of: &[(&str, &str)]) -> Links {
        let mut links = Links::default();
        for (path, target) in of {
            links.add(path, target);
        }
        links
    }

    #[test]
    fn links_are_followed_through_each_other() {
        for good in [
            &[("a", "b"), ("b", "c")][..],
            &[("sub/up", ".."), ("in", "sub/up/sub")],
            // A loop leads nowhere.
            &[("a", "b"), ("b", "a")],
            &[("a", "a/a")],
            &[("deep/er/up", "../.."), ("x", "deep/er/up/deep/er/up/file")],
            &[("current", "releases/1"), ("releases/1/back", "../../current/file")],
        ] {
            assert_eq!(links(good).check(), Ok(()), "{good:?}");
        }
        for (bad, culprit) in [
            (&[("sub/up", ".."), ("out", "sub/up/../etc")][..], "out"),
            (&[("a/b/up", "../.."), ("out", "a/b/up/../x")], "out"),
            (&[("one", "sub/two"), ("sub/two", "up/.."), ("sub/up", "..")], "one"),
            (&[("d/here", "."), ("d/up", "../d/here/../.."), ("out", "d/up")], "d/up"),
            (&[("a", "b/x"), ("b", "/etc")], "a"),
        ] {
            assert_eq!(links(bad).check().unwrap_err().0, culprit, "{bad:?}");
        }
    }

    proptest! {
        /// Against the system itself: whatever passes does not lead out of a real directory.
        #[test]
        fn what_passes_stays_inside_on_a_real_disk(
            made in proptest::collection::btree_map(
                "[ab](/[ab]){0,2}",
                proptest::collection::vec("(\\.\\.|[ab])", 1..5),
                1..6,
            )
        ) {
            let holder = tempfile::tempdir().unwrap();
            let root = holder.path().join("outer/release");
            std::fs::create_dir_all(&root).unwrap();
            let mut links = Links::default();
            for (path, target) in &made {
                let place = root.join(path);
                // A path below a link is none of a tree.
                let below = path.match_indices('/').any(|(at, _)| made.contains_key(&path[..at]));
                if below || std::fs::create_dir_all(place.parent().unwrap()).is_err() {
                    continue;
                }
                let target = target.join("/");
                if std::os::unix::fs::symlink(&target, &place).is_ok() {
                    links.add(path, &target);
                }
            }
            if links.check().is_ok() {
                let root = root.canonicalize().unwrap();
                for path in links.0.keys() {
                    if let Ok(led) = root.join(path.join("/")).canonicalize() {
                        prop_assert!(led.starts_with(&root), "{path:?} leads to {}", led.display());
                    }
                }
            }
        }
    }
}
