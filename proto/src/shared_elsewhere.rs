//! Shared memory where there is no `memfd`: there is none, and tensors travel over gRPC. See `shared.rs`.

use std::io;

use crate::wire::SharedRegion;

/// What was found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub digest: u64,
    pub finite: bool,
}

/// Never made.
#[derive(Debug)]
pub enum Shared {}

impl Shared {
    /// # Errors
    /// Always.
    pub fn create(_: usize, _: usize, _: [u8; 16]) -> io::Result<(Self, SharedRegion)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// Always.
    pub fn open(_: &SharedRegion) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn write(&self, _: usize, _: &[f32]) -> u64 {
        match *self {}
    }

    pub fn read(&self, _: usize, _: &mut [f32]) -> Option<Found> {
        match *self {}
    }

    pub fn claim(&self) -> Option<usize> {
        match *self {}
    }

    pub fn release(&self, _: usize) {
        match *self {}
    }
}
