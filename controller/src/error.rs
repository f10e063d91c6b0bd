//! The one error of this crate, and the reasons for which a caller is refused.
//!
//! How a reason becomes a gRPC status stands in `rpc/errors.rs`, and nowhere else.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use landfall_common::Sha256;
use landfall_trust::TrustError;

use crate::identity::IdentityError;
use crate::log::LogError;
use crate::store::{StoreError, StoreIoError};

/// Why the controller did not do what it was asked, or cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// The caller asked for something that it does not get. Nothing has changed.
    #[error("{message}")]
    Refused {
        /// The stable word for it.
        reason: Reason,
        /// What and why, as sentences; with the next command where there is one.
        message: String,
    },
    /// A file of the controller's own.
    #[error("cannot {doing} {path}", path = path.display())]
    File {
        /// What was tried: `read`, `write`…
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration file.
    #[error("the configuration {path} is not valid: {message}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Line and rule.
        message: String,
    },
    /// What `controller.toml` says of gates cannot be used.
    #[error("gates below {url} cannot be asked: {reason}")]
    Gates {
        /// Of which entry.
        url: String,
        /// Why.
        reason: String,
    },
    /// The address to listen on.
    #[error("cannot listen on {address}: {hint}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it means.
        hint: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no state yet.
    #[error(
        "there is no controller's state in {path}; run `landfall-controller init` once, or `restore` a backup \
         into it",
        path = path.display()
    )]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// There is state already.
    #[error(
        "the state directory {path} has been initialised already; for a new operator run \
         `landfall-controller operator-token --name NAME --role ROLE`",
        path = path.display()
    )]
    AlreadyInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// The state directory is another user's.
    #[error(
        "the state directory {path} belongs to {owner}, and what another user makes in it the controller cannot \
         use; type the command as that user: `runuser -u {owner} -- landfall-controller …`",
        path = path.display()
    )]
    NotOwner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// A restore would overwrite state.
    #[error(
        "the state directory {path} holds the state of a controller already; move it away, or restore into \
         another `state_dir`",
        path = path.display()
    )]
    RestoreOverState {
        /// The directory.
        path: PathBuf,
    },
    /// The certificate authority.
    #[error("the certificate authority cannot {doing}: {reason}")]
    Authority {
        /// What was tried.
        doing: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The TLS configuration.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The objects.
    #[error("object {digest} cannot be {doing}")]
    Object {
        /// What was tried: `read`, `stored`…
        doing: &'static str,
        /// Which one.
        digest: Sha256,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store did not take or give something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be opened.
    #[error(transparent)]
    StoreIo(#[from] StoreIoError),
    /// The log does not take or give something.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of the store does not read back.
    #[error("the record {key} in the store cannot be read")]
    Record {
        /// Its key.
        key: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Metadata or a signature.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A certificate's name.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The local administration socket.
    #[error("the running controller did not answer on {path}: {message}", path = path.display())]
    Admin {
        /// The socket.
        path: PathBuf,
        /// What happened.
        message: String,
    },
    /// A backup that cannot be made or restored.
    #[error("the backup {path} cannot be used: {message}", path = path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The server came to an end by itself.
    #[error("the gRPC server failed")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A method of ours that was forgotten: nothing of its answer is given away.
    #[error(
        "{method} does not ask how far its caller's role reaches, and is not answered; this is a mistake of this program"
    )]
    Unasked {
        /// Its path.
        method: String,
    },
    /// A part of the controller has ended, so that no request can be served any more.
    #[error("the controller is stopping")]
    Stopping,
}

impl ControllerError {
    /// A refusal.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into() }
    }

    /// A refusal of a field's content.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::refused(Reason::InvalidArgument, message)
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a caller is refused: a stable word, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// As google.rpc.ErrorInfo carries it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// A field is missing or breaks a rule.
    InvalidArgument = "INVALID_ARGUMENT",
    /// Settings of a rollout that contradict each other.
    StrategyInvalid = "STRATEGY_INVALID",
    /// No certificate where one is needed.
    CertificateRequired = "CERTIFICATE_REQUIRED",
    /// The certificate's time is over.
    CertificateExpired = "CERTIFICATE_EXPIRED",
    /// The certificate was not issued here.
    CertificateForeign = "CERTIFICATE_FOREIGN",
    /// The host or the operator was removed.
    Removed = "REMOVED",
    /// The role may not do this.
    RoleTooLow = "ROLE_TOO_LOW",
    /// A method that nobody may call.
    MethodUnknown = "METHOD_UNKNOWN",
    /// An unknown, used or expired token.
    TokenInvalid = "TOKEN_INVALID",
    /// A signing request that cannot be used.
    CsrInvalid = "CSR_INVALID",
    /// A host of this name is enrolled.
    HostExists = "HOST_EXISTS",
    /// No such host.
    HostUnknown = "HOST_UNKNOWN",
    /// No such file, object, release or rollout.
    NotFound = "NOT_FOUND",
    /// The same request id with other content.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// Objects of the release are not here.
    MissingObjects = "MISSING_OBJECTS",
    /// An object's content is not what its digest says.
    BadObject = "BAD_OBJECT",
    /// The controller's copy of an object is damaged.
    ObjectDamaged = "OBJECT_DAMAGED",
    /// The files of the release were removed.
    ContentRemoved = "CONTENT_REMOVED",
    /// An upload does not go on where the stored part ends.
    WrongOffset = "WRONG_OFFSET",
    /// Signatures or versions of the metadata.
    BadSignature = "BAD_SIGNATURE",
    /// The manifest and the metadata do not fit together.
    BadManifest = "BAD_MANIFEST",
    /// The name stands for another manifest.
    ReleaseNameTaken = "RELEASE_NAME_TAKEN",
    /// The trust root was not published yet.
    NoRoot = "NO_ROOT",
    /// The metadata has moved on; read it and sign anew.
    RepositoryChanged = "REPOSITORY_CHANGED",
    /// The planner does not allow it.
    Precondition = "PRECONDITION",
    /// The plan is not the one that was shown.
    PlanChanged = "PLAN_CHANGED",
    /// Another rollout holds the place.
    RolloutInProgress = "ROLLOUT_IN_PROGRESS",
    /// Somebody has claimed the environment.
    Locked = "LOCKED",
    /// Outside of the release windows, or in a freeze.
    Closed = "CLOSED",
    /// The release has to be proven in another environment before.
    NotProven = "NOT_PROVEN",
    /// CI has to have said that the release's commit is good before.
    NoEvidence = "NO_EVIDENCE",
    /// There is no way back from the migration.
    NoWayBack = "NO_WAY_BACK",
    /// Hosts refuse the release: it is below the signed floor.
    BelowFloor = "BELOW_FLOOR",
    /// No host to roll out to.
    NoHosts = "NO_HOSTS",
    /// No release to go back to.
    NothingToGoBackTo = "NOTHING_TO_GO_BACK_TO",
    /// Too much at once; try again.
    Overloaded = "OVERLOADED",
}
