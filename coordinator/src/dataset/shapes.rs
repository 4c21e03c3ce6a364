//! The ten shapes of the built-in set, as tests of a point in the shape's own coordinates.

/// The classes in the order of their labels.
pub(super) const NAMES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "cross", "bar", "crescent", "arrow", "dumbbell"];

/// No point further out than this, along either axis, is inside a shape.
pub(super) const REACH: f32 = 1.2;

/// Whether (u, v) is inside the shape of class `label`. Only sums, products and comparisons: the same on every machine.
pub(super) fn inside(label: u8, u: f32, v: f32) -> bool {
    let square = u * u + v * v;
    let (across, along) = (u.abs(), v.abs());
    match label {
        0 => square < 0.9,
        1 => square < 1.0 && square > 0.36,
        2 => across < 0.82 && along < 0.82,
        3 => across.max(along) < 0.88 && across.max(along) > 0.52,
        4 => v > -0.7 && v < 0.95 && across < (0.95 - v) * 0.62,
        5 => (across < 0.28 && along < 1.0) || (along < 0.28 && across < 1.0),
        6 => across < 1.15 && along < 0.36,
        7 => square < 1.0 && (u - 0.5) * (u - 0.5) + v * v > 0.64,
        8 => (v > 0.0 && across < 1.0 - v) || (v <= 0.0 && v > -1.0 && across < 0.26),
        _ => {
            let away = across - 0.72;
            away * away + v * v < 0.2 || (across < 0.72 && along < 0.14)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_differ_and_stay_within_reach() {
        let grid = |n: i32| (-n..=n).flat_map(move |y| (-n..=n).map(move |x| (x as f32 / 20.0, y as f32 / 20.0)));
        let cover = |label| grid(40).filter(|&(u, v)| inside(label, u, v)).collect::<Vec<_>>();
        for label in 0..10 {
            let points = cover(label);
            assert!(points.len() > 200, "{} covers {} points", NAMES[label as usize], points.len());
            assert!(points.iter().all(|(u, v)| u.abs() <= REACH && v.abs() <= REACH));
            for other in 0..label {
                let others = cover(other);
                let shared = points.iter().filter(|p| others.contains(p)).count();
                let either = points.len() + others.len() - shared;
                assert!(shared * 10 < either * 9, "{} and {}", NAMES[label as usize], NAMES[other as usize]);
            }
        }
    }
}
