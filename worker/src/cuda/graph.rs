//! A pass as a CUDA graph: asked for kernel by kernel once, and as a whole ever after. A small network's pass costs the host more than
//! the GPU.

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

/// One pass of a plan, whose addresses never change.
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
