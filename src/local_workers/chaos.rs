//! `--chaos` at work: harms workers on schedule, says so, and leaves none of them frozen.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lockstep_coordinator::telemetry::format::count;
use lockstep_coordinator::telemetry::{Emitter, Event};

use super::place::{Place, Victim};
use super::schedule::{Planned, Schedule};
use super::{LOOK, name};
use crate::cli::Fault;

/// What chaos did, and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    pub kills: u64,
    pub freezes: u64,
    pub leaves: u64,
    /// Shards that were taken from their workers and given out again, whatever the reason.
    pub leases: u64,
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, freezes, leaves, leases } = *self;
        let faults = count(kills + freezes + leaves, "fault");
        let kinds = [("killed", kills), ("frozen", freezes), ("asked to leave", leaves)];
        let kinds: Vec<_> = kinds.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        write!(f, "{faults}{kinds}; {} taken from a worker and given out again", count(leases, "lease"))
    }
}

/// Harms the workers in `places`.
pub(super) struct Chaos {
    pub(super) schedule: Schedule,
    pub(super) places: Vec<Arc<Place>>,
    pub(super) emitter: Emitter,
    pub(super) over: Arc<AtomicBool>,
}

/// A worker that can't move. It goes on when this is dropped, however the thread ends.
struct Frozen {
    place: Arc<Place>,
    generation: u64,
    until: Instant,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.place.thaw(self.generation);
    }
}

impl Chaos {
    /// Until the run is over.
    pub(super) fn rage(mut self) -> Toll {
        let start = Instant::now();
        let (mut toll, mut frozen) = (Toll::default(), Vec::<Frozen>::new());
        let mut next = self.schedule.next();
        while !self.over.load(Ordering::Acquire) {
            frozen.retain(|one| Instant::now() < one.until);
            while let Some(planned) = next.filter(|planned| planned.at <= start.elapsed()) {
                frozen.extend(self.inject(planned, &mut toll));
                next = self.schedule.next();
            }
            std::thread::sleep(LOOK);
        }
        toll
    }

    /// Harms the worker that is meant, or else the next one that can be.
    fn inject(&self, planned: Planned, toll: &mut Toll) -> Option<Frozen> {
        let places = self.places.iter().enumerate();
        let mut places = places.cycle().skip(planned.worker).take(self.places.len());
        let (number, place, victim) = places.find_map(|(number, place)| Some((number, place, place.unharmed()?)))?;
        self.harm(planned, number, place, victim, toll)
    }

    fn harm(
        &self,
        Planned { fault, lasts, .. }: Planned,
        number: usize,
        place: &Arc<Place>,
        victim: Victim<'_>,
        toll: &mut Toll,
    ) -> Option<Frozen> {
        // said before it is done, so that a log has the cause above what follows from it
        let say = |what: String| self.emitter.emit(Event::Notice { text: format!("chaos: {} {what}", name(number)) });
        match fault {
            Fault::Kill => {
                toll.kills += 1;
                say("is killed (SIGKILL)".to_owned());
                victim.kill();
                None
            }
            Fault::Leave => {
                toll.leaves += 1;
                say("is asked to leave (SIGTERM)".to_owned());
                victim.ask_to_leave();
                None
            }
            Fault::Freeze => {
                toll.freezes += 1;
                say(format!("is frozen for {:.1} s (SIGSTOP)", lasts.as_secs_f64()));
                let generation = victim.freeze();
                Some(Frozen { place: Arc::clone(place), generation, until: Instant::now() + lasts })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toll_in_words() {
        assert_eq!(Toll::default().to_string(), "0 faults; 0 leases taken from a worker and given out again");
        let toll = Toll { kills: 2, freezes: 0, leaves: 1, leases: 1 };
        let text = "3 faults (2 killed, 1 asked to leave); 1 lease taken from a worker and given out again";
        assert_eq!(toll.to_string(), text);
    }
}
