//! The master copy: one flat `f32` vector, its version, and the bytes that every session shares.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep_proto::buffers::Buffers;
use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::optimizer::whole::{self, Diverged, Made};
use lockstep_proto::recipe::{Recipe, Wire};
use lockstep_proto::schema::Schema;
use lockstep_proto::wire::{self, ToWorker, to_worker};
use lockstep_proto::{codec, hash, tensors};

use crate::plane::Plane;

/// Copies of the values that are worth keeping the memory of: one that travels and one that was kept for late answers.
const COPIES: usize = 2;

/// Parameters and buffers after `version` optimizer steps.
#[derive(Debug)]
pub struct Parameters {
    schema: Schema,
    values: Vec<f32>,
    version: u64,
    /// `values` as they travel, made once a version on first use.
    bytes: Option<(Bytes, u64)>,
    /// What workers train on where values travel as bf16, made once a version; and as it travels.
    rounded: Option<Vec<f32>>,
    packed: Option<(Bytes, u64)>,
    /// Values of earlier versions that somebody may still be asked about. The engine bounds how many.
    old: BTreeMap<u64, Vec<f32>>,
    /// What copies of `values` are made in.
    buffers: Buffers,
}

impl Parameters {
    /// `values` has the schema's length: the caller has checked it.
    #[must_use]
    pub fn new(schema: Schema, values: Vec<f32>, version: u64) -> Self {
        let (old, buffers) = (BTreeMap::new(), Buffers::keeping(COPIES));
        Self { schema, values, version, bytes: None, rounded: None, packed: None, old, buffers }
    }

    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    #[must_use]
    pub fn hash(&self) -> String {
        hash::weights_hash(&self.schema, &self.values)
    }

    /// XXH3-64 of each tensor, in schema order: what `verify` compares step by step.
    #[must_use]
    pub fn digests(&self) -> Vec<u64> {
        self.schema.iter().map(|(_, range)| tensors::digest_values(&self.values[range])).collect()
    }

    /// Makes one step; see [`whole::step`].
    ///
    /// # Errors
    /// The gradient's norm is not finite: nothing is changed then.
    pub fn step(
        &mut self,
        optimizer: &mut Optimizer,
        recipe: &Recipe,
        lr: f64,
        sum: &mut [f32],
    ) -> Result<Made, Diverged> {
        let made = whole::step(optimizer, recipe, &self.schema, lr, sum, &mut self.values)?;
        self.version += 1;
        (self.bytes, self.rounded, self.packed) = (None, None, None);
        Ok(made)
    }

    /// What a worker came to with steps of its own.
    pub fn replace(&mut self, values: Vec<f32>, version: u64) {
        (self.values, self.version) = (values, version);
        (self.bytes, self.rounded, self.packed) = (None, None, None);
    }

    /// The message that brings a worker to this version that has mapped our memory.
    pub fn shared_message(&mut self, plane: &mut Plane, wire: Wire) -> Option<ToWorker> {
        let values = match wire {
            Wire::F32 => &self.values,
            Wire::Bf16 => rounded(&self.schema, &self.values, &mut self.rounded),
        };
        let (slot, digest) = plane.publish((self.version, wire), values)?;
        let total = self.values.len() as u64;
        let message = wire::Parameters { version: self.version, total, digest, slot: Some(slot), ..Default::default() };
        Some(ToWorker { message: Some(to_worker::Message::Parameters(message)) })
    }

    /// Keeps a copy of these values beyond the next step.
    pub fn keep(&mut self) {
        let copy = copy(&self.values, &self.buffers);
        self.old.insert(self.version, copy);
    }

    /// Gives the copy of `version` up.
    pub fn forget(&mut self, version: u64) {
        self.old.remove(&version).into_iter().for_each(|values| self.buffers.give(values));
    }

    /// The messages that bring a worker to `version`, this one or one that was kept; their data are shared by all workers.
    pub fn messages(&mut self, version: u64, wire: Wire) -> Vec<ToWorker> {
        if let Some(old) = self.old.get(&version) {
            return Self::new(self.schema.clone(), old.clone(), version).messages(version, wire);
        }
        let share = |values: Vec<f32>| {
            let digest = tensors::digest_values(&values);
            (self.buffers.lend(values), digest)
        };
        let (bytes, digest) = match wire {
            Wire::F32 => self.bytes.get_or_insert_with(|| share(copy(&self.values, &self.buffers))),
            Wire::Bf16 => self.packed.get_or_insert_with(|| {
                let values = rounded(&self.schema, &self.values, &mut self.rounded);
                share(codec::pack(values, self.schema.parameters()))
            }),
        }
        .clone();
        let total = (bytes.len() / 4) as u64;
        tensors::parts(bytes.len())
            .map(|part| {
                let message = wire::Parameters {
                    version: self.version,
                    offset: (part.start / 4) as u64,
                    total,
                    bf16: wire == Wire::Bf16,
                    data: bytes.slice(part),
                    digest,
                    slot: None,
                };
                ToWorker { message: Some(to_worker::Message::Parameters(message)) }
            })
            .collect()
    }
}

/// `values` once more.
fn copy(values: &[f32], buffers: &Buffers) -> Vec<f32> {
    let mut copy = buffers.take();
    copy.clear();
    copy.extend_from_slice(values);
    copy
}

/// `values` with parameters rounded, kept in `place`.
fn rounded<'a>(schema: &Schema, values: &[f32], place: &'a mut Option<Vec<f32>>) -> &'a Vec<f32> {
    place.get_or_insert_with(|| codec::rounded(values, schema.parameters()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::schema::{Kind, TensorSpec};

    #[test]
    fn messages_share_one_buffer() {
        let tensor = TensorSpec { name: "a".to_owned(), shape: vec![700_000], kind: Kind::Parameter };
        let schema = Schema::new(vec![tensor]).expect("one tensor");
        let mut parameters = Parameters::new(schema, vec![0.5; 700_000], 3);
        let (one, two) = (parameters.messages(3, Wire::F32), parameters.messages(3, Wire::F32));
        assert_eq!(one.len(), 11);
        let data = |messages: &[ToWorker]| match &messages[1].message {
            Some(to_worker::Message::Parameters(p)) => p.data.as_ptr(),
            _ => panic!("not parameters"),
        };
        assert_eq!(data(&one), data(&two));
    }
}
