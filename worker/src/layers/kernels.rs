//! Which instructions the kernels use. Chosen once at run time, so that one binary serves every machine.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A family of kernels. Two machines with the same set compute the same bits; two sets do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// AVX-512 (x86-64-v4).
    V4,
    /// AVX2 and FMA (x86-64-v3).
    V3,
    /// Plain Rust, multiplication and addition rounded apart: the same bits on every architecture.
    Portable,
}

/// A kernel set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelSetError {
    /// The name is none of ours.
    #[error("unknown kernel set `{0}`: it is one of v4, v3, portable; leave LOCKSTEP_KERNELS unset to take the best")]
    Unknown(String),
    /// The processor cannot run it.
    #[error(
        "kernel set {wanted} needs {needs}, which this processor lacks: use {best} here, or on every worker of the run"
    )]
    Unsupported {
        /// What was asked for.
        wanted: KernelSet,
        /// The instructions that it needs.
        needs: &'static str,
        /// The best set that runs here.
        best: KernelSet,
    },
}

/// The set in use: 0 until it is chosen, then the set's number plus one. Atomic because ops on any thread read it.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl KernelSet {
    /// Every set, best first.
    pub const ALL: [Self; 3] = [Self::V4, Self::V3, Self::Portable];

    /// The set that `LOCKSTEP_KERNELS` asks for, else the best that this processor runs.
    ///
    /// # Errors
    /// A name that is none of ours, or a set that this processor lacks.
    pub fn detect() -> Result<Self, KernelSetError> {
        match std::env::var_os("LOCKSTEP_KERNELS") {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse::<Self>()?.supported(),
            _ => Ok(Self::best()),
        }
    }

    /// The best set that this processor runs.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.runs_here()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has the instructions.
    #[must_use]
    pub fn runs_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::V4 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Self::V3.runs_here()
            }
            #[cfg(target_arch = "x86_64")]
            Self::V3 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    fn supported(self) -> Result<Self, KernelSetError> {
        if self.runs_here() {
            return Ok(self);
        }
        let needs = if self == Self::V4 { "AVX-512 (F, BW, CD, DQ, VL), AVX2 and FMA" } else { "AVX2 and FMA" };
        Err(KernelSetError::Unsupported { wanted: self, needs, best: Self::best() })
    }
}

impl fmt::Display for KernelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "v4",
            Self::V3 => "v3",
            Self::Portable => "portable",
        })
    }
}

impl FromStr for KernelSet {
    type Err = KernelSetError;

    fn from_str(name: &str) -> Result<Self, KernelSetError> {
        Self::ALL
            .into_iter()
            .find(|set| set.to_string() == name)
            .ok_or_else(|| KernelSetError::Unknown(name.chars().take(40).collect()))
    }
}

/// Makes every op from now on use `set`. Ops keep the set they were built with for their gradient.
///
/// # Errors
/// A set that this processor lacks.
pub fn set_kernels(set: KernelSet) -> Result<(), KernelSetError> {
    CHOSEN.store(set.supported()? as u8 + 1, Ordering::Relaxed);
    Ok(())
}

/// The set in use: what [`set_kernels`] chose, else what [`KernelSet::detect`] finds (once).
///
/// # Errors
/// As [`KernelSet::detect`].
pub fn kernel_set() -> Result<KernelSet, KernelSetError> {
    #[cfg(test)]
    if let Some(set) = tests::FORCED.get() {
        return Ok(set);
    }
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if let Some(set) = KernelSet::ALL.into_iter().find(|&set| set as u8 + 1 == chosen) {
        return Ok(set);
    }
    let set = KernelSet::detect()?;
    CHOSEN.store(set as u8 + 1, Ordering::Relaxed);
    Ok(set)
}

/// [`kernel_set`] for an op, whose errors are candle's.
pub(super) fn of_op() -> candle_core::Result<KernelSet> {
    kernel_set().map_err(candle_core::Error::wrap)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Tests run at once in one process: each forces the set of its own thread.
        pub(super) static FORCED: Cell<Option<KernelSet>> = const { Cell::new(None) };
    }

    /// Runs `body` under each set that runs here.
    pub(in super::super) fn with_each(mut body: impl FnMut(KernelSet)) {
        for set in KernelSet::ALL {
            if set.runs_here() {
                FORCED.set(Some(set));
                body(set);
                FORCED.set(None);
            } else {
                eprintln!("SKIPPED: this processor has no {set} kernels");
            }
        }
    }

    #[test]
    fn names_go_there_and_back_and_others_are_refused() {
        for set in KernelSet::ALL {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        let error = "avx9".parse::<KernelSet>().expect_err("no such set").to_string();
        assert!(error.contains("`avx9`") && error.contains("v4, v3, portable"), "{error}");
        assert!(KernelSet::Portable.runs_here());
        assert!(KernelSet::best().supported().is_ok());
    }
}
