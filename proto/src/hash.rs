//! The weights hash: what "the same weights, bit for bit" is compared by.

use crate::schema::Schema;

/// BLAKE3 over the schema and the little-endian `f32` bytes of `values` in schema order, as 64 hexadecimal digits.
///
/// `values` is the whole flat vector: parameters, then buffers.
#[must_use]
pub fn weights_hash(schema: &Schema, values: &[f32]) -> String {
    let mut hash = blake3::Hasher::new_derive_key("lockstep v1 weights");
    schema.feed(&mut hash);
    hash.update(crate::tensors::as_bytes(values));
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Kind, TensorSpec};

    #[test]
    fn names_and_single_bits_matter() {
        let schema = |name: &str| {
            let tensor = TensorSpec { name: name.to_owned(), shape: vec![2], kind: Kind::Parameter };
            Schema::new(vec![tensor]).expect("one")
        };
        let base = weights_hash(&schema("a"), &[0.0, 1.0]);
        assert_eq!(base.len(), 64);
        assert_ne!(base, weights_hash(&schema("b"), &[0.0, 1.0]));
        assert_ne!(base, weights_hash(&schema("a"), &[-0.0, 1.0]));
    }
}
