//! What lies in the state directory, opened: used by the running controller, and by the commands that work
//! on a stopped one.

use std::path::Path;
use std::sync::Arc;

use landfall_common::disk::RealDisk;

use crate::ca::CertificateAuthority;
use crate::clock::Clock;
use crate::config::Layout;
use crate::error::ControllerError;
use crate::keys::OnlineKeys;
use crate::ownership;
use crate::private_file;
use crate::store::embedded::{IndexState, Options};
use crate::store::index::SledIndex;
use crate::store::{EmbeddedStore, SharedStore};
use crate::writer::Writer;

/// The opened state; only one process at a time has it.
pub struct ControllerState {
    /// The store.
    pub store: SharedStore,
    /// The way in which everything is committed.
    pub writer: Arc<Writer>,
    /// The certificate authority.
    pub authority: Arc<CertificateAuthority>,
    /// The online keys.
    pub keys: Arc<OnlineKeys>,
}

impl ControllerState {
    /// Opens an initialised state directory.
    ///
    /// # Errors
    /// [`ControllerError::NotOwner`], [`ControllerError::NotInitialised`], [`ControllerError::StoreIo`] (another controller has it, or it
    /// is damaged), [`ControllerError::File`].
    pub async fn open(layout: &Layout, clock: &Clock) -> Result<Self, ControllerError> {
        ownership::check(&layout.state)?;
        if !CertificateAuthority::exists(&layout.ca())? {
            return Err(ControllerError::NotInitialised { path: layout.state.clone() });
        }
        check_writable(&layout.state)?;
        let store = open_store(layout)?;
        let authority = Arc::new(CertificateAuthority::open(&layout.ca())?);
        let keys = Arc::new(OnlineKeys::open(&layout.keys())?);
        let writer = Arc::new(Writer::open(Arc::new(store.clone()), keys.clone(), clock.clone()).await?);
        Ok(Self { store, writer, authority, keys })
    }

    /// Makes what a first start needs; what is there already stays.
    ///
    /// # Errors
    /// [`ControllerError::NotOwner`], [`ControllerError::AlreadyInitialised`], and those of [`ControllerState::open`].
    pub async fn create(layout: &Layout, clock: &Clock) -> Result<Self, ControllerError> {
        ownership::check(&layout.state)?;
        if CertificateAuthority::exists(&layout.ca())? {
            return Err(ControllerError::AlreadyInitialised { path: layout.state.clone() });
        }
        private_file::directory(&layout.state)?;
        check_writable(&layout.state)?;
        // The store's lock comes first: two of these at once must not make two authorities.
        let store = open_store(layout)?;
        let keys = Arc::new(OnlineKeys::create(&layout.keys())?);
        let authority = Arc::new(CertificateAuthority::create(&layout.ca(), clock.now())?);
        let writer = Arc::new(Writer::open(Arc::new(store.clone()), keys.clone(), clock.clone()).await?);
        Ok(Self { store, writer, authority, keys })
    }

    /// Notes a clean stop.
    ///
    /// # Errors
    /// [`ControllerError::StoreIo`]; nothing acknowledged is at risk.
    pub fn close(self) -> Result<(), ControllerError> {
        Ok(self.store.close()?)
    }
}

fn open_store(layout: &Layout) -> Result<SharedStore, ControllerError> {
    let directory = layout.store();
    let disk = Arc::new(RealDisk::new(&layout.state));
    let name = directory.file_name().map(std::path::PathBuf::from).unwrap_or_default();
    let index = SledIndex::source(layout.state.join("index"));
    let (core, opened) = EmbeddedStore::open(disk, name, &*index, Options::default())?;
    for note in &opened.notes {
        tracing::warn!(?note, "the journal was put right, without loss");
    }
    match &opened.index {
        IndexState::Kept => tracing::info!(revision = %opened.revision, "store opened"),
        IndexState::Rebuilt { reason } => {
            tracing::info!(revision = %opened.revision, reason, "store opened, its index rebuilt from the journal");
        }
    }
    SharedStore::new(core).map_err(|source| ControllerError::File {
        doing: "start the writer of",
        path: directory,
        source,
    })
}

fn check_writable(path: &Path) -> Result<(), ControllerError> {
    let probe = path.join(".writable");
    private_file::write(&probe, b"")?;
    std::fs::remove_file(&probe).map_err(|source| ControllerError::File {
        doing: "remove",
        path: probe.clone(),
        source,
    })
}
