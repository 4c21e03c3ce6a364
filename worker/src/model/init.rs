//! Initial weights: PyTorch's defaults (`reset_parameters` of `nn.Conv2d`, `nn.Linear` and `nn.BatchNorm2d`).
//!
//! `kaiming_uniform_(a=√5)` has gain √(2 / (1 + 5)) and bound gain·√(3 / fan_in), which is 1/√fan_in: weights and biases
//! are both uniform within ±1/√fan_in. Each tensor draws under a key of its own, so that adding a layer changes no other.

use lockstep_proto::keys::Key;

use super::Model;

/// How one tensor begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Init {
    Uniform { bound: f32 },
    Constant(f32),
}

impl Init {
    /// Uniform within ±1/√fan_in. The square root is correctly rounded everywhere, so every machine gets the same bound.
    pub(super) fn fan_in(fan_in: usize) -> Self {
        Self::Uniform { bound: (1.0 / (fan_in as f64).sqrt()) as f32 }
    }
}

impl Model {
    /// The weights that a run with this seed starts from: one value for each of `schema().len()`, in schema order.
    #[must_use]
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut flat = vec![0.0; self.schema().len()];
        for tensor in self.tensors() {
            let values = &mut flat[tensor.range.clone()];
            match tensor.init {
                Init::Constant(value) => values.fill(value),
                Init::Uniform { bound } => {
                    let mut draws = Key::new(seed, "init", &tensor.name).stream(0, 0, 0);
                    values.fill_with(|| draws.range(-bound, bound));
                }
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{LENET_DROPOUT_BN, model};
    use super::*;

    #[test]
    fn weights_fill_pytorchs_range_and_no_more() {
        let model = model(LENET_DROPOUT_BN);
        let flat = model.initial(1);
        // fan_in of each, from PyTorch's reset_parameters: in × kernel² of a convolution, in of a linear layer
        for (layer, fan_in) in [("0", 75.0_f64), ("3", 150.0), ("8", 400.0), ("11", 120.0), ("13", 84.0)] {
            let bound = 1.0 / fan_in.sqrt();
            let range = model.schema().range(&format!("net.{layer}.weight")).expect("the LeNet's names");
            let weight = &flat[range];
            let (mut square, mut most) = (0.0, 0.0_f64);
            for &w in weight {
                square += f64::from(w).powi(2);
                most = most.max(f64::from(w).abs());
            }
            // f32 rounding of the bound itself is the only way past it
            assert!(most <= bound * (1.0 + 1e-7) && most > 0.97 * bound, "net.{layer}.weight: {most} of {bound}");
            // the variance of U(−b, b) is b²/3; its estimate from n draws has relative deviation √(0.8/n)
            let ratio = square / weight.len() as f64 * 3.0 / (bound * bound);
            assert!((ratio - 1.0).abs() < 5.0 * (0.8 / weight.len() as f64).sqrt(), "net.{layer}.weight: {ratio}");
            let bias = &flat[model.schema().range(&format!("net.{layer}.bias")).expect("the LeNet's names")];
            assert!(bias.iter().all(|&b| f64::from(b).abs() <= bound * (1.0 + 1e-7)));
            assert!(bias.iter().any(|&b| f64::from(b).abs() > 0.5 * bound));
        }
        for (name, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            let range = model.schema().range(&format!("net.4.{name}")).expect("the BatchNorm's names");
            assert_eq!(flat[range], vec![value; 16], "{name}");
        }
    }

    #[test]
    fn a_tensor_depends_on_the_seed_and_its_own_name_only() {
        let plain = model("layers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }]");
        let more = model(
            "layers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }, { type = \"relu\" },
             { type = \"linear\", out_features = 10 }]",
        );
        let weight = |model: &Model, seed| {
            model.initial(seed)[model.schema().range("1.weight").expect("a linear layer")].to_vec()
        };
        assert_eq!(weight(&plain, 1), weight(&plain, 1));
        assert_eq!(weight(&plain, 1), weight(&more, 1));
        assert_ne!(weight(&plain, 1), weight(&plain, 2));
        let other = more.initial(1)[more.schema().range("3.weight").expect("a linear layer")].to_vec();
        assert_ne!(other[..100], weight(&more, 1)[..100]);
    }
}
