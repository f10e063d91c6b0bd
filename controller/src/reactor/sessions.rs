//! The connected hosts, and the way to each.

use std::collections::BTreeMap;

use bytes::Bytes;
use landfall_common::HostId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a host is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A signed assignment.
    Assignment(Bytes),
    /// Put right what differs from the signed release.
    RepairDrift {
        /// Who asked calls it so.
        request_id: String,
    },
}

/// The way to one connected host. Dropping it ends the session.
pub struct Orders {
    orders: mpsc::Sender<Order>,
    _open: DropGuard,
}

impl Orders {
    /// Orders for a session: what it forwards to its host, and the token that tells it to end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Order>, CancellationToken) {
        // Only the newest assignment counts; two leave room for one that is on its way.
        let (orders, receiver) = mpsc::channel(2);
        let ended = CancellationToken::new();
        (Self { orders, _open: ended.clone().drop_guard() }, receiver, ended)
    }
}

/// The connected hosts.
#[derive(Default)]
pub struct Sessions(BTreeMap<HostId, (u64, Orders)>);

impl Sessions {
    /// Takes a session in; an older one of the same host ends.
    pub fn open(&mut self, host: HostId, connection: u64, orders: Orders) {
        if self.0.get(&host).is_none_or(|(current, _)| *current < connection) {
            self.0.insert(host, (connection, orders));
        }
    }

    /// Forgets a session, unless the host has a newer one.
    pub fn close(&mut self, host: &HostId, connection: u64) {
        if self.0.get(host).is_some_and(|(current, _)| *current == connection) {
            self.0.remove(host);
        }
    }

    /// Ends the session of a host that was removed.
    pub fn end(&mut self, host: &HostId) {
        self.0.remove(host);
    }

    /// Sends to a host if it is connected and keeps up; otherwise it gets it after its next report.
    pub fn send(&self, host: &HostId, assignment: Bytes) {
        let _ = self.order(host, Order::Assignment(assignment));
    }

    /// Has a connected host put right what differs from its release. `false` if it is not connected or does not keep
    /// up: nothing is repeated.
    #[must_use]
    pub fn repair_drift(&self, host: &HostId, request_id: String) -> bool {
        self.order(host, Order::RepairDrift { request_id })
    }

    fn order(&self, host: &HostId, order: Order) -> bool {
        self.0.get(host).is_some_and(|(_, session)| session.orders.try_send(order).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_ends_the_older_and_its_late_end_does_not_end_the_newer() {
        let host = HostId::new("web-1").unwrap();
        let mut sessions = Sessions::default();
        let (first, _, first_ended) = Orders::new();
        let (second, mut received, second_ended) = Orders::new();
        sessions.open(host.clone(), 1, first);
        sessions.open(host.clone(), 2, second);
        assert!(first_ended.is_cancelled());
        sessions.close(&host, 1);
        assert!(!second_ended.is_cancelled());
        sessions.send(&host, Bytes::from_static(b"x"));
        assert_eq!(received.try_recv().unwrap(), Order::Assignment(Bytes::from_static(b"x")));
        sessions.end(&host);
        assert!(second_ended.is_cancelled());
    }
}
