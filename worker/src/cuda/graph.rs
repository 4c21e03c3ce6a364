//! One way of a pass as a CUDA graph: asked for kernel by kernel once, and as a whole ever after. A small network's pass costs the host
//! more than the GPU.

#![allow(unsafe_code)] // a graph may change its thread

use std::env;
use std::sync::{Mutex, Once, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaGraph;
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::{Error, Result, bail};

use super::gpu::Gpu;

/// `off` asks for every pass kernel by kernel, to compare: the bits are the same.
const SWITCH: &str = "LOCKSTEP_CUDA_GRAPHS";

/// Whether passes become graphs.
///
/// # Errors
/// The switch says something else than `off`.
pub(super) fn wanted() -> Result<bool> {
    match env::var_os(SWITCH) {
        None => Ok(true),
        Some(word) if word == "off" => Ok(false),
        Some(word) => bail!("{SWITCH} is {word:?}: it may be off; leave it unset to have CUDA graphs"),
    }
}

/// One way of a plan, whose addresses never change.
pub(super) struct Graph {
    /// A lock because workspaces are shared; one thread computes.
    state: Mutex<State>,
}

enum State {
    /// Libraries may load and allocate at their first call, which a capture must not see.
    Fresh,
    Tried,
    Captured(Ready),
    /// Not wanted, or refused.
    Never,
}

struct Ready(CudaGraph);

// SAFETY: CUDA's graphs may be used from any thread, by one at a time, which the lock sees to
unsafe impl Send for Ready {}

impl Graph {
    pub(super) fn new(wanted: bool) -> Self {
        Self { state: Mutex::new(if wanted { State::Fresh } else { State::Never }) }
    }

    /// Does what `ask` asks for on the GPU's stream, which must be the same each time, and neither allocates nor waits.
    pub(super) fn run(&self, gpu: &Gpu, ask: impl Fn() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Captured(Ready(graph)) => graph.launch().map_err(Error::wrap),
            State::Never => ask(),
            State::Fresh => {
                ask()?;
                *state = State::Tried;
                Ok(())
            }
            State::Tried => match capture(gpu, &ask) {
                Ok(graph) => {
                    graph.launch().map_err(Error::wrap)?;
                    *state = State::Captured(Ready(graph));
                    Ok(())
                }
                Err(problem) => {
                    *state = State::Never;
                    // once: there may be as many plans as shards have sizes
                    static SAID: Once = Once::new();
                    // candle adds a backtrace where one is asked for
                    let problem = problem.to_string();
                    let problem = problem.lines().next().unwrap_or_default();
                    SAID.call_once(|| {
                        tracing::warn!(
                            "CUDA graphs are refused here, so that small networks are slower: {problem}; {SWITCH}=off says no more of it"
                        );
                    });
                    ask()
                }
            },
        }
    }
}

