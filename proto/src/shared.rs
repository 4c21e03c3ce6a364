//! Memory that coordinator and workers of one host share: tensors pass through it, everything else over gRPC.
//!
//! A region has a few slots of one length. Who may write or read a slot is agreed over gRPC: the coordinator writes the
//! parameters of a version into a slot that only older versions used, a worker writes a gradient into a slot that it has
//! claimed and the coordinator has not released. Readers copy a slot out and compare the copy's checksum with the one that
//! came over gRPC, so that a slot that changed under their hands is noticed.
//!
//! The memory has no name in the file system (`memfd`): it goes when the last process that maps it ends, however it ends.
//! Workers find it through `/proc/<coordinator>/fd`, which the kernel lets only the same user do, in the same PID namespace;
//! whoever can't open it uses gRPC.
#![expect(unsafe_code, reason = "memory that another process writes can't be a slice: it is copied by pointer")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use memmap2::MmapRaw;
use rayon::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};
use xxhash_rust::xxh3::Xxh3;

use crate::tensors::{BLOCK_BYTES, Sums, as_bytes, is_finite, parallel};
use crate::wire::{CHUNK_BYTES, SharedRegion};

/// The first page: the nonce, then a word a slot.
const HEADER: usize = 4096;
const NONCE: usize = 16;
/// Slots that the header has words for.
const MOST_SLOTS: usize = 64;

/// What was found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub digest: u64,
    /// No value is NaN or infinite.
    pub finite: bool,
}

/// One mapped region.
#[derive(Debug)]
pub struct Shared {
    map: MmapRaw,
    /// Keeps the descriptor that others open the memory by.
    _file: File,
    values: usize,
    slots: usize,
}

