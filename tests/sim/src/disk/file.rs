//! One file: the bytes that are seen, and what of them a power cut cannot take.

use std::ops::Range;

use rand::{Rng as _, RngCore};

/// Pages are written back one by one, in any order.
const PAGE_BYTES: usize = 4096;

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// What a reader sees.
    pub live: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// So many bytes of `live` are durable.
    common: usize,
    /// Durable bytes after `common` that a truncation, not durable yet, has cut off.
    cut: Vec<u8>,
    /// Ranges whose sync failed: the kernel believes they are on the disk, and they are not.
    doomed: Vec<Range<usize>>,
}

impl File {
    /// A file that was just created.
    pub fn new(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.live.extend_from_slice(bytes);
    }

    pub fn truncate(&mut self, len: usize) {
        if len > self.live.len() {
            self.live.resize(len, 0);
            return;
        }
        if len < self.common {
            let mut cut = self.live[len..self.common].to_vec();
            cut.append(&mut self.cut);
            self.cut = cut;
            self.common = len;
        }
        self.live.truncate(len);
        self.doomed.retain_mut(|range| {
            range.end = range.end.min(len);
            range.start < range.end
        });
    }

    pub fn sync(&mut self) {
        self.common = self.live.len();
        self.cut.clear();
    }

    /// The sync failed: what it was about counts as clean from now on.
    pub fn fail_sync(&mut self) {
        if self.common < self.live.len() {
            self.doomed.push(self.common..self.live.len());
        }
    }

    /// Overwrites bytes on the medium.
    pub fn damage(&mut self, at: usize, bytes: &[u8]) {
        self.live[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// What the disk holds after the power was cut.
    pub fn crash(&mut self, dice: &mut dyn RngCore) {
        if self.common == self.live.len() && self.cut.is_empty() && self.doomed.is_empty() {
            return;
        }
        for range in std::mem::take(&mut self.doomed) {
            fill(&mut self.live[range], dice);
        }
        if !self.cut.is_empty() && dice.random_bool(0.5) {
            // The truncation did not reach the disk, and so nothing after it did.
            self.live.truncate(self.common);
            self.live.append(&mut self.cut);
        } else {
            self.tear(dice);
        }
        self.sync();
    }

    fn tear(&mut self, dice: &mut dyn RngCore) {
        let unsynced = self.live.len() - self.common;
        match dice.random_range(0..5) {
            0 => self.live.truncate(self.common),
            1 => {}
            2 => self.live.truncate(self.common + dice.random_range(0..=unsynced)),
            // The length reached the disk before the bytes.
            3 => {
                let from = self.common + dice.random_range(0..=unsynced);
                fill(&mut self.live[from..], dice);
            }
            // Some pages were written back and others not.
            _ => {
                let mut at = self.common;
                while at < self.live.len() {
                    let end = ((at / PAGE_BYTES + 1) * PAGE_BYTES).min(self.live.len());
                    // Small worlds rarely fill a page: tear within it too.
                    let end = if dice.random_bool(0.5) { dice.random_range(at..end) + 1 } else { end };
                    if dice.random_bool(0.5) {
                        fill(&mut self.live[at..end], dice);
                    }
                    at = end;
                }
            }
        }
    }
}

/// Zeros, as a hole reads, or what was on the disk before.
fn fill(bytes: &mut [u8], dice: &mut dyn RngCore) {
    if dice.random_bool(0.5) {
        bytes.fill(0);
    } else {
        dice.fill_bytes(bytes);
    }
}
