//! Keeping the idle agent small: the C library's allocator keeps an arena for each thread and gives little
//! back by itself.

/// One arena for all threads: the agent's few threads do not compete for it. Call it before any thread is
/// started.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt has no precondition; 1 is a valid number of arenas.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what a release took: trees of 100,000 names are in memory only for a moment.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no precondition and leaves every allocation where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}
