//! The values that a pickle makes. They live in one vector and name each other by number, so that no depth of nesting and
//! no cycle can exhaust the program's stack.

use std::ops::Range;
use std::rc::Rc;

use super::numpy::{Array, Callable, Dtype};

/// Bytes of a class's name: as many as the canonical file allows.
const LONGEST_NAME: usize = 256;

/// Why a pickle was not read; `at` is the byte where.
#[derive(Debug, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub(in crate::dataset) struct PickleError {
    pub(super) at: usize,
    pub(super) problem: String,
}

/// The number of a value.
pub(super) type Ref = usize;

/// Bytes in the pickle itself, or decoded from it: either way, naming them twice copies nothing.
#[derive(Clone)]
pub(super) enum Blob {
    Input(Range<usize>),
    Decoded(Rc<Vec<u8>>),
}

pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Read past and never used: no batch has one that matters.
    Float,
    Bytes(Blob),
    /// UTF-8, checked.
    Text(Range<usize>),
    List(Vec<Ref>),
    Tuple(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Callable(Callable),
    Dtype(Dtype),
    /// Boxed, because the others are a third of its size and a batch has one.
    Array(Box<Array>),
}

impl Value {
    /// What to call it in a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Bytes(_) => "bytes",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Callable(_) => "a class or function",
            Self::Dtype(_) => "a dtype",
            Self::Array(_) => "an array",
        }
    }
}

/// All values of a pickle, and the one that it is.
pub(in crate::dataset) struct Pickle<'a> {
    pub(super) input: &'a [u8],
    pub(super) values: Vec<Value>,
    pub(super) root: Ref,
}

impl Pickle<'_> {
    /// What `blob` holds.
    pub(super) fn blob<'b>(&'b self, blob: &'b Blob) -> &'b [u8] {
        match blob {
            Blob::Input(range) => &self.input[range.clone()],
            Blob::Decoded(bytes) => bytes,
        }
    }

    /// The bytes of a bytes object or of a string: Python 2 does not tell them apart, so neither do we.
    pub(super) fn bytes(&self, at: Ref) -> Option<&[u8]> {
        match &self.values[at] {
            Value::Bytes(blob) => Some(self.blob(blob)),
            Value::Text(range) => Some(&self.input[range.clone()]),
            _ => None,
        }
    }

    fn field(&self, key: &str) -> Result<Ref, String> {
        let Value::Dict(pairs) = &self.values[self.root] else {
            return Err(format!(
                "is {}; a batch is a dict with the keys data and labels",
                self.values[self.root].kind()
            ));
        };
        // the last one counts, as in Python
        let found = pairs.iter().rev().find(|(name, _)| self.bytes(*name) == Some(key.as_bytes()));
        found.map(|(_, value)| *value).ok_or_else(|| format!("has no key {key:?}"))
    }

    /// The field `key`: a list of `wanted` integers, one an image, or an array of them with one axis.
    pub(in crate::dataset) fn integers(&self, key: &str, wanted: usize) -> Result<Vec<i64>, String> {
        let value = &self.values[self.field(key)?];
        // before they are copied: an array has a number in a byte, a copy in eight
        let found = match value {
            Value::List(items) | Value::Tuple(items) => items.len(),
            Value::Array(array) => array.shape.iter().product(),
            _ => wanted,
        };
        if found != wanted {
            return Err(format!("has {found} {key} and {wanted} images"));
        }
        match value {
            Value::List(items) | Value::Tuple(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| match self.values[*item] {
                    Value::Int(n) => Ok(n),
                    ref other => Err(format!("{key}[{i}] is {}; labels are integers", other.kind())),
                })
                .collect(),
            Value::Array(array) if array.shape.len() == 1 => array.integers(self.blob(&array.bytes), key),
            other => Err(format!("{key} is {}; a list of integers is wanted", other.kind())),
        }
    }

    /// The field `key`: a list of strings, `most` at most, which are names: one string may stand in a list any number of times.
    pub(in crate::dataset) fn strings(&self, key: &str, most: usize) -> Result<Vec<String>, String> {
        let Value::List(items) = &self.values[self.field(key)?] else {
            return Err(format!("{key} is not a list of strings"));
        };
        if items.len() > most {
            return Err(format!("{key} has {} entries; at most {most}", items.len()));
        }
        let name = |item: &Ref| {
            let bytes = self.bytes(*item).ok_or_else(|| format!("{key} is not a list of strings"))?;
            if bytes.len() > LONGEST_NAME {
                return Err(format!("{key} has a name of {} bytes; at most {LONGEST_NAME}", bytes.len()));
            }
            String::from_utf8(bytes.to_vec()).map_err(|_| format!("{key} is not a list of strings"))
        };
        items.iter().map(name).collect()
    }

    /// The field `key`: an array of bytes in row-major order, and its shape.
    pub(in crate::dataset) fn byte_array(&self, key: &str) -> Result<(&[usize], &[u8]), String> {
        match &self.values[self.field(key)?] {
            Value::Array(array) => Ok((&array.shape, array.raw_bytes(self.blob(&array.bytes), key)?)),
            other => Err(format!("{key} is {}; an array of uint8 is wanted", other.kind())),
        }
    }
}
