//! The one place where errors become gRPC statuses, with google.rpc details.

use std::collections::HashMap;

use landfall_controller_core::Refusal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{ControllerError, Reason};
use crate::log::LogError;
use crate::store::StoreError;

/// The domain of every `google.rpc.ErrorInfo` of ours.
pub const DOMAIN: &str = "landfall";

/// A status that says what happened: the code for programs in general, the reason for those that know
/// Landfall, the message for people.
#[must_use]
pub fn status(error: ControllerError) -> Status {
    let (code, reason) = match &error {
        ControllerError::Refused { reason, .. } => (code(*reason), reason.as_str()),
        ControllerError::Store(StoreError::Full)
        | ControllerError::Log(LogError::Store(StoreError::Full)) => (Code::ResourceExhausted, "DISK_FULL"),
        ControllerError::Store(StoreError::Conflict { .. }) => (Code::Aborted, "CHANGED_MEANWHILE"),
        ControllerError::Log(LogError::Proof(_)) => (Code::InvalidArgument, "NO_SUCH_PLACE"),
        ControllerError::Store(_) => (Code::Unavailable, "STORE_STOPPED"),
        ControllerError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            (Code::ResourceExhausted, "DISK_FULL")
        }
        ControllerError::Stopping => (Code::Unavailable, "STOPPING"),
        _ => (Code::Internal, "INTERNAL"),
    };
    let message = error.chain();
    if matches!(code, Code::Internal | Code::ResourceExhausted) {
        tracing::error!(error = %message, "a call failed");
    }
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

impl From<ControllerError> for Status {
    fn from(error: ControllerError) -> Self {
        status(error)
    }
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument | Reason::StrategyInvalid | Reason::CsrInvalid | Reason::BadObject => {
            Code::InvalidArgument
        }
        Reason::CertificateRequired
        | Reason::CertificateExpired
        | Reason::CertificateForeign
        | Reason::TokenInvalid => Code::Unauthenticated,
        Reason::Removed | Reason::RoleTooLow => Code::PermissionDenied,
        Reason::MethodUnknown => Code::Unimplemented,
        Reason::HostExists | Reason::RequestIdReused | Reason::ReleaseNameTaken => Code::AlreadyExists,
        // Whoever wants it finds nothing, until it has been uploaded again.
        Reason::HostUnknown | Reason::NotFound | Reason::ObjectDamaged => Code::NotFound,
        Reason::RepositoryChanged | Reason::RolloutInProgress | Reason::Locked | Reason::Closed => {
            Code::Aborted
        }
        Reason::Overloaded => Code::Unavailable,
        Reason::MissingObjects
        | Reason::WrongOffset
        | Reason::BadSignature
        | Reason::BadManifest
        | Reason::NoRoot
        | Reason::Precondition
        | Reason::PlanChanged
        | Reason::NotProven
        | Reason::NoEvidence
        | Reason::NoWayBack
        | Reason::BelowFloor
        | Reason::NoHosts
        | Reason::ContentRemoved
        | Reason::NothingToGoBackTo => Code::FailedPrecondition,
    }
}

impl From<Refusal> for ControllerError {
    fn from(refusal: Refusal) -> Self {
        let reason = match &refusal {
            Refusal::RequestReused { .. } => Reason::RequestIdReused,
            Refusal::NoSuchApplication { .. }
            | Refusal::NoSuchRelease { .. }
            | Refusal::NoSuchRollout { .. } => Reason::NotFound,
            Refusal::NoSuchHost { .. } => Reason::HostUnknown,
            Refusal::ReleaseDiffers { .. } => Reason::ReleaseNameTaken,
            Refusal::CounterTaken { .. } => Reason::RepositoryChanged,
            Refusal::ContentRemoved { .. } => Reason::ContentRemoved,
            Refusal::Follows { .. } => Reason::BadManifest,
            Refusal::NoHosts { .. } => Reason::NoHosts,
            Refusal::HostElsewhere { .. } => Reason::HostExists,
            Refusal::Held { .. }
            | Refusal::LineNotEmpty { .. }
            | Refusal::LineFull { .. }
            | Refusal::NotSuperseded { .. } => Reason::RolloutInProgress,
            Refusal::Locked { .. } | Refusal::LockOfAnother { .. } => Reason::Locked,
            Refusal::Unproven(_) => Reason::NotProven,
            Refusal::Unevidenced(_) => Reason::NoEvidence,
            Refusal::Closed { .. } => Reason::Closed,
            Refusal::Strategy { .. } | Refusal::Range { .. } => Reason::StrategyInvalid,
            Refusal::WithoutLabels | Refusal::LabelTwice { .. } | Refusal::LabelValue { .. } => {
                Reason::InvalidArgument
            }
            Refusal::PlanChanged { .. } => Reason::PlanChanged,
            Refusal::NoWayBack { .. } | Refusal::Irreversible { .. } | Refusal::SchemaAhead { .. } => {
                Reason::NoWayBack
            }
            Refusal::NothingBefore { .. } => Reason::NothingToGoBackTo,
            _ => Reason::Precondition,
        };
        Self::refused(reason, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_reason_for_programs_and_its_sentence_for_people() {
        let status = status(ControllerError::refused(Reason::HostExists, "web-1 is enrolled already"));
        assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "web-1 is enrolled already"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("HOST_EXISTS", DOMAIN));
    }

    #[test]
    fn a_full_disk_is_told_as_one() {
        assert_eq!(status(ControllerError::Store(StoreError::Full)).code(), Code::ResourceExhausted);
    }
}
