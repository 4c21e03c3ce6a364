//! A model as the coordinator sees it: named tensors laid out in one flat `f32` vector.
//!
//! Order: all parameters by name, then all buffers by name. So the parameters are one prefix of the vector: gradients and
//! optimizer state are slices of it, and no process ever depends on the order of a hash map.

use std::ops::Range;

/// What a tensor is to the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Trained: has a gradient and optimizer state.
    Parameter,
    /// A running statistic: `value ← (1 − momentum)·value + momentum·observed`, once a step.
    Buffer { momentum: f64 },
}

/// One named tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The name that PyTorch's `state_dict` uses, for instance `net.0.weight`.
    pub name: String,
    /// Extents, outermost first (row-major).
    pub shape: Vec<usize>,
    pub kind: Kind,
}

impl TensorSpec {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The sorted tensors of a model and where each lies in the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    tensors: Vec<TensorSpec>,
    offsets: Vec<usize>,
    parameters: usize,
}

/// Two tensors of one name: the optimizer could not tell them apart.
#[derive(Debug, thiserror::Error)]
#[error("tensor name {0:?} is used twice in the model; give one of the two layers another prefix")]
pub struct DuplicateName(pub String);

impl Schema {
    /// Sorts `tensors` into schema order.
    pub fn new(mut tensors: Vec<TensorSpec>) -> Result<Self, DuplicateName> {
        let rank = |t: &TensorSpec| u8::from(t.kind != Kind::Parameter);
        tensors.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        let mut names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(DuplicateName(pair[0].to_owned()));
        }
        let mut offsets = Vec::with_capacity(tensors.len() + 1);
        let (mut offset, mut parameters) = (0, 0);
        for tensor in &tensors {
            offsets.push(offset);
            offset += tensor.len();
            if tensor.kind == Kind::Parameter {
                parameters = offset;
            }
        }
        offsets.push(offset);
        Ok(Self { tensors, offsets, parameters })
    }

    /// One tensor of `values` parameters: what a benchmark of the wire sends around.
    pub fn wire(values: usize) -> Result<Self, DuplicateName> {
        Self::new(vec![TensorSpec { name: "wire".to_owned(), shape: vec![values], kind: Kind::Parameter }])
    }

    /// The tensors in schema order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Each tensor with its place in the flat vector.
    pub fn iter(&self) -> impl Iterator<Item = (&TensorSpec, Range<usize>)> {
        self.tensors.iter().enumerate().map(|(i, tensor)| (tensor, self.offsets[i]..self.offsets[i + 1]))
    }

    /// Where the tensor `name` lies in the flat vector.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.iter().find(|(tensor, _)| tensor.name == name).map(|(_, range)| range)
    }

    /// The tensor that holds the flat position `at`, for error messages.
    #[must_use]
    pub fn at(&self, at: usize) -> Option<&TensorSpec> {
        self.iter().find(|(_, range)| range.contains(&at)).map(|(tensor, _)| tensor)
    }

    /// Values in the flat vector: parameters and buffers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that are trained: the flat vector's prefix.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// 32 hexadecimal digits that change with any name, shape, kind or momentum.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("lockstep v1 schema");
        self.feed(&mut hash);
        hash.finalize().to_hex()[..32].to_owned()
    }

    /// Feeds everything that the schema says to `hash`, without ambiguity.
    pub(crate) fn feed(&self, hash: &mut blake3::Hasher) {
        for tensor in &self.tensors {
            hash.update(&(tensor.name.len() as u64).to_le_bytes());
            hash.update(tensor.name.as_bytes());
            hash.update(&(tensor.shape.len() as u64).to_le_bytes());
            for extent in &tensor.shape {
                hash.update(&(*extent as u64).to_le_bytes());
            }
            match tensor.kind {
                Kind::Parameter => hash.update(&[0]),
                Kind::Buffer { momentum } => hash.update(&[1]).update(&momentum.to_le_bytes()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], kind: Kind) -> TensorSpec {
        TensorSpec { name: name.to_owned(), shape: shape.to_vec(), kind }
    }

    #[test]
    fn parameters_come_first_and_each_group_is_sorted() {
        let schema = Schema::new(vec![
            tensor("b.running_mean", &[4], Kind::Buffer { momentum: 0.1 }),
            tensor("net.3.weight", &[2, 3], Kind::Parameter),
            tensor("net.0.bias", &[5], Kind::Parameter),
        ])
        .expect("names differ");
        let places: Vec<_> = schema.iter().map(|(t, r)| (t.name.as_str(), r)).collect();
        assert_eq!(places, [("net.0.bias", 0..5), ("net.3.weight", 5..11), ("b.running_mean", 11..15)]);
        assert_eq!((schema.parameters(), schema.len()), (11, 15));
        assert_eq!(schema.at(10).map(|t| t.name.as_str()), Some("net.3.weight"));
    }

    #[test]
    fn the_fingerprint_sees_shapes_and_kinds() {
        let print = |t: TensorSpec| Schema::new(vec![t]).expect("one").fingerprint();
        let base = print(tensor("a", &[2, 3], Kind::Parameter));
        assert_ne!(base, print(tensor("a", &[3, 2], Kind::Parameter)));
        assert_ne!(base, print(tensor("a", &[2, 3], Kind::Buffer { momentum: 0.1 })));
    }

    #[test]
    fn a_name_used_twice_is_refused_across_kinds_too() {
        let twice = vec![tensor("a", &[1], Kind::Parameter), tensor("a", &[1], Kind::Buffer { momentum: 0.1 })];
        assert!(Schema::new(twice).expect_err("twice").to_string().contains("\"a\""));
    }
}
