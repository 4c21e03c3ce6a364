//! Our arithmetic against PyTorch's: no further from its float64 than twice its own float32, norm-wise per tensor.
//!
//! The scripts and the numbers that they made are in `tests/oracle` at the top; `common.py` says what is stored and how to
//! make it again. With `LOCKSTEP_PYTHON` set to a Python that has PyTorch, [`rerun`] runs the scripts and compares.

mod gradient;
mod layers;
mod numbers;
mod rerun;
mod trajectory;
