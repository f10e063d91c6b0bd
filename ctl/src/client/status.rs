//! The one place where a gRPC status becomes an error with an exit code and a next command.
//!
//! The controller's `google.rpc.ErrorInfo` carries a stable reason; its message is a whole sentence and is
//! shown as it is.

use landfall_common::printable;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::error::{Error, Exit};

/// The domain of the reasons that this program knows.
const DOMAIN: &str = "landfall";

/// The reason of a refusal to give an object of which the controller's copy is damaged.
pub const OBJECT_DAMAGED: &str = "OBJECT_DAMAGED";

/// A request that the controller answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC's code.
    pub code: Code,
    /// The stable reason, such as `ROLLOUT_IN_PROGRESS`; else the name of the code.
    pub reason: String,
    /// What happened, as the controller says it.
    pub message: String,
    /// Details, one per line: violated preconditions, wrong fields.
    pub details: Vec<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl Refusal {
    /// Reads a status with its details.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let found = status.get_error_details();
        let info = found.error_info().filter(|info| info.domain == DOMAIN);
        let reason = info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
        let mut details = Vec::new();
        if let Some(failure) = found.precondition_failure() {
            details.extend(failure.violations.iter().map(|violation| violation.description.clone()));
        }
        if let Some(request) = found.bad_request() {
            let line = |violation: &tonic_types::FieldViolation| {
                format!("{}: {}", violation.field, violation.description)
            };
            details.extend(request.field_violations.iter().map(line));
        }
        let link = found.help().and_then(|help| help.links.first());
        let next = link.map(|link| if link.description.is_empty() { &link.url } else { &link.description });
        let next = next.cloned().filter(|text| !text.is_empty());
        let next = next.or_else(|| version_next(status, &reason)).or_else(|| default_next(&reason));
        let message = match status.message() {
            "" => format!("the controller refused the request ({:?})", status.code()),
            text => printable::lines(text),
        };
        let details = details.iter().map(|detail| printable::lines(detail)).collect();
        let next = next.map(|next| printable::lines(&next));
        Self { code: status.code(), reason, message, details, next }
    }

    /// The controller's refusal of an operator whose role does not do, said before it has to say so.
    #[must_use]
    pub fn role_too_low(message: String) -> Self {
        let reason = "ROLE_TOO_LOW".to_owned();
        let next = default_next(&reason);
        Self { code: Code::PermissionDenied, reason, message, details: Vec::new(), next }
    }

    /// How `ctl` ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (self.reason.as_str(), self.code) {
            ("ROLLOUT_IN_PROGRESS" | "LOCKED" | "CLOSED", _) => Exit::LockHeld,
            // It answers; it is only busy.
            ("OVERLOADED", _) => Exit::Failed,
            (_, Code::Unauthenticated | Code::PermissionDenied) => Exit::Unauthorised,
            (_, Code::InvalidArgument | Code::NotFound) => Exit::Usage,
            (_, Code::Unavailable) => Exit::Unreachable,
            _ => Exit::Failed,
        }
    }

    /// Whether the same request may go through in a while.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.reason == "OVERLOADED" || matches!(self.code, Code::Unavailable | Code::ResourceExhausted)
    }
}

/// What to do about a controller that is older than this program, which shows in two ways.
fn version_next(status: &Status, reason: &str) -> Option<String> {
    const UPGRADE: &str = "upgrade the controller, which comes before ctl (`ctl doctor` shows its version)";
    // The first is what controllers of 0.1 say.
    let is_newer = ["cannot be read: unknown", "made for a newer version"];
    if status.code() == Code::Unimplemented {
        Some(UPGRADE.to_owned())
    } else if reason == "BAD_MANIFEST" && is_newer.iter().any(|words| status.message().contains(words)) {
        Some(format!("{UPGRADE}, or leave out of landfall.toml what it does not know"))
    } else {
        None
    }
}

fn default_next(reason: &str) -> Option<String> {
    let next = match reason {
        "TOKEN_INVALID" => {
            "ask an administrator for a new token (ctl operators token NAME --role ROLE), then the same command with it"
        }
        "CERTIFICATE_REQUIRED" | "CERTIFICATE_EXPIRED" | "CERTIFICATE_FOREIGN" => {
            "ask an administrator for a new token (ctl operators token NAME --role ROLE), then: ctl login TOKEN"
        }
        "ROLE_TOO_LOW" => "ctl doctor shows your role; an administrator can give you another one",
        "ROLLOUT_IN_PROGRESS" => "ctl status --watch",
        "NOT_PROVEN" => "ctl status --env ENVIRONMENT shows what runs there",
        "NO_EVIDENCE" => "ctl evidence list shows what CI has said",
        "CLOSED" => "ctl release NAME --queue begins when it opens",
        "LOCKED" => "ctl status shows the lock; ask its owner",
        "STRATEGY_INVALID" => {
            "change it on the command line (ctl release --help), or in [environment.NAME] of landfall.toml, which \
             is released under a new name"
        }
        "NO_ROOT" => "ctl init",
        "BAD_MANIFEST" | "BAD_OBJECT" => {
            "the same command again; if it stays so, ctl and the controller are of different versions: ctl doctor"
        }
        "MISSING_OBJECTS" | "REPOSITORY_CHANGED" | "WRONG_OFFSET" => "the same command again",
        "BAD_SIGNATURE" => {
            "ctl doctor shows which keys are here; ctl init, where the root key is, puts another in force"
        }
        "RELEASE_NAME_TAKEN" => "choose another name: git tag NAME, then ctl release NAME",
        "DISK_FULL" => {
            "make room on the controller's disk (ctl doctor says what releases take), then the same command again"
        }
        "INTERNAL" => "the controller's own log says more: journalctl -u landfall-controller",
        "NO_HOSTS" => "ctl hosts token, then on each host: landfall-agent join TOKEN --controller HOST:PORT",
        "NO_WAY_BACK" => "ctl release NAME --no-way-back, if you accept that",
        "BELOW_FLOOR" => "tag that commit with a new name: git tag NAME COMMIT, then ctl release NAME",
        "PLAN_CHANGED" => "look at the new plan: ctl plan NAME",
        "CONTENT_REMOVED" => {
            "ctl release NAME --publish-only in the application's repository, then the same command again"
        }
        OBJECT_DAMAGED => "ctl release NAME --publish-only in the application's repository uploads it again",
        "NOTHING_TO_GO_BACK_TO" => "ctl releases",
        "OVERLOADED" => "the same command again in a while",
        "HOST_UNKNOWN" => "ctl hosts",
        _ => return None,
    };
    Some(next.to_owned())
}