impl Shared {
    /// New memory with `slots` slots of `values` f32 each, all zero, and how another process finds it. `nonce` tells it from
    /// another host's that happens to have the same path.
    ///
    /// # Errors
    /// The kernel's, or more slots than a header has words for.
    pub fn create(values: usize, slots: usize, nonce: [u8; NONCE]) -> io::Result<(Self, SharedRegion)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory: OwnedFd = rustix::fs::memfd_create("lockstep", flags)?;
        let file = File::from(memory);
        file.set_len(length(values, slots)?)?;
        // a mapping of memory that somebody cuts short is a crash: nobody can
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let shared = Self { map: MmapRaw::map_raw(&file)?, _file: file, values, slots };
        // SAFETY: the header is longer than the nonce, and nobody else has the memory yet
        unsafe { shared.map.as_mut_ptr().copy_from_nonoverlapping(nonce.as_ptr(), NONCE) };
        let region = SharedRegion { path, nonce: nonce.to_vec(), values: values as u64, slots: slots as u32 };
        Ok((shared, region))
    }

    /// The memory that another process of this host created.
    ///
    /// # Errors
    /// It can't be opened (another user, another container), or it is not what `region` says.
    pub fn open(region: &SharedRegion) -> io::Result<Self> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let (values, slots) = (usize::try_from(region.values), region.slots as usize);
        let values = values.map_err(|_| wrong("it is longer than this machine's memory"))?;
        if !is_descriptor(&region.path) {
            return Err(wrong("it is no memory of a process: its path is not /proc/<process>/fd/<number>"));
        }
        let file = OpenOptions::new().read(true).write(true).open(&region.path)?;
        if file.metadata()?.len() != length(values, slots)? {
            return Err(wrong("it has another length"));
        }
        // a file that can shrink could take the ground from under the mapping
        if !rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(wrong("it is not sealed"));
        }
        let shared = Self { map: MmapRaw::map_raw(&file)?, _file: file, values, slots };
        let mut nonce = [0; NONCE];
        // SAFETY: the length was checked, so the header is there
        unsafe { shared.map.as_ptr().copy_to_nonoverlapping(nonce.as_mut_ptr(), NONCE) };
        if nonce[..] != region.nonce[..] {
            return Err(wrong("it is another host's"));
        }
        Ok(shared)
    }

    /// Copies `values` to the beginning of `slot`; the checksum of what was copied.
    ///
    /// # Panics
    /// If there is no such slot or it is shorter: both are the caller's own numbers.
    pub fn write(&self, slot: usize, values: &[f32]) -> u64 {
        assert!(slot < self.slots && values.len() <= self.values, "slot {slot}, {} values", values.len());
        let to = Address(self.slot(slot));
        self.sum(values.len(), |at, part| {
            let bytes = &as_bytes(values)[at..at + part];
            let mut hash = Xxh3::new();
            for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                // SAFETY: the block lies in the slot, which is as long as `values` at least; the two do not overlap, since nobody
                // has a slice into the mapping
                unsafe { to.add(at + i * BLOCK_BYTES).copy_from_nonoverlapping(block.as_ptr(), block.len()) };
                hash.update(block);
            }
            hash.digest()
        })
    }

    /// Copies the beginning of `slot` into `values`; what the copy is, seen in the same pass over memory. None: there is no such slot.
    ///
    /// # Panics
    /// If the slot is shorter: the length is the caller's own number.
    pub fn read(&self, slot: usize, values: &mut [f32]) -> Option<Found> {
        assert!(values.len() <= self.values, "{} values of {}", values.len(), self.values);
        if slot >= self.slots {
            return None;
        }
        let (from, to) = (Address(self.slot(slot)), Address(values.as_mut_ptr().cast()));
        // parts are read by several threads; each only ever says that something is wrong
        let finite = AtomicBool::new(true);
        let digest = self.sum(values.len(), |at, part| {
            let mut hash = Xxh3::new();
            for at in (at..at + part).step_by(BLOCK_BYTES).map(|block| (block, BLOCK_BYTES.min(at + part - block))) {
                let (block, len) = at;
                // SAFETY: the block lies in the slot and in `values`, and parts do not overlap; the copy is ours alone, so it
                // may be a slice
                let copy = unsafe {
                    to.add(block).copy_from_nonoverlapping(from.add(block), len);
                    std::slice::from_raw_parts(to.add(block), len)
                };
                hash.update(copy);
                if !is_finite(bytemuck::cast_slice(copy)) {
                    finite.store(false, Ordering::Relaxed);
                }
            }
            hash.digest()
        });
        Some(Found { digest, finite: finite.into_inner() })
    }

    /// Takes a slot that nobody uses, if there is one: until the other side releases it.
    #[must_use]
    pub fn claim(&self) -> Option<usize> {
        (0..self.slots).find(|slot| self.word(*slot).is_some_and(|word| word.swap(1, Ordering::Acquire) == 0))
    }

    /// Gives a slot back, read or not.
    pub fn release(&self, slot: usize) {
        if let Some(word) = self.word(slot) {
            word.store(0, Ordering::Release);
        }
    }

    /// The checksum of `values` from those of its parts; `sum` has the first byte and the length of each.
    fn sum(&self, values: usize, sum: impl Fn(usize, usize) -> u64 + Sync) -> u64 {
        let bytes = values * 4;
        let part = |at: usize| sum(at * CHUNK_BYTES, CHUNK_BYTES.min(bytes - at * CHUNK_BYTES));
        let mut sums = Sums::new(bytes);
        if parallel(values) {
            sums.0.par_iter_mut().enumerate().for_each(|(at, sum)| *sum = part(at));
        } else {
            sums.0.iter_mut().enumerate().for_each(|(at, sum)| *sum = part(at));
        }
        sums.digest()
    }

    fn word(&self, slot: usize) -> Option<&AtomicU32> {
        if slot >= self.slots {
            return None;
        }
        // SAFETY: `length` allows no more slots than the header has words for; the words are aligned, live as long as the
        // mapping, and are only ever used as atomics
        Some(unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(NONCE).cast::<u32>().add(slot)) })
    }

    fn slot(&self, slot: usize) -> *mut u8 {
        // in bounds by `length`, for slots below `slots`
        self.map.as_mut_ptr().wrapping_add(HEADER + slot * stride(self.values))
    }
}

