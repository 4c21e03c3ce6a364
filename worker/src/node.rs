//! The gradient of a node of the reduction tree: every shard below it alone, then their sum along the tree. The same bits as if each had
//! travelled by itself.

use lockstep_proto::buffers::Buffers;
use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::tree::{Node, Reduction};
use lockstep_proto::{codec, tensors};

use crate::dataset::Batch;
#[cfg(feature = "cuda")]
use crate::gradient::{Gradient, check};
use crate::gradient::{StepContext, gradient};
use crate::layers;
use crate::model::{ComputeError, Model, Weights};

/// Which sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summing {
    pub(crate) top: Node,
    /// Shards of the step, or as many as there are up to the node's last.
    pub(crate) leaves: u32,
    /// Each shard's parameters are rounded to bf16, however they travel: sums are of rounded values on every path.
    pub(crate) rounded: bool,
    /// For tests: a bit of each gradient is wrong, as broken memory would have it.
    pub(crate) broken: bool,
}

/// Of one shard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    pub(crate) loss_sum: f64,
    pub(crate) correct: u32,
    pub(crate) count: u32,
    /// Of its own gradient; 0 on a GPU, where nobody sees it alone.
    pub(crate) digest: u64,
}

/// Nothing was made of a sum.
pub(crate) const NOTHING: Made = Made { penalty: 0.0, norm: 0.0 };

/// A node's.
#[derive(Debug, PartialEq)]
pub(crate) struct Sum {
    /// In schema order.
    pub(crate) flat: Vec<f32>,
    /// In the order of the shards.
    pub(crate) shards: Vec<Counts>,
    /// What a GPU made of it, if it was asked for that.
    pub(crate) made: Made,
}

/// What of a node a GPU sends home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// What its examples came to, and the sum.
    Sum,
    /// What its examples came to, and what was made of the sum.
    Made,
}

/// A node's sum, or what will be it.
#[derive(Debug)]
pub(crate) enum Coming {
    Here(Sum),
    /// A GPU was asked for it. `broken` is [`Summing::broken`].
    #[cfg(feature = "cuda")]
    OnGpu {
        asked: Box<crate::cuda::Asked>,
        broken: bool,
    },
}

impl Coming {
    /// Whether nobody would have to wait for it.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// Asks for it to be sent home, if a GPU has it.
    ///
    /// # Errors
    /// The GPU failed, in words.
    #[cfg_attr(not(feature = "cuda"), expect(clippy::unused_self, reason = "without a GPU it is at home"))]
    #[cfg_attr(not(feature = "cuda"), expect(clippy::unnecessary_wraps, reason = "only a GPU fails"))]
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "all of it is at home"))]
    pub(crate) fn send_home(&mut self, home: Home) -> Result<(), String> {
        #[cfg(feature = "cuda")]
        if let Self::OnGpu { asked, .. } = self {
            asked.send_home(home).map_err(|error| crate::model::plain(error).to_string())?;
        }
        Ok(())
    }

    /// Waits for it. From a GPU it comes in a vector of `buffers`: there is one a node, and a fresh one costs more than the copy.
    ///
    /// # Errors
    /// The GPU failed.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "the CPU's sums are its shards' gradients"))]
    pub(crate) fn wait(self, buffers: &Buffers) -> Result<Sum, ComputeError> {
        match self {
            Self::Here(sum) => Ok(sum),
            #[cfg(feature = "cuda")]
            Self::OnGpu { asked, broken } => {
                let mut sum = asked.wait(buffers)?;
                spoil(broken, &mut sum.flat);
                Ok(sum)
            }
        }
    }
}

fn spoil(broken: bool, flat: &mut [f32]) {
    if let Some(first) = flat.first_mut().filter(|_| broken) {
        *first = f32::from_bits(first.to_bits() ^ 1);
    }
}

/// Computes the node's shards, which have `sizes` examples each, or asks a GPU for them; `batch` makes one, by its place in the node.
///
/// # Errors
/// As [`gradient`]; as many sizes as the node has no shards.
pub(crate) fn sum(
    model: &Model,
    weights: &Weights,
    context: &StepContext,
    summing: &Summing,
    sizes: &[usize],
    batch: impl Fn(usize) -> Result<Batch, ComputeError> + Sync + Send,
) -> Result<Coming, ComputeError> {
    let &Summing { top, leaves, rounded, broken } = summing;
    let shards = top.covers(leaves);
    if shards.len() != sizes.len() || sizes.is_empty() || sizes.contains(&0) {
        let have = shards.len();
        let problem =
            format!("node {top:?} has {have} shards of {leaves}, and examples came for each of these: {sizes:?}");
        return Err(ComputeError::Batch(problem));
    }
    #[cfg(feature = "cuda")]
    if let Some(weights) = weights.packed() {
        let step = crate::cuda::Step { model, weights, context };
        let asked = Box::new(crate::cuda::ask(step, summing, sizes, batch)?);
        return Ok(Coming::OnGpu { asked, broken });
    }
    let gradients = layers::each_alone(sizes.len(), |number| gradient(model, weights, &batch(number)?, context));
    let (mut tree, mut sum, mut counts) = (Reduction::new(leaves), None, Vec::with_capacity(sizes.len()));
    for (shard, found) in shards.zip(gradients) {
        let mut found = found?;
        if rounded {
            codec::round(&mut found.flat[..model.schema().parameters()]);
        }
        spoil(broken, &mut found.flat);
        let digest = tensors::digest_values(&found.flat);
        counts.push(Counts { loss_sum: found.loss_sum, correct: found.correct, count: found.count, digest });
        sum = tree.add_below(top, Node::leaf(shard), found.flat);
    }
    let flat = sum.ok_or_else(|| ComputeError::Batch(format!("the shards do not make up node {top:?}")))?;
    Ok(Coming::Here(Sum { flat, shards: counts, made: NOTHING }))
}

/// The same for one shard that is a node of its own, as [`gradient`] has it.
#[cfg(feature = "cuda")]
pub(crate) fn alone(
    model: &Model,
    weights: &Weights,
    shard: &Batch,
    context: &StepContext,
) -> Result<Gradient, ComputeError> {
    let count = check(model, shard, context)?;
    let summing = Summing { top: Node::leaf(0), leaves: 1, rounded: false, broken: false };
    let mut coming = sum(model, weights, context, &summing, &[count], |_| Ok(shard.clone()))?;
    coming.send_home(Home::Sum).map_err(ComputeError::Batch)?;
    let Sum { flat, shards, .. } = coming.wait(&Buffers::keeping(0))?;
    let loss_sum = shards.iter().map(|one| one.loss_sum).sum();
    let correct = shards.iter().map(|one| one.correct).sum();
    Ok(Gradient { flat, loss_sum, correct, count: count as u32 })
}
