//! Ctrl-C: it detaches where something can be detached from, and else ends `ctl`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many places handle Ctrl-C themselves now.
static HANDLERS: AtomicUsize = AtomicUsize::new(0);

/// While this lives, Ctrl-C is somebody's own affair.
#[must_use = "dropped at once, it handles nothing"]
pub struct Handled(());

/// Says that whoever holds the guard waits for [`next`].
pub fn handled_here() -> Handled {
    HANDLERS.fetch_add(1, Ordering::SeqCst);
    Handled(())
}

impl Drop for Handled {
    fn drop(&mut self) {
        HANDLERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits for Ctrl-C (or for ever, where signals cannot be had).
pub async fn next() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a Ctrl-C that nobody handles.
pub async fn unhandled() {
    loop {
        next().await;
        if HANDLERS.load(Ordering::SeqCst) == 0 {
            return;
        }
    }
}
