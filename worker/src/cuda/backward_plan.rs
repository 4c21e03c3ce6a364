//! Where the gradients of a plan's steps lie. They come and go: a step's dy is free as soon as its dx is there.

use super::plan::{Step, Work};
use super::regions::{Region, Regions};

/// Gives all `steps` their places, the last one's dy being `dy`; gives where the gradient of the first one's x lies, which
/// is made if it is `wanted`.
pub(super) fn place(steps: &mut [Step], regions: &mut Regions, mut dy: Region, wanted: bool) -> Region {
    for (number, step) in steps.iter_mut().enumerate().rev() {
        let wanted = wanted || number > 0;
        step.dy = dy;
        let dx = match &mut step.work {
            Work::Act(_) | Work::Dropout { .. } | Work::Norm { .. } => dy,
            Work::Residual { inner, copy, .. } => {
                *copy = regions.take(dy.len);
                let inner_dx = place(inner, regions, *copy, wanted);
                if wanted {
                    regions.give(inner_dx);
                }
                dy
            }
            Work::Conv { pool: Some(pool), .. } => {
                pool.draw = regions.take(pool.raw.len);
                let dx = if wanted { regions.take(step.x.len) } else { dy };
                regions.give(pool.draw);
                if wanted {
                    regions.give(dy);
                }
                dx
            }
            Work::Conv { .. }
            | Work::Linear { .. }
            | Work::MaxPool { .. }
            | Work::AvgPool { .. }
            | Work::Transpose { .. }
                if wanted =>
            {
                let dx = regions.take(step.x.len);
                regions.give(dy);
                dx
            }
            _ => dy,
        };
        step.dx = wanted.then_some(dx);
        dy = dx;
    }
    dy
}
