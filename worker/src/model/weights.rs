//! The flat vector of one version, as candle variables that the forward pass reads.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor, Var};

use super::{ComputeError, Model};
use crate::device::Processor;

/// The tensors of one version of a model. Make them once, then [`Weights::set`] each new version in place.
#[derive(Debug)]
pub struct Weights {
    /// In the order in which the layers declare them; none on a GPU.
    vars: Vec<Var>,
    #[cfg(feature = "cuda")]
    packed: Option<crate::cuda::Packed>,
}

impl Weights {
    /// Variables with the values of `flat`, which is in schema order.
    ///
    /// # Errors
    /// A vector of another length than `model.schema().len()`.
    pub fn new(model: &Model, flat: &[f32]) -> Result<Self, ComputeError> {
        check(model, flat)?;
        let vars = model.tensors().iter().map(|tensor| {
            let var = Var::from_slice(&flat[tensor.range.clone()], tensor.shape.as_slice(), &Device::Cpu);
            var.map_err(ComputeError::at(&tensor.name))
        });
        Ok(Self {
            vars: vars.collect::<Result<_, _>>()?,
            #[cfg(feature = "cuda")]
            packed: None,
        })
    }

    /// The same on a processor: passes with these weights are computed there, with algorithms that always give the same bits.
    ///
    /// # Errors
    /// As [`Weights::new`]; a GPU whose memory does not hold them.
    pub fn on(processor: &Processor, model: &Model, flat: &[f32]) -> Result<Self, ComputeError> {
        Self::with(processor, model, flat, true)
    }

    /// As [`Weights::on`]. Without `deterministic` a GPU tries all algorithms of a convolution and takes the fastest.
    ///
    /// # Errors
    /// As [`Weights::on`].
    pub fn with(
        processor: &Processor,
        model: &Model,
        flat: &[f32],
        #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "the CPU has one algorithm a shape"))]
        deterministic: bool,
    ) -> Result<Self, ComputeError> {
        match processor {
            Processor::Cpu => Self::new(model, flat),
            #[cfg(feature = "cuda")]
            Processor::Gpu(gpu) => {
                check(model, flat)?;
                let packed =
                    crate::cuda::Packed::new(gpu, model, flat, !deterministic).map_err(ComputeError::at("weights"))?;
                Ok(Self { vars: Vec::new(), packed: Some(packed) })
            }
        }
    }

    /// Overwrites the values with those of another version, without allocating.
    ///
    /// # Errors
    /// A vector of another length than `model.schema().len()`.
    pub fn set(&mut self, model: &Model, flat: &[f32]) -> Result<(), ComputeError> {
        check(model, flat)?;
        #[cfg(feature = "cuda")]
        if let Some(packed) = &self.packed {
            return packed.set(flat).map_err(ComputeError::at("weights"));
        }
        for (tensor, var) in model.tensors().iter().zip(&self.vars) {
            let overwrite = Overwrite(&flat[tensor.range.clone()]);
            var.inplace_op1(&overwrite).map_err(ComputeError::at(&tensor.name))?;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn packed(&self) -> Option<&crate::cuda::Packed> {
        self.packed.as_ref()
    }

    /// The variable that a layer declared as number `slot`; gradients flow to it.
    pub(crate) fn var(&self, slot: usize) -> &Var {
        &self.vars[slot]
    }

    /// The same values without a gradient, for evaluation: no graph is kept.
    pub(super) fn detached(&self, slot: usize) -> Tensor {
        self.vars[slot].as_detached_tensor()
    }
}

fn check(model: &Model, flat: &[f32]) -> Result<(), ComputeError> {
    let (expected, found) = (model.schema().len(), flat.len());
    if expected == found {
        return Ok(());
    }
    Err(ComputeError::Weights { model: model.name().to_owned(), expected, found })
}

/// Copies the slice over a tensor's storage. (`Var::set` wants a tensor, which would be one more copy and allocation.)
struct Overwrite<'a>(&'a [f32]);

impl InplaceOp1 for Overwrite<'_> {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("weights must be contiguous f32 on the CPU")
        };
        values[start..end].copy_from_slice(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{LENET_DROPOUT_BN, model};
    use super::*;

    #[test]
    fn set_overwrites_in_place_what_new_made() {
        let model = model(LENET_DROPOUT_BN);
        let (one, two) = (model.initial(1), model.initial(2));
        let mut weights = Weights::new(&model, &one).expect("the model's own weights");
        let view = weights.detached(0);
        weights.set(&model, &two).expect("the model's own weights");
        for (slot, tensor) in model.tensors().iter().enumerate() {
            let values = weights.var(slot).flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32 on the CPU");
            assert_eq!(values, two[tensor.range.clone()], "{}", tensor.name);
        }
        let seen = view.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32 on the CPU");
        assert_eq!(seen, two[model.tensors()[0].range.clone()], "the storage is the same");
    }

    #[test]
    fn another_models_vector_is_refused() {
        let model = model(LENET_DROPOUT_BN);
        let error = Weights::new(&model, &[0.0; 7]).expect_err("seven values").to_string();
        assert!(error.contains("62070 values") && error.contains("not 7"), "{error}");
    }
}
