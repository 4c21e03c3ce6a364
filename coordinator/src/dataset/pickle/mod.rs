//! A reader of Python pickles that executes nothing. A pickle is a program for a stack machine; this machine knows plain
//! values and the few NumPy constructors that the batches of CIFAR-10 need, and refuses every other call by name.
//! Protocols 2 to 5 (Python's `pickletools` documents the opcodes).

mod heap;
mod machine;
mod numpy;

pub(super) use machine::load;
