//! Who lies where in one block of device memory. Pure: numbers only.

/// Places begin at multiples of so many values: 256 bytes, which is what CUDA's own allocations have, and what its libraries'
/// widest loads want.
const ALIGNMENT: usize = 64;

/// Values that lie together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// In values of four bytes from the beginning of the block.
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Region {
    fn end(self) -> usize {
        self.start + self.len.next_multiple_of(ALIGNMENT)
    }
}

/// Hands out regions, and takes them back for others that come later in the same order of work.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// Free stretches, from and to, ascending and never adjacent.
    free: Vec<[usize; 2]>,
    /// Everything from here on is free.
    end: usize,
    most: usize,
}

impl Regions {
    /// The smallest stretch that holds `len` values.
    pub(super) fn take(&mut self, len: usize) -> Region {
        let size = len.next_multiple_of(ALIGNMENT);
        let fits = self.free.iter().enumerate().filter(|(_, [from, to])| to - from >= size);
        let best = fits.min_by_key(|(_, [from, to])| to - from).map(|(at, _)| at);
        let start = match best {
            Some(at) => {
                let start = self.free[at][0];
                self.free[at][0] += size;
                if self.free[at][0] == self.free[at][1] {
                    self.free.remove(at);
                }
                start
            }
            None => {
                self.end += size;
                self.end - size
            }
        };
        self.most = self.most.max(self.end);
        Region { start, len }
    }

    /// Values that lie behind all others, those given back too: for what every step uses. The last to be taken.
    pub(super) fn take_apart(&mut self, len: usize) -> Region {
        let start = self.most;
        self.most += len.next_multiple_of(ALIGNMENT);
        Region { start, len }
    }

    /// Nobody uses it any more.
    pub(super) fn give(&mut self, region: Region) {
        let (from, to) = (region.start, region.end());
        if from == to {
            return;
        }
        let at = self.free.partition_point(|stretch| stretch[0] < from);
        self.free.insert(at, [from, to]);
        if at + 1 < self.free.len() && self.free[at][1] == self.free[at + 1][0] {
            self.free[at][1] = self.free.remove(at + 1)[1];
        }
        if at > 0 && self.free[at - 1][1] == self.free[at][0] {
            self.free[at - 1][1] = self.free.remove(at)[1];
        }
        if self.free.last().is_some_and(|stretch| stretch[1] == self.end) {
            self.end = self.free.pop().map_or(self.end, |stretch| stretch[0]);
        }
    }

    /// Values that the block must have.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_used_again_and_grows_together() {
        let mut regions = Regions::default();
        let [a, b, c] = [100, 64, 1].map(|len| regions.take(len));
        assert_eq!([a.start, b.start, c.start], [0, 128, 192]);
        regions.give(a);
        assert_eq!(regions.take(65).start, 0, "128 are free there");
        regions.give(Region { start: 0, len: 65 });
        regions.give(b);
        assert_eq!(regions.take(192).start, 0, "both together");
        regions.give(c);
        assert_eq!((regions.take(10).start, regions.most()), (192, 256));
    }

    /// Whatever is taken and given, no two regions overlap.
    #[test]
    fn nobody_lies_on_another() {
        let mut draws = lockstep_proto::keys::Key::new(1, "test", "regions").stream(0, 0, 0);
        let (mut regions, mut held) = (Regions::default(), Vec::<Region>::new());
        for _ in 0..2000 {
            if held.len() > 12 || (!held.is_empty() && draws.below(3) == 0) {
                regions.give(held.swap_remove(draws.below(held.len() as u32) as usize));
                continue;
            }
            let new = regions.take(1 + draws.below(1000) as usize);
            assert!(new.start % ALIGNMENT == 0 && new.end() <= regions.most());
            assert!(held.iter().all(|other| other.end() <= new.start || new.end() <= other.start), "{new:?} {held:?}");
            held.push(new);
        }
        held.into_iter().for_each(|region| regions.give(region));
        assert_eq!(regions.take(regions.most()).start, 0, "all is one again");
    }
}