fn capture(gpu: &Gpu, ask: impl Fn() -> Result<()>) -> Result<CudaGraph> {
    // other threads may go on allocating
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    gpu.stream.begin_capture(mode).map_err(Error::wrap)?;
    let asked = ask();
    // ended either way: the stream would go on capturing
    let graph = gpu.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(Error::wrap);
    asked?;
    graph?.ok_or_else(|| Error::msg("the capture gave no graph"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::memory::Block;
    use super::super::regions::Region;
    use super::super::tests::gpu;
    use super::*;

    const VALUES: Region = Region { start: 0, len: 64 };

    /// Two places on the device, and what the second one has.
    struct Pair(Block, Block);

    impl Pair {
        fn new(gpu: &Gpu) -> Self {
            gpu.bind().expect("a context");
            let block = || Block::new(&gpu.stream, VALUES.len).expect("room for 64 values");
            Self(block(), block())
        }

        /// Sets the first one.
        fn set(&self, gpu: &Gpu, value: f32) {
            gpu.upload(&[value; 64], self.0.at(VALUES)).expect("uploaded");
        }

        fn copy(&self, gpu: &Gpu) -> Result<()> {
            gpu.copy(self.0.at(VALUES), self.1.at(VALUES), VALUES.len)
        }

        fn second(&self, gpu: &Gpu) -> f32 {
            let mut found = [0.0; 64];
            gpu.download(&gpu.stream, self.1.at(VALUES), &mut found).expect("downloaded");
            gpu.wait().expect("done");
            found[63]
        }
    }

    #[test]
    fn what_is_captured_is_not_done_and_is_done_at_each_launch() {
        let Some(gpu) = gpu() else { return };
        let pair = Pair::new(&gpu);
        pair.set(&gpu, 1.0);
        pair.copy(&gpu).expect("copied");
        pair.set(&gpu, 2.0);
        let graph = capture(&gpu, || pair.copy(&gpu)).expect("captured");
        assert_eq!(pair.second(&gpu), 1.0, "nothing was launched");
        for value in [2.0, 3.0] {
            pair.set(&gpu, value);
            graph.launch().expect("launched");
            assert_eq!(pair.second(&gpu), value);
        }
    }

    #[test]
    fn a_pass_is_asked_for_twice_and_then_launched() {
        let Some(gpu) = gpu() else { return };
        let (pair, asked) = (Pair::new(&gpu), Cell::new(0));
        let (with, without) = (Graph::new(true), Graph::new(false));
        for round in 1..=5 {
            pair.set(&gpu, round as f32);
            let ask = || {
                asked.set(asked.get() + 1);
                pair.copy(&gpu)
            };
            with.run(&gpu, ask).expect("a good pass");
            assert_eq!((pair.second(&gpu), asked.get()), (round as f32, round.min(2)));
        }
        asked.set(0);
        for round in 1..=3 {
            without.run(&gpu, || pair.copy(&gpu).map(|()| asked.set(round))).expect("a good pass");
            assert_eq!(asked.get(), round);
        }
    }

    /// A lane's work comes after what was asked for before, and before what is asked for afterwards.
    #[test]
    fn lanes_side_by_side_are_part_of_a_capture() {
        let Some(gpu) = gpu() else { return };
        let (pair, lanes) = (Pair::new(&gpu), [(); 3].map(|()| Pair::new(&gpu)));
        let there_and_back = || {
            let [from, to] = [&pair.0, &pair.1].map(|block| block.at(VALUES));
            gpu.copy(from, to, VALUES.len)?;
            gpu.side_by_side(lanes.len(), |number, lane| {
                let [first, second] = [&lanes[number].0, &lanes[number].1].map(|block| block.at(VALUES));
                lane.copy(if number == 0 { from } else { to }, first, VALUES.len)?;
                lane.copy(first, second, VALUES.len)
            })?;
            // from the last lane: had nobody waited, it would not be there yet
            gpu.copy(lanes[2].1.at(VALUES), to, VALUES.len)
        };
        there_and_back().expect("lanes are there before a capture");
        let graph = capture(&gpu, there_and_back).expect("captured");
        for value in [4.0, 5.0] {
            pair.set(&gpu, value);
            graph.launch().expect("launched");
            assert_eq!([&pair, &lanes[0], &lanes[1]].map(|pair| pair.second(&gpu)), [value; 3]);
        }
        // a lane that fails is waited for all the same
        let fails = || gpu.side_by_side(2, |number, _| if number == 0 { bail!("on purpose") } else { Ok(()) });
        assert!(capture(&gpu, fails).err().expect("it failed").to_string().contains("on purpose"));
        capture(&gpu, there_and_back).expect("the streams are as they were");
    }

    /// CUDA refuses a wait, and an allocation, within a capture, which is over then. The pass goes on without.
    #[test]
    fn what_a_capture_must_not_see_ends_it_and_the_pass_goes_on() {
        let Some(gpu) = gpu() else { return };
        let pair = Pair::new(&gpu);
        type Ask<'a> = &'a dyn Fn() -> Result<()>;
        let waits = || pair.copy(&gpu).and_then(|()| gpu.wait());
        let allocates = || pair.copy(&gpu).and_then(|()| super::super::memory::Pinned::<f32>::new(1).map(drop));
        for ask in [&waits as Ask, &allocates] {
            let error = capture(&gpu, ask).err().expect("refused").to_string();
            assert!(error.contains("CAPTURE"), "{error}");
            let graph = Graph::new(true);
            for round in 0..4 {
                pair.set(&gpu, round as f32);
                graph.run(&gpu, ask).expect("without a graph");
                assert_eq!(pair.second(&gpu), round as f32);
            }
        }
        capture(&gpu, || pair.copy(&gpu)).expect("the stream is as it was");
    }
}
