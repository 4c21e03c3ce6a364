//! The calls that a pickle may make: NumPy's constructors, each rebuilt from its arguments. NumPy 1 keeps them in
//! `numpy.core`, NumPy 2 in `numpy._core`.

use std::rc::Rc;

use super::heap::{Blob, Pickle, Ref, Value};

/// Axes of an array at most: NumPy's own limit. A shape is copied into each array that is made with it.
const MOST_AXES: usize = 64;

/// What a pickle may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    /// `_reconstruct(ndarray, (0,), b"b")`: an empty array, to be filled by a state.
    Reconstruct,
    /// `scalar(dtype, bytes)`.
    Scalar,
    /// `_frombuffer(bytes, dtype, shape, order)`: protocol 5.
    FromBuffer,
    NdArray,
    Dtype,
    /// `_codecs.encode(text, "latin1")`: how Python 3 writes bytes in protocol 2.
    Encode,
}

impl Callable {
    /// The callable that `module` and `name` mean, if it is one of the harmless ones.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Self::Reconstruct),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Self::Scalar),
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Some(Self::FromBuffer),
            ("numpy", "ndarray") => Some(Self::NdArray),
            ("numpy", "dtype") => Some(Self::Dtype),
            ("_codecs", "encode") => Some(Self::Encode),
            _ => None,
        }
    }
}

/// An integer type: `u1`, `<i8`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dtype {
    signed: bool,
    size: usize,
    big_endian: bool,
}

pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    dtype: Dtype,
    fortran: bool,
    pub(super) bytes: Blob,
}

impl Array {
    pub(super) fn integers(&self, bytes: &[u8], key: &str) -> Result<Vec<i64>, String> {
        bytes
            .chunks_exact(self.dtype.size)
            .map(|chunk| self.dtype.integer(chunk))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("{key} has a number beyond 63 bits"))
    }

    pub(super) fn raw_bytes<'b>(&self, bytes: &'b [u8], key: &str) -> Result<&'b [u8], String> {
        if self.dtype.signed || self.dtype.size != 1 {
            return Err(format!("{key} has {}-byte numbers; pixels are uint8", self.dtype.size));
        }
        if self.fortran {
            return Err(format!("{key} is in Fortran order; save numpy.ascontiguousarray of it"));
        }
        Ok(bytes)
    }
}

impl Dtype {
    fn parse(text: &[u8]) -> Option<Self> {
        let (signed, size) = match text {
            [b'u', size] => (false, size),
            [b'i', size] => (true, size),
            _ => return None,
        };
        let size = usize::from(size.checked_sub(b'0')?);
        matches!(size, 1 | 2 | 4 | 8).then_some(Self { signed, size, big_endian: false })
    }

    /// `bytes` (1 to 8 of them) as a number, if it fits.
    fn integer(self, bytes: &[u8]) -> Option<i64> {
        let mut wide = [0; 8];
        for (i, &byte) in bytes.iter().enumerate() {
            wide[if self.big_endian { bytes.len() - 1 - i } else { i }] = byte;
        }
        let shift = 64 - 8 * bytes.len() as u32;
        let number = u64::from_le_bytes(wide);
        if self.signed { Some(((number << shift) as i64) >> shift) } else { i64::try_from(number).ok() }
    }
}