/// Whether `path` names a descriptor of a process. It comes from a peer, and opening it must have no effect: a path with `..`
/// in it could be any device.
fn is_descriptor(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = path.strip_prefix("/proc/").and_then(|rest| rest.split_once("/fd/"));
    parts.is_some_and(|(process, descriptor)| number(process) && number(descriptor))
}

/// Bytes from one slot to the next: whole pages.
fn stride(values: usize) -> usize {
    (values * 4).next_multiple_of(4096)
}

fn length(values: usize, slots: usize) -> io::Result<u64> {
    let long = || io::Error::new(io::ErrorKind::InvalidInput, "more shared memory than there are addresses");
    if slots > MOST_SLOTS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more slots of shared memory than a header tells"));
    }
    let all = values.checked_mul(4).and_then(|bytes| bytes.checked_next_multiple_of(4096));
    let all = all.and_then(|bytes| bytes.checked_mul(slots)).and_then(|bytes| bytes.checked_add(HEADER));
    all.filter(|bytes| *bytes <= isize::MAX as usize).map(|bytes| bytes as u64).ok_or_else(long)
}

/// A pointer that threads may share: each works on its own part.
#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: what lies behind it is only touched in parts that do not overlap, see the uses
unsafe impl Send for Address {}
// SAFETY: as above
unsafe impl Sync for Address {}

impl Address {
    fn add(self, bytes: usize) -> *mut u8 {
        self.0.wrapping_add(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{PARALLEL, digest_values};

    #[test]
    fn what_one_side_writes_the_other_reads_with_one_checksum() {
        for n in [0, 1, 7, CHUNK_BYTES / 4 + 5, PARALLEL + 11] {
            let values: Vec<f32> = (0..n).map(|i| i as f32 - 3.5).collect();
            let (ours, region) = Shared::create(n, 2, [7; 16]).expect("memory");
            let theirs = Shared::open(&region).expect("the same process may open it, too");
            assert_eq!(theirs.write(1, &values), digest_values(&values));
            let mut read = vec![0.0; n];
            assert_eq!(ours.read(1, &mut read), Some(Found { digest: digest_values(&values), finite: true }));
            assert_eq!(read, values);
            assert_eq!(
                ours.read(0, &mut read).map(|found| found.digest),
                Some(digest_values(&vec![0.0; n])),
                "the other slot is untouched"
            );
            assert_eq!(ours.read(2, &mut read), None);
        }
    }

    #[test]
    fn a_slot_is_claimed_once_until_it_is_released() {
        let (ours, region) = Shared::create(4, 2, [1; 16]).expect("memory");
        let theirs = Shared::open(&region).expect("opened");
        assert_eq!((theirs.claim(), theirs.claim(), theirs.claim()), (Some(0), Some(1), None));
        ours.release(1);
        assert_eq!((theirs.claim(), theirs.claim()), (Some(1), None));
        ours.release(9);
    }

    #[test]
    fn what_is_not_the_announced_memory_is_refused() {
        let (_ours, region) = Shared::create(4, 2, [1; 16]).expect("memory");
        let refused = |region: SharedRegion| Shared::open(&region).expect_err("refused").to_string();
        assert!(refused(SharedRegion { nonce: vec![2; 16], ..region.clone() }).contains("another host"));
        assert!(refused(SharedRegion { values: 5000, ..region.clone() }).contains("length"));
        for path in
            ["/etc/hostname", "/proc/../dev/null", "/proc/self/fd/0", "/proc/1/fd/../../etc/hostname", "/proc//fd/"]
        {
            assert!(refused(SharedRegion { path: path.to_owned(), ..region.clone() }).contains("no memory"), "{path}");
        }
        assert!(refused(SharedRegion { slots: 65, ..region.clone() }).contains("slots"));
        assert!(refused(SharedRegion { values: u64::MAX, ..region }).contains("addresses"));
    }
}
