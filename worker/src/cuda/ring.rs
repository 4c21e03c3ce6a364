//! NCCL: a communicator that never blocks, so that a ring that is called off can be left in the middle of a sum.

#![allow(unsafe_code)] // a C library's communicator

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::sys as driver;
use candle_core::cuda_backend::cudarc::nccl::{result, sys};
use lockstep_proto::tree::Node;
use lockstep_proto::wire::RING_ID_BYTES;

use super::deadline::returns_within;
use super::gpu::Gpu;
use super::kernels::Add;
use super::memory::{Address, Block};
use super::regions::Region;
use crate::device::Processor;
use crate::ring::{GoOn, RingError};

/// For so long the thread asks without pause: on one machine a sum takes less.
const SPIN: Duration = Duration::from_millis(1);

/// … then it leaves the core to others between two questions: for a fiftieth of what it has waited already, which is as much as it may come
/// too late, up to a millisecond.
fn pause(waited: Duration) -> Duration {
    (waited / 50).min(Duration::from_millis(1))
}

/// How long it may take to leave a ring. NCCL's threads and kernels look for the word to end all the time and need milliseconds; while one
/// does not, the others wait for this worker in the next ring.
const LEAVE: Duration = Duration::from_secs(10);

/// `ncclConfig_t` as NCCL 2.14 had it, the first one. Later ones see by its size and version which fields it lacks.
#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: i32,
}

impl Config {
    const NOT_BLOCKING: Self = Self { size: size_of::<Self>(), magic: 0xcafe_beef, version: 21_400, blocking: 0 };
}

/// NCCL's version, and the GPU by what tells it from every other in the world.
pub(crate) fn ring_identity(gpu: &Gpu) -> Option<(u32, String)> {
    let version = u32::try_from(result::get_nccl_version().ok()?).ok()?;
    let uuid = gpu.stream.context().uuid().ok()?;
    Some((version, uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect()))
}

/// A new name for ranks to find each other by.
///
/// # Errors
/// NCCL finds no network, not even loopback.
pub(crate) fn ring_name() -> Result<Vec<u8>, RingError> {
    let id = result::get_uniqueid().map_err(|error| said("ncclGetUniqueId", error.0, None))?;
    Ok(id.internal.iter().map(|byte| *byte as u8).collect())
}

/// One rank.
pub(crate) struct Ring {
    pub(super) gpu: Arc<Gpu>,
    pub(super) communicator: sys::ncclComm_t,
    pub(super) rank: u32,
    pub(super) size: u32,
    /// The sum of a rank that gives nothing.
    own: Room,
    /// What it is sent by others.
    pub(super) sent: Room,
}

/// Memory that is kept from step to step, and its length.
#[derive(Default)]
pub(super) struct Room(Option<(Block, usize)>);

impl Room {
    /// So many values, whatever they are. Work that the GPU was asked for with those of before must be done.
    pub(super) fn of(&mut self, gpu: &Gpu, len: usize) -> Result<Address, RingError> {
        if self.0.as_ref().is_none_or(|(_, held)| *held < len) {
            // the old one first: its memory may be the new one's
            self.0 = None;
            self.0 = Some((Block::new(&gpu.stream, len).map_err(failed)?, len));
        }
        let start = self.0.as_ref().map(|(block, _)| block.at(Region { start: 0, len }));
        start.ok_or_else(|| failed("memory that is not there"))
    }
}

impl Ring {
    /// Finds the other ranks.
    ///
    /// # Errors
    /// `go_on` said no; NCCL's own.
    pub(crate) fn form(
        processor: &Processor,
        id: &[u8],
        rank: u32,
        size: u32,
        go_on: GoOn<'_>,
    ) -> Result<Self, RingError> {
        let Processor::Gpu(gpu) = processor else {
            return Err(RingError::Failed("a rank needs a GPU".to_owned()));
        };
        let mut name = sys::ncclUniqueId { internal: [0; RING_ID_BYTES] };
        name.internal.iter_mut().zip(id).for_each(|(to, from)| *to = *from as _);
        gpu.bind().map_err(failed)?;
        let mut config = Config::NOT_BLOCKING;
        let mut communicator = std::ptr::null_mut();
        // SAFETY: all arguments live through the call; NCCL reads as much of the configuration as its size says
        let status = unsafe {
            let config = (&raw mut config).cast();
            sys::ncclCommInitRankConfig(&mut communicator, size as i32, name, rank as i32, config)
        };
        let (own, sent) = (Room::default(), Room::default());
        let ring = Self { gpu: Arc::clone(gpu), communicator, rank, size, own, sent };
        ring.expect("ncclCommInitRankConfig", status)?;
        ring.wait(go_on, |ring| ring.is_idle())?;
        Ok(ring)
    }

