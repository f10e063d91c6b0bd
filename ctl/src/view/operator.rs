//! An operator, as the controller knows it.

use landfall_common::Timestamp;
use landfall_common::printable::line;
use landfall_proto::v1;
use serde::Serialize;

use super::moment;

/// Who may call the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// The name.
    pub name: String,
    /// As which it came in last, or may come in.
    pub role: String,
    /// When it first came in; none as long as it has only a token.
    pub since: Option<Timestamp>,
    /// When its newest certificate was issued.
    pub issued: Option<Timestamp>,
    /// When that, or the token, expires.
    pub expires: Option<Timestamp>,
    /// From where it came last.
    pub origin: String,
}

impl From<v1::Operator> for Operator {
    fn from(operator: v1::Operator) -> Self {
        Self {
            name: line(&operator.name),
            role: line(&operator.role),
            since: moment(operator.since_ms),
            issued: moment(operator.issued_ms),
            expires: moment(operator.expires_ms),
            origin: line(&operator.origin),
        }
    }
}
