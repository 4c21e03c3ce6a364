//! An optimizer's state in and out of a checkpoint: PyTorch's names, flat vectors in schema order.

use super::{Optimizer, Rule};

/// State that does not belong to this optimizer and model, or that nothing can be trained on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    #[error(
        "optimizer state holds {found:?}; this optimizer's state is {expected:?}: resume with the recipe that wrote it"
    )]
    Names { found: Vec<String>, expected: Vec<&'static str> },
    #[error(
        "optimizer state {name:?} has {found} values; the model has {expected} parameters: resume with the model that wrote it"
    )]
    Length { name: String, found: usize, expected: usize },
    #[error("optimizer state {name:?} holds {found} at position {at}; it must be {rule}: use an earlier checkpoint")]
    Value { name: String, at: usize, found: f32, rule: &'static str },
}

impl Optimizer {
    /// The state as named vectors, one value a parameter; none for SGD without momentum. [`Optimizer::steps`] belongs to it.
    #[must_use]
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        match &self.rule {
            Rule::Sgd(sgd) if sgd.momentum_buffer.is_empty() => Vec::new(),
            Rule::Sgd(sgd) => vec![("momentum_buffer", &sgd.momentum_buffer)],
            Rule::Adam(adam) => vec![("exp_avg", &adam.exp_avg), ("exp_avg_sq", &adam.exp_avg_sq)],
        }
    }

    /// Takes the place of the optimizer that [`Optimizer::state`] and [`Optimizer::steps`] were asked. `state` may be in any
    /// order.
    ///
    /// # Errors
    /// Other names, another length, a value that is not finite, a negative mean of squares. Nothing is changed then.
    pub fn restore(&mut self, steps: u64, state: &[(String, Vec<f32>)]) -> Result<(), StateError> {
        let mut given: Vec<(&str, &[f32])> = state.iter().map(|(name, values)| (name.as_str(), &values[..])).collect();
        // so that both lists are in alphabetical order: state() gives its names so
        given.sort_by_key(|(name, _)| *name);
        let expected: Vec<&'static str> = self.state().iter().map(|(name, _)| *name).collect();
        if !given.iter().map(|(name, _)| *name).eq(expected.iter().copied()) {
            let found = given.iter().map(|(name, _)| (*name).to_owned()).collect();
            return Err(StateError::Names { found, expected });
        }
        for &(name, values) in &given {
            if values.len() != self.parameters {
                return Err(StateError::Length {
                    name: name.to_owned(),
                    found: values.len(),
                    expected: self.parameters,
                });
            }
            let square = name == "exp_avg_sq";
            let bad = values.iter().position(|value| !value.is_finite() || (square && *value < 0.0));
            if let Some(at) = bad {
                let rule = if square { "finite and not negative" } else { "finite" };
                return Err(StateError::Value { name: name.to_owned(), at, found: values[at], rule });
            }
        }
        match (&mut self.rule, &given[..]) {
            (Rule::Sgd(sgd), [(_, buffer)]) => sgd.momentum_buffer.copy_from_slice(buffer),
            (Rule::Adam(adam), [(_, average), (_, square)]) => {
                adam.exp_avg.copy_from_slice(average);
                adam.exp_avg_sq.copy_from_slice(square);
            }
            // SGD without momentum: the names have been compared
            _ => {}
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{OptimizerName, OptimizerSettings};

    fn settings(name: OptimizerName) -> OptimizerSettings {
        OptimizerSettings { name, ..OptimizerSettings::default() }
    }

    fn exported(optimizer: &Optimizer) -> Vec<(String, Vec<f32>)> {
        optimizer.state().into_iter().rev().map(|(name, values)| (name.to_owned(), values.to_vec())).collect()
    }

    fn train(optimizer: &mut Optimizer, parameters: &mut [f32], steps: std::ops::Range<u32>) {
        for t in steps {
            let gradient: Vec<f32> = parameters.iter().zip(0_u8..).map(|(p, i)| p + f32::from(i) - t as f32).collect();
            optimizer.step(0.01, &gradient, parameters);
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_to_the_bit() {
        let no_momentum = OptimizerSettings { momentum: 0.0, ..settings(OptimizerName::Sgd) };
        let all = [OptimizerName::Sgd, OptimizerName::Adam, OptimizerName::AdamW].map(settings);
        for settings in all.into_iter().chain([no_momentum]) {
            let (mut through, mut whole) = ([0.5, -1.0, 2.0], Optimizer::new(&settings, 3));
            train(&mut whole, &mut through, 0..9);
            for cut in [0, 1, 4] {
                let (mut stopped, mut before) = ([0.5, -1.0, 2.0], Optimizer::new(&settings, 3));
                train(&mut before, &mut stopped, 0..cut);
                let mut after = Optimizer::new(&settings, 3);
                after.restore(before.steps(), &exported(&before)).expect("its own state");
                train(&mut after, &mut stopped, cut..9);
                assert_eq!(stopped.map(f32::to_bits), through.map(f32::to_bits), "{settings:?} cut at {cut}");
                assert_eq!(after, whole);
            }
        }
    }

    #[test]
    fn foreign_state_is_refused_by_name_length_and_value() {
        let mut adam = Optimizer::new(&settings(OptimizerName::Adam), 2);
        let untouched = adam.clone();
        let mut refuse = |state: &[(&str, &[f32])]| {
            let state: Vec<_> = state.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect();
            let message = adam.restore(3, &state).expect_err("it should be refused").to_string();
            assert_eq!(adam, untouched);
            message
        };
        assert_eq!(
            refuse(&[("momentum_buffer", &[0.0; 2])]),
            "optimizer state holds [\"momentum_buffer\"]; this optimizer's state is [\"exp_avg\", \"exp_avg_sq\"]: resume with the \
             recipe that wrote it"
        );
        let twice: &[(&str, &[f32])] = &[("exp_avg", &[0.0; 2]), ("exp_avg", &[0.0; 2]), ("exp_avg_sq", &[0.0; 2])];
        assert!(refuse(twice).contains("\"exp_avg\", \"exp_avg\""));
        assert_eq!(
            refuse(&[("exp_avg", &[0.0; 2]), ("exp_avg_sq", &[0.0; 3])]),
            "optimizer state \"exp_avg_sq\" has 3 values; the model has 2 parameters: resume with the model that wrote it"
        );
        assert_eq!(
            refuse(&[("exp_avg", &[0.0, f32::NAN]), ("exp_avg_sq", &[0.0; 2])]),
            "optimizer state \"exp_avg\" holds NaN at position 1; it must be finite: use an earlier checkpoint"
        );
        assert!(refuse(&[("exp_avg", &[0.0; 2]), ("exp_avg_sq", &[-1.0, 0.0])]).contains("holds -1 at position 0"));
    }
}