    /// Adds up what all ranks give: sums of `len` values each that are on the GPU, of this rank's nodes in order. Where the total lies then, on
    /// each rank: in the first of these, or in memory of the ring's until its next sum. With `leaves`, the shards of the step, it is the
    /// reduction tree's; else NCCL's own, whose order depends on the ranks.
    ///
    /// # Errors
    /// `go_on` said no; NCCL's own; the GPU's memory. The ring can't be used any more then, and what was given must outlive it.
    pub(crate) fn sum(
        &mut self,
        given: &[(Node, Address)],
        len: usize,
        leaves: Option<u32>,
        go_on: GoOn<'_>,
    ) -> Result<Address, RingError> {
        self.gpu.bind().map_err(failed)?;
        let at = match given.first() {
            Some((_, first)) => *first,
            None => self.own.of(&self.gpu, len)?,
        };
        match leaves {
            Some(leaves) => self.sum_along_tree(leaves, given, at, len, go_on)?,
            None => self.all_reduce(given, at, len)?,
        }
        self.wait(go_on, |ring| Ok(ring.is_idle()? && ring.is_done()?))?;
        Ok(at)
    }

    fn all_reduce(&mut self, given: &[(Node, Address)], at: Address, len: usize) -> Result<(), RingError> {
        if given.is_empty() {
            self.gpu.clear(at, len).map_err(failed)?;
        }
        let count = len as u32;
        given
            .iter()
            .skip(1)
            .try_for_each(|(_, b)| self.gpu.launch(Add { a: at, b: *b, y: at, count }, count))
            .map_err(failed)?;
        let (kind, op) = (sys::ncclDataType_t::ncclFloat32, sys::ncclRedOp_t::ncclSum);
        let stream = self.gpu.stream.cu_stream();
        // SAFETY: there are as many values, kept until the communicator is gone: the ring's own, or by the caller; the stream is the GPU's
        let status = unsafe {
            sys::ncclAllReduce(at as *const _, at as *mut _, len, kind, op, self.communicator, stream.cast())
        };
        self.expect("ncclAllReduce", status)
    }

