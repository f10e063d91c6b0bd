//! The operations of a simulated disk: paths, and what each call does to the live tree.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use landfall_common::disk::{DirEntry, EntryKind};

use super::file::File;
use super::state::{Access, Dir, Node, ROOT, State, power_is_off};

/// As many symlinks as Linux follows.
const MAX_LINKS: usize = 40;

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

/// After `begin` said that the power goes with this operation.
fn finish(last: bool) -> io::Result<()> {
    if last { Err(power_is_off()) } else { Ok(()) }
}

fn entry_kind(node: &Node) -> EntryKind {
    match node {
        Node::File(_) => EntryKind::File,
        Node::Dir(_) => EntryKind::Dir,
        Node::Symlink(_) => EntryKind::Symlink,
    }
}

impl State {
    /// The node at a path; a symlink at its end is followed if asked.
    pub fn resolve(&self, path: &Path, follow: bool) -> io::Result<u64> {
        if !path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the root of this disk"));
        }
        let mut trail = vec![ROOT];
        let mut todo: VecDeque<OsString> = path.components().map(|c| c.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let here = *trail.last().expect("the root stays on the trail");
            if name == ".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let id = *self.dir(here)?.live.get(&name).ok_or(io::ErrorKind::NotFound)?;
            match self.node(id)? {
                Node::Symlink(target) if follow || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS || target.is_absolute() {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    let parts = target.components().filter(|c| !matches!(c, Component::CurDir));
                    for part in parts.rev() {
                        todo.push_front(part.as_os_str().to_owned());
                    }
                }
                _ => trail.push(id),
            }
        }
        Ok(*trail.last().expect("the root stays on the trail"))
    }

    /// The directory that holds a path, and its last name.
    fn place(&self, path: &Path) -> io::Result<(u64, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.resolve(path.parent().unwrap_or(Path::new("")), true)?;
        self.dir(dir)?;
        Ok((dir, name.to_owned()))
    }

    /// As [`State::place`], for a name that must be free.
    fn free_place(&self, path: &Path) -> io::Result<(u64, OsString)> {
        let (dir, name) = self.place(path)?;
        if self.dir(dir)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.room() == 0 {
            return Err(full());
        }
        Ok((dir, name))
    }

    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.begin(Access::Read)?;
        let id = self.resolve(path, true)?;
        Ok(self.file(id)?.live.clone())
    }

    pub fn len(&mut self, path: &Path) -> io::Result<u64> {
        self.begin(Access::Read)?;
        let id = self.resolve(path, true)?;
        Ok(self.file(id)?.live.len() as u64)
    }

    pub fn list(&mut self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.begin(Access::Read)?;
        let id = self.resolve(path, true)?;
        let entries = self.dir(id)?.live.iter();
        entries
            .map(|(name, id)| Ok(DirEntry { name: name.clone(), kind: entry_kind(self.node(*id)?) }))
            .collect()
    }

    pub fn kind(&mut self, path: &Path) -> io::Result<EntryKind> {
        self.begin(Access::Read)?;
        Ok(entry_kind(self.node(self.resolve(path, false)?)?))
    }

    pub fn read_link(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.begin(Access::Read)?;
        match self.node(self.resolve(path, false)?)? {
            Node::Symlink(target) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub fn open_append(&mut self, path: &Path) -> io::Result<u64> {
        match self.resolve(path, true) {
            Ok(id) => {
                self.begin(Access::Read)?;
                self.file(id)?;
                Ok(id)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let last = self.begin(Access::Write)?;
                let (dir, name) = self.free_place(path)?;
                let id = self.add(Node::File(File::new(0o600)));
                self.set_names([(dir, name, Some(id))]);
                finish(last)?;
                Ok(id)
            }
            Err(error) => Err(error),
        }
    }

    pub fn write_new(&mut self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let (dir, name) = self.free_place(path)?;
        let room = self.room();
        let mut file = File::new(mode);
        let fits = fitting(bytes, room);
        file.append(fits);
        let id = self.add(Node::File(file));
        self.set_names([(dir, name, Some(id))]);
        finish(last)?;
        if fits.len() < bytes.len() { Err(full()) } else { Ok(()) }
    }

    pub fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        let id = self.resolve(path, true)?;
        self.sync(id)
    }

    fn sync(&mut self, id: u64) -> io::Result<()> {
        self.file(id)?;
        match self.begin(Access::Sync) {
            Ok(false) => {
                if !self.faults.ignore_syncs {
                    self.file(id)?.sync();
                }
                Ok(())
            }
            // Gone before the disk had it all: the dice of the crash decide.
            Ok(true) => Err(power_is_off()),
            Err(error) => {
                if !self.is_off() {
                    self.file(id)?.fail_sync();
                }
                Err(error)
            }
        }
    }

    pub fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let last = self.begin(Access::Sync)?;
        let id = self.resolve(path, true)?;
        self.dir(id)?;
        finish(last)?;
        if !self.faults.ignore_syncs {
            self.sync_names(id);
        }
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let id = *self.dir(from_dir)?.live.get(&from_name).ok_or(io::ErrorKind::NotFound)?;
        if let Some(over) = self.dir(to_dir)?.live.get(&to_name) {
            let from_is_dir = matches!(self.node(id)?, Node::Dir(_));
            match self.node(*over)? {
                Node::Dir(dir) if !dir.live.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                Node::Dir(_) if !from_is_dir => return Err(io::ErrorKind::IsADirectory.into()),
                Node::File(_) | Node::Symlink(_) if from_is_dir => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                _ => {}
            }
            if *over == id {
                return finish(last);
            }
        }
        self.set_names([(from_dir, from_name, None), (to_dir, to_name, Some(id))]);
        finish(last)
    }

    pub fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut here = PathBuf::new();
        for part in path.components() {
            here.push(part);
            match self.resolve(&here, true) {
                Ok(id) => {
                    self.dir(id)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let last = self.begin(Access::Write)?;
                    let (dir, name) = self.free_place(&here)?;
                    let id = self.add(Node::Dir(Dir::default()));
                    self.set_names([(dir, name, Some(id))]);
                    finish(last)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let (dir, name) = self.place(path)?;
        let id = *self.dir(dir)?.live.get(&name).ok_or(io::ErrorKind::NotFound)?;
        if matches!(self.node(id)?, Node::Dir(_)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.set_names([(dir, name, None)]);
        finish(last)
    }

    pub fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let id = match self.resolve(path, false) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_off() => return Ok(()),
            Err(error) => return Err(error),
        };
        // One unlink after the other, each its own operation: a crash may come between any two.
        for (name, child) in self.dir(id)?.live.clone() {
            let inner = path.join(&name);
            match self.node(child)? {
                Node::Dir(_) => self.remove_dir_all(&inner)?,
                _ => self.remove_file(&inner)?,
            }
        }
        let last = self.begin(Access::Write)?;
        let (dir, name) = self.place(path)?;
        self.set_names([(dir, name, None)]);
        finish(last)
    }

    pub fn symlink(&mut self, target: &Path, link: &Path) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let (dir, name) = self.free_place(link)?;
        let id = self.add(Node::Symlink(target.to_owned()));
        self.set_names([(dir, name, Some(id))]);
        finish(last)
    }

    pub fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let id = self.resolve(from, false)?;
        if matches!(self.node(id)?, Node::Dir(_)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (dir, name) = self.free_place(to)?;
        self.set_names([(dir, name, Some(id))]);
        finish(last)
    }

    pub fn set_mode(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let last = self.begin(Access::Write)?;
        let id = self.resolve(path, true)?;
        if !matches!(self.node(id)?, Node::Dir(_)) {
            self.file(id)?.mode = mode;
        }
        finish(last)
    }

    /// Takes the lock, or says `None` if it is held.
    pub fn try_lock(&mut self, path: &Path) -> io::Result<Option<u64>> {
        let id = self.open_append(path)?;
        Ok(self.lock(id).then_some(id))
    }

    fn handle(&mut self, id: u64, boot: u64) -> io::Result<&mut File> {
        if boot != self.boot {
            return Err(io::Error::other("the process that opened this is dead"));
        }
        self.file(id)
    }

    pub fn append(&mut self, id: u64, boot: u64, bytes: &[u8]) -> io::Result<()> {
        self.handle(id, boot)?;
        let last = self.begin(Access::Write)?;
        let fits = fitting(bytes, self.room());
        self.handle(id, boot)?.append(fits);
        finish(last)?;
        if fits.len() < bytes.len() { Err(full()) } else { Ok(()) }
    }

    pub fn sync_data(&mut self, id: u64, boot: u64) -> io::Result<()> {
        self.handle(id, boot)?;
        self.sync(id)
    }

    pub fn truncate(&mut self, id: u64, boot: u64, len: u64) -> io::Result<()> {
        self.handle(id, boot)?;
        let last = self.begin(Access::Write)?;
        self.handle(id, boot)?.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        finish(last)
    }

    pub fn handle_len(&mut self, id: u64, boot: u64) -> io::Result<u64> {
        self.begin(Access::Read)?;
        Ok(self.handle(id, boot)?.live.len() as u64)
    }
}

fn fitting(bytes: &[u8], room: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))]
}
