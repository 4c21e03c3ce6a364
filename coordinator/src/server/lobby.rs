//! Who is in, up to a limit: when all places are taken, the guest that was quiet for longest makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Places for guests.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    /// Guests come and go on any of the server's tasks. Held for a few look-ups.
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    all: BTreeMap<u64, Guest>,
    /// Those who hold nothing, in the order in which they would have to go.
    idle: BTreeMap<Rank, u64>,
    next: u64,
}

/// Guests that never called go first, then whoever called longest ago.
type Rank = (bool, u64);

#[derive(Debug)]
struct Guest {
    rank: Rank,
    since: Instant,
    /// Sessions that live on this guest.
    pins: u32,
    /// Dropping it tells the guest to go.
    _stay: oneshot::Sender<()>,
}

/// One guest's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    id: u64,
}

/// While it lives, the guest does not have to make room.
#[derive(Debug)]
pub(super) struct Pin(Arc<Place>);

/// Resolves, with an error, when the guest must go.
pub(super) type Eviction = oneshot::Receiver<()>;

impl Guests {
    fn rank(&mut self, called: bool) -> Rank {
        self.next += 1;
        (called, self.next)
    }

    fn remove(&mut self, id: u64) {
        if let Some(guest) = self.all.remove(&id) {
            self.idle.remove(&guest.rank);
        }
    }

    /// Puts a guest at the end of the queue, unless it is pinned.
    fn queue(&mut self, id: u64) {
        let rank = self.rank(true);
        let Some(guest) = self.all.get_mut(&id) else { return };
        self.idle.remove(&guest.rank);
        (guest.rank, guest.since) = (rank, Instant::now());
        if guest.pins == 0 {
            self.idle.insert(rank, id);
        }
    }
}

impl Lobby {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, guests: Mutex::default() })
    }

    /// Nobody panics while holding the lock.
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, somebody else's if need be; none if everybody who is here holds something.
    pub(super) fn enter(self: &Arc<Self>) -> Option<(Arc<Place>, Eviction)> {
        let mut guests = self.guests();
        if guests.all.len() >= self.most {
            let (_, oldest) = guests.idle.pop_first()?;
            guests.all.remove(&oldest);
        }
        let (stay, eviction) = oneshot::channel();
        let rank = guests.rank(false);
        let id = rank.1;
        guests.all.insert(id, Guest { rank, since: Instant::now(), pins: 0, _stay: stay });
        guests.idle.insert(rank, id);
        Some((Arc::new(Place { lobby: Arc::clone(self), id }), eviction))
    }

    /// Sends everybody away who holds nothing and was quiet for `limit`.
    pub(super) fn sweep(&self, limit: Duration) {
        let mut guests = self.guests();
        let quiet: Vec<u64> =
            guests.idle.values().copied().filter(|id| guests.all[id].since.elapsed() > limit).collect();
        quiet.into_iter().for_each(|id| guests.remove(id));
    }
}

impl Place {
    /// The guest did something: it goes to the end of the queue.
    pub(super) fn called(&self) {
        self.lobby.guests().queue(self.id);
    }

    pub(super) fn pin(self: &Arc<Self>) -> Pin {
        let mut guests = self.lobby.guests();
        if let Some(guest) = guests.all.get_mut(&self.id) {
            guest.pins += 1;
            let rank = guest.rank;
            guests.idle.remove(&rank);
        }
        Pin(Arc::clone(self))
    }

    /// Sends the guest away, pinned or not.
    pub(super) fn evict(&self) {
        self.lobby.guests().remove(self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.evict();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut guests = self.0.lobby.guests();
        if let Some(guest) = guests.all.get_mut(&self.0.id) {
            guest.pins -= 1;
        }
        guests.queue(self.0.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    fn gone(eviction: &mut Eviction) -> bool {
        eviction.try_recv() == Err(TryRecvError::Closed)
    }

    #[tokio::test]
    async fn the_silent_go_before_the_quiet_and_the_pinned_stay() {
        let lobby = Lobby::new(3);
        let (caller, mut caller_out) = lobby.enter().expect("room");
        let (_silent, mut silent_out) = lobby.enter().expect("room");
        let (worker, mut worker_out) = lobby.enter().expect("room");
        caller.called();
        let pin = worker.pin();
        let (_fourth, mut fourth_out) = lobby.enter().expect("the silent one's");
        assert!(gone(&mut silent_out) && !gone(&mut caller_out));
        let (fifth, _fifth_out) = lobby.enter().expect("the fourth's");
        assert!(gone(&mut fourth_out));
        let _fifth_pin = fifth.pin();
        let (sixth, _sixth_out) = lobby.enter().expect("the caller's");
        assert!(gone(&mut caller_out));
        let _sixth_pin = sixth.pin();
        assert!(lobby.enter().is_none(), "all hold something");
        assert!(!gone(&mut worker_out));
        drop(pin);
        assert!(lobby.enter().is_some());
        assert!(gone(&mut worker_out));
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_guest_leaves() {
        let lobby = Lobby::new(1);
        let (first, _out) = lobby.enter().expect("room");
        let pin = first.pin();
        drop((first, pin));
        let (second, mut out) = lobby.enter().expect("free again");
        let _pin = second.pin();
        assert!(lobby.enter().is_none() && !gone(&mut out));
        second.evict();
        assert!(gone(&mut out), "a session that misbehaves goes, pinned or not");
    }

    #[tokio::test]
    async fn the_quiet_are_swept_out() {
        let lobby = Lobby::new(9);
        let (quiet, mut quiet_out) = lobby.enter().expect("room");
        let (worker, mut worker_out) = lobby.enter().expect("room");
        let _pin = worker.pin();
        tokio::time::sleep(Duration::from_millis(2)).await;
        lobby.sweep(Duration::from_millis(1));
        assert!(gone(&mut quiet_out) && !gone(&mut worker_out));
        quiet.called(); // too late, and no harm
        lobby.sweep(Duration::ZERO);
    }
}