    /// Asks `done` until it says yes.
    pub(super) fn wait(
        &self,
        go_on: GoOn<'_>,
        done: impl Fn(&Self) -> Result<bool, RingError>,
    ) -> Result<(), RingError> {
        let start = Instant::now();
        while !done(self)? {
            let waited = start.elapsed();
            if !go_on(waited) {
                return Err(RingError::Dissolved);
            }
            if waited > SPIN {
                std::thread::sleep(pause(waited));
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Whether NCCL has done what it was asked for, as far as the host has to do with it.
    pub(super) fn is_idle(&self) -> Result<bool, RingError> {
        let mut state = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator is alive; writes one number
        let status = unsafe { sys::ncclCommGetAsyncError(self.communicator, &mut state) };
        self.expect("ncclCommGetAsyncError", status)?;
        self.expect("NCCL", state)?;
        Ok(state != sys::ncclResult_t::ncclInProgress)
    }

    /// Whether the GPU is through with all that it was asked for.
    fn is_done(&self) -> Result<bool, RingError> {
        // SAFETY: the GPU's own stream
        match unsafe { driver::cuStreamQuery(self.gpu.stream.cu_stream()) } {
            driver::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => status.result().map(|()| true).map_err(failed),
        }
    }

    pub(super) fn expect(&self, what: &str, status: sys::ncclResult_t) -> Result<(), RingError> {
        match status {
            sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => Ok(()),
            status => Err(said(what, status, Some(self.communicator))),
        }
    }
}

/// For the thread that leaves.
struct Leaving {
    gpu: Arc<Gpu>,
    communicator: sys::ncclComm_t,
}

// SAFETY: a communicator may be ended by any thread, and its own waits meanwhile (see `Drop`)
unsafe impl Send for Leaving {}

impl Leaving {
    /// NCCL's end may wait for peers, a link or a kernel that never answer, whatever it promises. Whether the GPU is all right.
    fn leave(self) -> bool {
        let stream = &self.gpu.stream;
        // SAFETY: context and stream are alive, and so is the communicator, which is used no more. Not by cudarc's functions: they report an
        // error of before, if there is one, and do nothing else
        unsafe {
            let _ = driver::cuCtxSetCurrent(stream.context().cu_ctx());
            // what is under way on the stream ends by this …
            let _ = sys::ncclCommAbort(self.communicator);
            // … before the memory that it works on goes
            driver::cuStreamSynchronize(stream.cu_stream()) == driver::CUresult::CUDA_SUCCESS
        }
    }
}

impl Drop for Ring {
    /// Leaves, whatever is under way: a polite end would wait for ranks that may be gone.
    fn drop(&mut self) {
        if self.communicator.is_null() {
            return;
        }
        let leaving = Leaving { gpu: Arc::clone(&self.gpu), communicator: self.communicator };
        let problem = match returns_within(LEAVE, || leaving.leave()) {
            Some(true) => return,
            // it stays so for this process: a rank that left sooner took memory with it that a kernel here still read, say
            Some(false) => "the GPU failed while it left its ring".to_owned(),
            None => {
                let seconds = LEAVE.as_secs();
                format!("NCCL has not let go of its ring after {seconds} s, and may still write to the GPU's memory")
            }
        };
        tracing::error!(
            "{problem}, so this worker ends; `train` starts its workers again, one of your own you must; NCCL_DEBUG=INFO says more"
        );
        // not by `exit`: CUDA's own end waits for the same kernel
        std::process::abort();
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> RingError {
    // candle adds a backtrace where one is asked for
    RingError::Failed(error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// NCCL's words, which may name the machine or the link.
fn said(what: &str, status: sys::ncclResult_t, communicator: Option<sys::ncclComm_t>) -> RingError {
    // SAFETY: NCCL's own strings end with 0 and live for ever; a null communicator is allowed
    let words = |text: *const std::ffi::c_char| unsafe {
        if text.is_null() { String::new() } else { std::ffi::CStr::from_ptr(text).to_string_lossy().trim().to_owned() }
    };
    // SAFETY: both take any status, and a communicator that is alive or null
    let (short, long) = unsafe {
        let last = sys::ncclGetLastError(communicator.unwrap_or(std::ptr::null_mut()));
        (words(sys::ncclGetErrorString(status)), words(last))
    };
    let long = if long.is_empty() { long } else { format!(" ({long})") };
    RingError::Failed(format!("{what}: {short}{long}"))
}

#[cfg(test)]
mod tests {
    use super::super::memory::Pinned;
    use super::super::tests::gpu;
    use super::*;

    fn processor() -> Option<Processor> {
        gpu().map(Processor::Gpu)
    }

    /// Patience that only a hang exhausts.
    fn patient(waited: Duration) -> bool {
        waited < Duration::from_secs(60)
    }

    #[test]
    fn one_rank_has_the_sum_that_it_gives() {
        let Some(processor) = processor() else { return };
        let Processor::Gpu(gpu) = &processor else { panic!("a GPU") };
        let name = ring_name().expect("a name");
        assert_eq!(name.len(), RING_ID_BYTES);
        let mut ring = Ring::form(&processor, &name, 0, 1, &mut patient).expect("a ring of one");
        for length in [5, 5, 70_001] {
            let given: Vec<f32> = (0..length).map(|i| i as f32 - 2.5).collect();
            let block = Block::new(&gpu.stream, length).expect("room");
            let at = block.at(Region { start: 0, len: length });
            let mut values = Pinned::new(length).expect("memory");
            values.values_mut().copy_from_slice(&given);
            gpu.upload(values.values(), at).expect("a copy");
            // along the tree the one shard, or both of a step's as one node
            for leaves in [None, Some(1), Some(2)] {
                let node = Node::root(leaves.unwrap_or(1));
                assert_eq!(ring.sum(&[(node, at)], length, leaves, &mut patient), Ok(at));
            }
            // who gives nothing has the others' sum
            let nothing = ring.sum(&[], length, None, &mut patient).expect("a sum");
            for (from, expected) in [(at, given), (nothing, vec![0.0; length])] {
                gpu.download(&gpu.stream, from, values.values_mut()).expect("a copy");
                gpu.wait().expect("no error");
                assert_eq!(values.values(), expected);
            }
        }
        let error = ring.sum(&[], 5, Some(2), &mut patient).expect_err("one rank has all nodes");
        assert!(error.to_string().contains("rank 0 of 1 gives the nodes [] of a step with 2 shards"), "{error}");
        let (version, uuid) = ring_identity(gpu).expect("NCCL is here");
        assert!(version > 20_000 && uuid.len() == 32, "{version} {uuid}");
    }

    #[test]
    fn a_rank_that_never_comes_is_waited_for_until_somebody_says_no() {
        let Some(processor) = processor() else { return };
        let name = ring_name().expect("a name");
        let mut asked = 0;
        let mut thrice = |_| {
            asked += 1;
            asked < 3
        };
        let error = Ring::form(&processor, &name, 0, 2, &mut thrice).err();
        assert_eq!((error, asked), (Some(RingError::Dissolved), 3));
        // and the next ring is formed all the same
        assert!(Ring::form(&processor, &ring_name().expect("a name"), 0, 1, &mut patient).is_ok());
    }

    #[test]
    fn two_ranks_on_one_gpu_are_told_so() {
        let Some(processor) = processor() else { return };
        let name = ring_name().expect("a name");
        let form = |rank| Ring::form(&processor, &name, rank, 2, &mut patient).err();
        let errors =
            std::thread::scope(|scope| [0, 1].map(|rank| scope.spawn(move || form(rank))).map(|one| one.join()));
        for error in errors {
            let Ok(Some(RingError::Failed(text))) = error else { panic!("{error:?}") };
            assert!(text.contains("invalid usage"), "{text}");
        }
    }
}