/// An error for a status, at an address.
#[must_use]
pub fn error(status: &Status, address: &str) -> Error {
    // A status without details from a broken connection: the controller has said nothing.
    let transport = std::error::Error::source(status).is_some();
    if transport || (status.code() == Code::Unavailable && status.get_error_details().error_info().is_none())
    {
        return Error::Unreachable { address: address.to_owned(), reason: transport_reason(status) };
    }
    Error::Refused(Box::new(Refusal::of(status)))
}

/// The innermost cause, in words for what TLS alone would say obscurely.
fn transport_reason(status: &Status) -> String {
    let mut innermost = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        innermost = cause.to_string();
        source = cause.source();
    }
    reason_in_words(&innermost)
}

/// What a person can do something with.
#[must_use]
pub fn reason_in_words(cause: &str) -> String {
    let lower = cause.to_lowercase();
    // Every controller's authority has the same name: a foreign one shows by its signature.
    if ["unknownissuer", "unknown issuer", "badsignature", "pinned"].iter().any(|word| lower.contains(word)) {
        return format!("its certificate is not by the authority that this context trusts ({cause})");
    }
    if lower.contains("certificate_required") || lower.contains("certificaterequired") {
        return "it demands a client certificate".to_owned();
    }
    if lower.contains("broken pipe") || lower.contains("received fatal alert") {
        return format!(
            "it closed the connection, most likely because it refuses this client's certificate ({cause})"
        );
    }
    // Under TLS 1.3 a client learns only after its first request that its certificate was not taken, and the
    // alert may be lost with the connection.
    if lower.contains("connection closed") || lower.contains("connection reset") {
        return format!(
            "it closed the connection: it refuses this client's certificate, or is just being stopped ({cause})"
        );
    }
    if lower.contains("connection refused") {
        return "nothing listens there (connection refused)".to_owned();
    }
    cause.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_reason_decides_the_exit_code_and_the_next_command() {
        let mut details = ErrorDetails::with_error_info("ROLLOUT_IN_PROGRESS", DOMAIN, []);
        details.set_precondition_failure(vec![tonic_types::PreconditionViolation::new(
            "lock",
            "x",
            "ana since 10:00",
        )]);
        let status = Status::with_error_details(Code::Aborted, "rollout r-1 holds production", details);
        let Error::Refused(refusal) = error(&status, "c:1") else { panic!("{status:?}") };
        assert_eq!(refusal.exit(), Exit::LockHeld);
        assert_eq!(refusal.message, "rollout r-1 holds production");
        assert_eq!(refusal.details, ["ana since 10:00"]);
        assert_eq!(refusal.next.as_deref(), Some("ctl status --watch"));
    }

    #[test]
    fn the_controllers_own_hint_comes_first() {
        let mut details = ErrorDetails::with_error_info("NO_HOSTS", DOMAIN, []);
        details.set_help(vec![tonic_types::HelpLink::new("ctl hosts token --environment staging", "")]);
        let status = Status::with_error_details(Code::FailedPrecondition, "no hosts", details);
        assert_eq!(Refusal::of(&status).next.as_deref(), Some("ctl hosts token --environment staging"));
    }

    #[test]
    fn a_controller_that_is_older_is_to_be_upgraded() {
        let next = |code, reason: &str, message: &str| {
            let details = ErrorDetails::with_error_info(reason, DOMAIN, []);
            Refusal::of(&Status::with_error_details(code, message, details)).next.unwrap()
        };
        let unknown = next(Code::Unimplemented, "METHOD_UNKNOWN", "/x is not a method of this controller");
        assert!(unknown.starts_with("upgrade the controller"), "{unknown}");
        for message in [
            "manifest cannot be read: unknown field `hold_ms`",
            "manifest is made for a newer version than this one: unknown variant `docker`",
        ] {
            let next = next(Code::FailedPrecondition, "BAD_MANIFEST", message);
            assert!(next.starts_with("upgrade the controller") && next.contains("landfall.toml"), "{next}");
        }
        let other =
            next(Code::FailedPrecondition, "BAD_MANIFEST", "its directories are nested more than 64 deep");
        assert!(other.starts_with("the same command again"), "{other}");
    }

    #[test]
    fn a_foreign_authority_is_told_in_words() {
        for cause in ["invalid peer certificate: BadSignature", "invalid peer certificate: UnknownIssuer"] {
            assert!(reason_in_words(cause).contains("authority that this context trusts"), "{cause}");
        }
    }

    #[test]
    fn a_status_without_details_still_has_an_exit_code() {
        assert_eq!(Refusal::of(&Status::permission_denied("no")).exit(), Exit::Unauthorised);
        assert_eq!(Refusal::of(&Status::internal("")).exit(), Exit::Failed);
        assert_eq!(error(&Status::unavailable("gone"), "c:1").exit(), Exit::Unreachable);
    }
}
