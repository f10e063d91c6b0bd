//! The share of one address in the handshakes under way: who connects and says nothing keeps nobody else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use landfall_common::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes of one address at once. A fleet behind one address has so many in each round trip.
const PER_ADDRESS: usize = 16;

/// Connections that wait for others of their own address, in all: a fleet behind one address that comes back at
/// once. Each has a file descriptor, of which the unit allows eight times as many.
const WAITING: usize = 8192;

/// A connection that has waited for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is at the door.
#[derive(Debug)]
pub(super) struct Room {
    addresses: HashMap<IpAddr, Arc<Semaphore>>,
    /// Addresses without a handshake are forgotten when so many are known.
    forget_at: usize,
    waiting: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { addresses: HashMap::new(), forget_at: 64, waiting: Arc::new(Semaphore::new(WAITING)) }
    }
}

/// What a new connection gets.
#[derive(Debug)]
pub(super) enum Entrance {
    /// Its part of its address's share.
    Open(OwnedSemaphorePermit),
    /// A place to wait in.
    Waiting(Waiting),
}

/// A connection that waits until another one of its address is done.
#[derive(Debug)]
pub(super) struct Waiting {
    share: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    /// Waits for a part of the share; `None` if that took too long.
    pub(super) async fn wait(self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(PATIENCE, self.share.acquire_owned()).await.ok()?.ok()
    }
}

impl Room {
    /// Lets a connection in, or to wait; `None` if there is no room for either.
    pub(super) fn enter(&mut self, address: IpAddr) -> Option<Entrance> {
        if self.addresses.len() >= self.forget_at {
            self.addresses.retain(|_, share| Arc::strong_count(share) > 1);
            self.forget_at = 2 * self.addresses.len() + 64;
        }
        let share =
            self.addresses.entry(of_one(address)).or_insert_with(|| Arc::new(Semaphore::new(PER_ADDRESS)));
        if let Ok(permit) = share.clone().try_acquire_owned() {
            return Some(Entrance::Open(permit));
        }
        let place = self.waiting.clone().try_acquire_owned().ok()?;
        Some(Entrance::Waiting(Waiting { share: share.clone(), _place: place }))
    }
}

/// Whoever has one IPv6 address has a whole /64 of them.
fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_then_waits_for_itself() {
        let mut room = Room::default();
        let mut open: Vec<_> = (0..PER_ADDRESS).map(|_| room.enter(address("192.0.2.1")).unwrap()).collect();
        assert!(open.iter().all(|entrance| matches!(entrance, Entrance::Open(_))));
        let Some(Entrance::Waiting(waiting)) = room.enter(address("::ffff:192.0.2.1")) else {
            panic!("it is full")
        };
        assert!(matches!(room.enter(address("192.0.2.2")), Some(Entrance::Open(_))));
        open.pop();
        drop(waiting.wait().await.unwrap());
    }

    #[test]
    fn those_who_wait_are_counted_and_addresses_that_are_done_forgotten() {
        let mut room = Room::default();
        let kept: Vec<_> = (0..PER_ADDRESS + WAITING)
            .filter_map(|i| room.enter(address(&format!("2001:db8::{i:x}"))))
            .collect();
        assert_eq!(kept.len(), PER_ADDRESS + WAITING);
        assert!(room.enter(address("2001:db8::1")).is_none(), "one /64 is one stranger");
        for number in 0..1000u32 {
            let other = IpAddr::V4((0x0a00_0000 + number).into());
            assert!(matches!(room.enter(other), Some(Entrance::Open(_))));
        }
        assert!(room.addresses.len() < 200, "{}", room.addresses.len());
    }
}
