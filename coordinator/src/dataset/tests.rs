//! Across layouts.
