//! How a schedule ended, and whether that is how it should.

use super::super::super::Outcome;
use super::super::counts::Counts;
use super::super::toy;
use super::super::world::Broken;
use super::Weather;

/// What a schedule came to.
pub(in super::super) struct End {
    pub(in super::super) counts: Counts,
    pub(in super::super) restarts: u64,
    pub(in super::super) gaps: u64,
}

impl Weather {
    /// Whether the run came to what it should.
    pub(super) fn judge(self) -> Result<End, Broken> {
        let Self { world, plan, poison, restarts, gaps, .. } = self;
        let expected = match (poison, &world.outcome) {
            (Some((step, _)), Some(Outcome::Failed { reason })) if reason.contains("NaN") => step,
            (None, Some(Outcome::Complete)) => plan.total_steps(),
            (_, outcome) => return Err(format!("it ended with {outcome:?}")),
        };
        if world.version != expected {
            return Err(format!("{} steps of {expected}", world.version));
        }
        if world.value != toy::undisturbed(&plan, expected) {
            return Err("another result than that of the quiet run".to_owned());
        }
        let due: Vec<u64> = (0..=expected).filter(|version| plan.evaluates(*version)).collect();
        if world.evaluations != due {
            return Err(format!("evaluations after {:?}, due after {due:?}", world.evaluations));
        }
        Ok(End { counts: world.counts, restarts, gaps })
    }
}
