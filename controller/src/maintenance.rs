//! What has to be done from time to time: metadata and certificates are renewed before they expire, old
//! tokens and answers are forgotten, and what no release needs any more goes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use landfall_common::{Duration, Timestamp};

use crate::ca::SERVER_LIFETIME;
use crate::collection::Collection;
use crate::enrolment::{HOST_GRACE, KEPT, all_tokens};
use crate::error::ControllerError;
use crate::rpc::operators::people;
use crate::rpc::{Context, convert};
use crate::store::Batch;
use crate::tls::CurrentCertificate;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// How often old records are swept out.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// How often it is told that a role expires soon.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Removed in one commit.
const SWEPT_AT_ONCE: usize = 100;

/// The chores of a running controller.
pub struct Chores {
    context: Arc<Context>,
    certificate: Arc<CurrentCertificate>,
    collection: Collection,
    done: Mutex<Done>,
}

/// What is done less often than every round, and when it was.
#[derive(Default)]
struct Done {
    swept: Option<Timestamp>,
    warned: Option<Timestamp>,
}

impl Chores {
    /// Chores of which none has been done yet.
    #[must_use]
    pub fn new(context: Arc<Context>, certificate: Arc<CurrentCertificate>) -> Self {
        let collection = Collection::new(context.retention, context.clock.now());
        Self { context, certificate, collection, done: Mutex::default() }
    }

    /// Does them until the controller stops.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.round().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.context.stop.cancelled() => return,
            }
        }
    }

    /// Does what is due now. What fails is told, and tried again in the next round.
    pub async fn round(&self) {
        let context = &*self.context;
        if let Err(error) = sign(context).await {
            tracing::error!(error = %error.chain(), "the release repository could not be signed anew");
        }
        if let Err(error) = renew_server(context, &self.certificate) {
            tracing::error!(error = %error.chain(), "the server's certificate could not be renewed");
        }
        let now = context.clock.now();
        let due = |last: &mut Option<Timestamp>, every| {
            let due = last.is_none_or(|last| now.since(last) >= every);
            if due {
                *last = Some(now);
            }
            due
        };
        let (warn, clean) = {
            let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (due(&mut done.warned, WARN_EVERY), due(&mut done.swept, SWEEP_EVERY))
        };
        if warn {
            warn_of_expiry(context);
        }
        if clean && let Err(error) = sweep(context, now).await {
            tracing::error!(error = %error.chain(), "old records could not be removed");
        }
        match self.collection.round(context).await {
            Ok(()) | Err(ControllerError::Stopping) => {}
            Err(error) => {
                tracing::error!(error = %error.chain(), "what no release needs could not be removed");
            }
        }
    }
}

async fn sign(context: &Context) -> Result<(), ControllerError> {
    let Some(edit) = context.repository.renewal(context.clock.now()).await? else { return Ok(()) };
    context.writer.commit(edit.batch(), Vec::new()).await?;
    edit.finish();
    tracing::info!("timestamp signed anew");
    Ok(())
}

fn renew_server(context: &Context, current: &CurrentCertificate) -> Result<(), ControllerError> {
    let now = context.clock.now();
    let expires = Timestamp::from_ms(context.server_expires_ms.load(Ordering::Relaxed));
    if expires > now + SERVER_LIFETIME / 3 {
        return Ok(());
    }
    let certificate = context.authority.issue_server(now)?;
    let expires = certificate.not_after;
    current.replace(certificate)?;
    context.server_expires_ms.store(expires.ms(), Ordering::Relaxed);
    tracing::info!(%expires, "the server's certificate was renewed");
    Ok(())
}

/// Roles that only their offline signers can renew are told of 30 days before.
fn warn_of_expiry(context: &Context) {
    let soon = context.clock.now() + Duration::from_secs(30 * 86_400);
    let summary = context.repository.summary();
    for (role, expires) in summary.expiries {
        if expires <= soon && role != "timestamp" && role != "snapshot" {
            tracing::warn!(role, %expires, "a role of the release repository expires soon; sign it anew");
        }
    }
}

async fn sweep(context: &Context, now: Timestamp) -> Result<(), ControllerError> {
    let mut old = Vec::new();
    let tokens = all_tokens(&*context.store).await?.into_iter();
    old.extend(tokens.filter(|(_, token)| token.expires_at + KEPT <= now).map(|(key, _)| key));
    // Nobody can renew by then, so that there is nothing left to deny.
    for entry in context.store.scan("denied/").await?.entries {
        let until: Timestamp = convert::stored(&entry.key, &entry.value)?;
        if until + crate::ca::HOST_LIFETIME + HOST_GRACE <= now {
            old.push(entry.key);
        }
    }
    old.extend(people::forgotten(&*context.store, now).await?);
    for keys in old.chunks(SWEPT_AT_ONCE) {
        let batch = keys.iter().fold(Batch::new(), |batch, key| batch.delete(key));
        context.writer.commit(batch, Vec::new()).await?;
    }
    Ok(())
}