impl Pickle<'_> {
    /// What calling `callable` with the tuple `arguments` makes. `decoded` counts bytes copied so far: a pickle that encodes
    /// one string again and again must not grow beyond its own size.
    pub(super) fn call(&self, callable: Callable, arguments: &[Ref], decoded: &mut usize) -> Result<Value, String> {
        let wrong = || format!("{callable:?} is called with arguments that NumPy never writes");
        match (callable, arguments) {
            (Callable::Encode, [text, codec]) => {
                if !matches!(self.bytes(*codec), Some(b"latin1" | b"latin-1")) {
                    return Err("refused: _codecs.encode with a codec other than latin1".to_owned());
                }
                let text = self.bytes(*text).and_then(|b| std::str::from_utf8(b).ok()).ok_or_else(wrong)?;
                *decoded += text.len();
                if *decoded > self.input.len() {
                    return Err("encodes more text than it holds".to_owned());
                }
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                Ok(Value::Bytes(Blob::Decoded(Rc::new(bytes.ok_or("a character is not in latin1")?))))
            }
            (Callable::Reconstruct, [class, _, _])
                if matches!(self.values[*class], Value::Callable(Callable::NdArray)) =>
            {
                let dtype = Dtype { signed: false, size: 1, big_endian: false };
                Ok(Value::Array(Box::new(Array { shape: vec![0], dtype, fortran: false, bytes: Blob::Input(0..0) })))
            }
            (Callable::Dtype, [name, ..]) => {
                let name = self.bytes(*name).ok_or_else(wrong)?;
                let dtype = Dtype::parse(name)
                    .ok_or_else(|| format!("has an array of {:?}; only integers are read", beginning(name)))?;
                Ok(Value::Dtype(dtype))
            }
            (Callable::Scalar, [dtype, bytes]) => match (&self.values[*dtype], self.bytes(*bytes)) {
                (Value::Dtype(dtype), Some(bytes)) if bytes.len() == dtype.size => {
                    dtype.integer(bytes).map(Value::Int).ok_or_else(wrong)
                }
                _ => Err(wrong()),
            },
            (Callable::FromBuffer, [bytes, dtype, shape, order]) => {
                let fortran = match self.bytes(*order) {
                    Some(b"C") => false,
                    Some(b"F") => true,
                    _ => return Err(wrong()),
                };
                self.array(*shape, *dtype, fortran, *bytes)
            }
            _ => Err(wrong()),
        }
    }

    /// What BUILD turns `target` into with the tuple `state`.
    pub(super) fn build(&self, target: Ref, state: &[Ref]) -> Result<Value, String> {
        match (&self.values[target], state) {
            (Value::Array(_), [_version, shape, dtype, fortran, bytes]) => {
                let fortran = match self.values[*fortran] {
                    Value::Bool(flag) => flag,
                    Value::Int(flag) => flag != 0,
                    _ => return Err("an array's order flag is no bool".to_owned()),
                };
                self.array(*shape, *dtype, fortran, *bytes)
            }
            (Value::Dtype(dtype), [_version, order, ..]) => match self.bytes(*order) {
                Some(b"<" | b"|" | b"=") => Ok(Value::Dtype(Dtype { big_endian: false, ..*dtype })),
                Some(b">") => Ok(Value::Dtype(Dtype { big_endian: true, ..*dtype })),
                _ => Err("a dtype has an unknown byte order".to_owned()),
            },
            (other, _) => Err(format!("refused: a pickle may not set the state of {}", other.kind())),
        }
    }

    fn array(&self, shape: Ref, dtype: Ref, fortran: bool, bytes: Ref) -> Result<Value, String> {
        let Value::Tuple(axes) = &self.values[shape] else {
            return Err("an array's shape is no tuple".to_owned());
        };
        if axes.len() > MOST_AXES {
            return Err(format!("an array has {} axes; NumPy's have at most {MOST_AXES}", axes.len()));
        }
        let shape: Option<Vec<usize>> = axes
            .iter()
            .map(|axis| if let Value::Int(n) = self.values[*axis] { usize::try_from(n).ok() } else { None })
            .collect();
        let shape = shape.ok_or("an array's shape has something else than lengths")?;
        let Value::Dtype(dtype) = self.values[dtype] else {
            return Err("an array has no dtype".to_owned());
        };
        let Value::Bytes(blob) = &self.values[bytes] else {
            return Err(format!("an array's data are {}; bytes are wanted", self.values[bytes].kind()));
        };
        let wanted = shape.iter().try_fold(dtype.size, |product, n| product.checked_mul(*n));
        let found = self.blob(blob).len();
        if wanted != Some(found) {
            return Err(format!("an array of shape {shape:?} has {found} bytes of data"));
        }
        let bytes = blob.clone();
        Ok(Value::Array(Box::new(Array { shape, dtype, fortran, bytes })))
    }
}

/// What a message shows of a name that may be as long as the file.
pub(super) fn beginning(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(100)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_and_order() {
        let read = |name: &[u8], big_endian, bytes: &[u8]| {
            let dtype = Dtype::parse(name).expect("integer type");
            Dtype { big_endian, ..dtype }.integer(bytes)
        };
        assert_eq!(read(b"u1", false, &[200]), Some(200));
        assert_eq!(read(b"i1", false, &[200]), Some(-56));
        assert_eq!(read(b"i4", false, &[1, 2, 0, 0]), Some(513));
        assert_eq!(read(b"i2", true, &[1, 2]), Some(258));
        assert_eq!(read(b"i8", false, &[0xff; 8]), Some(-1));
        assert_eq!(read(b"u8", false, &[0xff; 8]), None);
        for other in [&b"f4"[..], b"O8", b"i3", b"u", b"i16"] {
            assert_eq!(Dtype::parse(other), None);
        }
    }
}
