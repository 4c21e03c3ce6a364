//! The stack machine: one opcode after the other, every length held against what is left of the input.

use std::collections::HashMap;
use std::ops::Range;

use super::heap::{Blob, Pickle, PickleError, Ref, Value};
use super::numpy::{Callable, beginning};

/// Opcodes in one pickle. An official batch has about 60,000; a value takes 32 bytes here, 200 with all that points to it
/// while that grows, so this bounds memory.
const MOST_STEPS: usize = 1_000_000;

/// Reads the pickle in `input`.
pub(in crate::dataset) fn load(input: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine = Machine {
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        decoded: 0,
        pickle: Pickle { input, values: Vec::new(), root: 0 },
    };
    for _ in 0..MOST_STEPS {
        let start = machine.at;
        if machine.step().map_err(|problem| PickleError { at: start, problem })? {
            return Ok(machine.pickle);
        }
    }
    Err(PickleError { at: machine.at, problem: format!("more than {MOST_STEPS} operations; a batch has about 60000") })
}

struct Machine<'a> {
    at: usize,
    stack: Vec<Ref>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<usize, Ref>,
    decoded: usize,
    pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; true once the pickle is complete.
    fn step(&mut self) -> Result<bool, String> {
        let opcode = self.number::<1>()? as u8;
        match opcode {
            0x80 => {
                let protocol = self.number::<1>()?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("protocol {protocol}; protocols 2 to 5 are read"));
                }
            }
            0x95 => drop(self.number::<8>()?), // FRAME: a hint to read ahead; what it announces is checked anyway
            b'.' => {
                self.pickle.root = self.pop()?;
                return Ok(true);
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self.push_number::<1>()?,
            b'M' => self.push_number::<2>()?,
            b'J' => {
                let bits = self.number::<4>()? as u32;
                self.push(Value::Int(i64::from(bits as i32)));
            }
            0x8a => self.long()?,
            b'G' => {
                self.number::<8>()?;
                self.push(Value::Float);
            }
            b'U' | b'C' => self.push_bytes::<1>()?,
            b'T' | b'B' => self.push_bytes::<4>()?,
            0x8e | 0x96 => self.push_bytes::<8>()?,
            0x8c => self.push_text::<1>()?,
            b'X' => self.push_text::<4>()?,
            0x8d => self.push_text::<8>()?,
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => self.collect(Value::Tuple)?,
            b'l' => self.collect(Value::List)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set_items(&items)?;
            }
            b'q' => self.put::<1>()?,
            b'r' => self.put::<4>()?,
            0x94 => {
                let value = self.top()?;
                self.memo.insert(self.memo.len(), value);
            }
            b'h' => self.get::<1>()?,
            b'j' => self.get::<4>()?,
            b'c' => {
                let (module, name) = (beginning(self.line()?), beginning(self.line()?));
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |at: Ref| self.pickle.bytes(at).map(beginning).ok_or("a call is named by no string");
                let (module, name) = (text(module)?, text(name)?);
                self.global(&module, &name)?;
            }
            b'R' => self.reduce()?,
            b'b' => {
                let (state, target) = (self.pop()?, self.top()?);
                let Value::Tuple(state) = &self.pickle.values[state] else {
                    return Err(format!("a state is {}; NumPy's are tuples", self.pickle.values[state].kind()));
                };
                self.pickle.values[target] = self.pickle.build(target, state)?;
            }
            other => {
                return Err(format!("opcode 0x{other:02x} is not one that an image batch uses; refused"));
            }
        }
        Ok(false)
    }

    fn take(&mut self, n: usize) -> Result<Range<usize>, String> {
        let left = self.pickle.input.len() - self.at;
        if n > left {
            return Err(format!("{n} bytes are announced and {left} are left: the file is cut short or damaged"));
        }
        self.at += n;
        Ok(self.at - n..self.at)
    }

    /// An unsigned little-endian number of N bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, String> {
        let range = self.take(N)?;
        Ok(self.pickle.input[range].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length<const N: usize>(&mut self) -> Result<Range<usize>, String> {
        let length = self.number::<N>()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.pickle.input[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a call's name does not end")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.pickle.values.len());
        self.pickle.values.push(value);
    }

    fn push_number<const N: usize>(&mut self) -> Result<(), String> {
        let number = self.number::<N>()?;
        self.push(Value::Int(number as i64)); // at most two bytes
        Ok(())
    }

    fn push_bytes<const N: usize>(&mut self) -> Result<(), String> {
        let range = self.length::<N>()?;
        self.push(Value::Bytes(Blob::Input(range)));
        Ok(())
    }

    fn push_text<const N: usize>(&mut self) -> Result<(), String> {
        let range = self.length::<N>()?;
        if std::str::from_utf8(&self.pickle.input[range.clone()]).is_err() {
            return Err("a string is not UTF-8".to_owned());
        }
        self.push(Value::Text(range));
        Ok(())
    }

    /// LONG1: a signed little-endian number of any length.
    fn long(&mut self) -> Result<(), String> {
        let range = self.length::<1>()?;
        let bytes = &self.pickle.input[range];
        if bytes.len() > 8 {
            return Err(format!("an integer of {} bytes; at most 8 are read", bytes.len()));
        }
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn top(&self) -> Result<Ref, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| "takes a value from an empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<Ref, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Ref>, String> {
        let floor = self.marks.pop().ok_or("closes a mark that was never set")?;
        Ok(self.stack.split_off(floor))
    }

    fn collect(&mut self, make: fn(Vec<Ref>) -> Value) -> Result<(), String> {
        let items = self.pop_mark()?;
        self.push(make(items));
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Ref>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.pickle.values[list] {
            Value::List(list) => list.extend(items),
            other => return Err(format!("appends to {}", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Ref]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.pickle.values[dict] {
            Value::Dict(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            other => return Err(format!("sets {} items of {}", items.len(), other.kind())),
        }
        Ok(())
    }

    fn put<const N: usize>(&mut self) -> Result<(), String> {
        let (slot, value) = (self.number::<N>()?, self.top()?);
        self.memo.insert(slot as usize, value);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<(), String> {
        let slot = self.number::<N>()?;
        let value = self.memo.get(&(slot as usize)).ok_or_else(|| format!("uses memo {slot}, which was never set"))?;
        self.stack.push(*value);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let callable = Callable::find(module, name).ok_or_else(|| {
            format!(
                "refused: a pickle may not call {}.{}; only NumPy's arrays and plain values are read, and nothing is \
                 executed. Do not load this file with Python either",
                module.escape_debug(),
                name.escape_debug()
            )
        })?;
        self.push(Value::Callable(callable));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Callable(callable), Value::Tuple(arguments)) =
            (&self.pickle.values[callable], &self.pickle.values[arguments])
        else {
            return Err(format!("refused: calls {}", self.pickle.values[callable].kind()));
        };
        let value = self.pickle.call(*callable, arguments, &mut self.decoded)?;
        self.push(value);
        Ok(())
    }
}
