//! Thrift's compact protocol, as Parquet uses it: walks a struct whose fields are known and tells of the numbers in it, and keeps
//! nothing. Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.
//!
//! The Parquet library reads a field as what it should be, whatever its header says it is. Here both must agree, so that what
//! was checked here is what is read there.

use std::io::Read;

/// Structs in each other at most: a footer has seven.
const DEEPEST: usize = 16;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Byte,
    Int,
    Double,
    Binary,
    Struct(&'static Shape),
    List(&'static Kind),
}

/// A struct: what it is called here, and its fields by number. Others are passed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(i16, Kind)],
}

/// Told of each number, by the struct's name and the field's number; and with field 0 of each struct's end.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&'static str, i16, i64) -> Result<(), String>;

/// Nothing is known of its fields.
const ANY: Shape = Shape { name: "any", fields: &[] };

/// Walks the struct that `input` begins with; how many bytes it had. Reads no more than `most`.
pub(super) fn walk(input: impl Read, most: u64, shape: &'static Shape, visit: Visit<'_>) -> Result<u64, String> {
    let mut walk = Walk { input, left: most, visit };
    walk.fields(shape, 0)?;
    Ok(most - walk.left)
}

struct Walk<'a, R> {
    input: R,
    left: u64,
    visit: Visit<'a>,
}

impl<R: Read> Walk<'_, R> {
    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.left = self.left.checked_sub(1).ok_or("its description does not end where it should")?;
        self.input.read_exact(&mut byte).map_err(|error| format!("its description breaks off ({error})"))?;
        Ok(byte[0])
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number in its description has more than ten bytes".to_owned())
    }

    fn int(&mut self) -> Result<i64, String> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        (0..bytes).try_for_each(|_| self.byte().map(drop))
    }

    fn fields(&mut self, shape: &'static Shape, depth: usize) -> Result<(), String> {
        if depth == DEEPEST {
            return Err(format!("its description nests more than {DEEPEST} levels"));
        }
        let (mut last, mut seen) = (0_i16, 0_u64);
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                return (self.visit)(shape.name, 0, 0);
            }
            let field = match header >> 4 {
                0 => i16::try_from(self.int()?).ok(),
                delta => last.checked_add(i16::from(delta)),
            };
            let field = field.filter(|field| *field > 0).ok_or("a field in its description has no valid number")?;
            last = field;
            let known = shape.fields.iter().position(|(number, _)| *number == field);
            if let Some(at) = known {
                // the last one would count, or the first one
                if seen >> at & 1 == 1 {
                    return Err(format!("field {field} of a {} stands twice in its description", shape.name));
                }
                seen |= 1 << at;
            }
            let wanted = known.map(|at| shape.fields[at].1);
            let found = kind(header & 0x0f).filter(|found| wanted.is_none_or(|wanted| same(*found, wanted)));
            let found = found.ok_or_else(|| {
                format!("field {field} of a {} has type {} in its description", shape.name, header & 0x0f)
            })?;
            match wanted.unwrap_or(found) {
                Kind::Bool => {}
                Kind::Int => {
                    let number = self.int()?;
                    (self.visit)(shape.name, field, number)?;
                }
                other => self.value(other, depth)?,
            }
        }
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Result<(), String> {
        match kind {
            Kind::Bool | Kind::Byte => self.byte().map(drop),
            Kind::Int => self.varint().map(drop),
            Kind::Double => self.skip(8),
            Kind::Binary => {
                let length = self.varint()?;
                self.skip(length)
            }
            Kind::Struct(shape) => self.fields(shape, depth + 1),
            Kind::List(wanted) => self.list(wanted, depth + 1),
        }
    }

    fn list(&mut self, wanted: &Kind, depth: usize) -> Result<(), String> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(()); // how some write an empty one
        }
        let count = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        // an element of no bytes would make a long list for nothing: there are none among the lists of Parquet
        let found = self::kind(header & 0x0f).filter(|found| *found != Kind::Bool);
        let found = found.filter(|found| *wanted == Kind::Struct(&ANY) || same(*found, *wanted));
        let found = found.ok_or_else(|| format!("a list in its description is of type {}", header & 0x0f))?;
        if depth == DEEPEST {
            return Err(format!("its description nests more than {DEEPEST} levels"));
        }
        let element = if *wanted == Kind::Struct(&ANY) { found } else { *wanted };
        (0..count).try_for_each(|_| self.value(element, depth))
    }
}

/// What a type's number means. Maps and sets are in no description of a file of images.
fn kind(number: u8) -> Option<Kind> {
    Some(match number {
        1 | 2 => Kind::Bool,
        3 => Kind::Byte,
        4..=6 => Kind::Int,
        7 => Kind::Double,
        8 => Kind::Binary,
        9 => Kind::List(&Kind::Struct(&ANY)),
        12 => Kind::Struct(&ANY),
        _ => return None,
    })
}

/// Whether both are of one type, whatever is in them.
fn same(found: Kind, wanted: Kind) -> bool {
    std::mem::discriminant(&found) == std::mem::discriminant(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: Shape = Shape { name: "inner", fields: &[(1, Kind::Int)] };
    const OUTER: Shape =
        Shape { name: "outer", fields: &[(1, Kind::Int), (2, Kind::List(&Kind::Struct(&INNER))), (20, Kind::Bool)] };

    fn told(bytes: &[u8]) -> Result<Vec<(&'static str, i16, i64)>, String> {
        let mut told = Vec::new();
        let length = walk(bytes, bytes.len() as u64, &OUTER, &mut |name, field, number| {
            told.push((name, field, number));
            Ok(())
        })?;
        assert_eq!(length, bytes.len() as u64);
        Ok(told)
    }

    /// The bytes by hand, after the specification.
    #[test]
    fn numbers_are_told_with_their_struct() {
        // 1: i32 150 (zigzag 300), 2: two structs of 1: -1 and nothing, 20 (long form): true, unknown 21: "ab"
        let bytes = [0x15, 0xac, 0x02, 0x19, 0x2c, 0x15, 0x01, 0x00, 0x00, 0x01, 0x28, 0x18, 0x02, b'a', b'b', 0x00];
        let expected = [("outer", 1, 150), ("inner", 1, -1), ("inner", 0, 0), ("inner", 0, 0), ("outer", 0, 0)];
        assert_eq!(told(&bytes).expect("sound"), expected);
    }

    #[test]
    fn what_the_library_would_read_otherwise_is_refused() {
        for (bytes, word) in [
            (&[0x18, 0x00, 0x00][..], "type 8"),              // a string where a number is read
            (&[0x15, 0x02, 0x05, 0x02, 0x02, 0x00], "twice"), // field 1, and again in the long form
            (&[0x35, 0x02, 0x19, 0x21, 0x00], "type 1"),      // an unknown list of booleans, which have no bytes there
            (&[0x29, 0x25, 0x02, 0x02, 0x00], "type 5"),      // numbers where structs are read
            (&[0x2b, 0x00, 0x00], "type 11"),                 // a map
            (&[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00], "ten bytes"),
            (&[0x15], "where it should"),
            (&[0x38, 0xff, 0xff, 0xff, 0x7f, 0x00], "where it should"), // a string longer than everything
            (&[0x3c; 40], "16 levels"),
        ] {
            let text = told(bytes).expect_err("refused");
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
