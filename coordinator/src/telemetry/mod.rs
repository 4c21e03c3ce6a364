//! What a run tells the world: one stream of events, many sinks.
//!
//! Whoever knows something says it once, with [`Emitter::emit`]; what becomes of it is decided here. Sinks write
//! `metrics.jsonl` and `summary.json`, TensorBoard event files, and what a person sees (bars, lines or JSON).
//!
//! Telemetry never slows a step and never ends a run: `emit` takes no lock that is held during a write, every sink works on a thread
//! of its own behind a bounded queue, and a full disk is one warning.

mod append;
mod block;
mod board;
mod colours;
pub mod display;
pub mod error;
pub mod event;
pub mod format;
#[cfg(test)]
mod fuzz;
pub mod jsonl;
mod lane;
mod lines;
mod pace;
mod replace;
mod screen;
pub mod sink;
mod stream;
pub mod summary;
pub mod table;
pub mod tensorboard;
mod tfrecord;
mod writer;

pub use display::Display;
pub use error::TelemetryError;
pub use event::{Event, Record, Split};
pub use screen::STANDARD_OUTPUT;
pub use sink::Sink;
pub use stream::{Emitter, Resume, Settings, Telemetry};
pub use summary::{ClassAccuracy, Ledger, Summary, Traffic};
pub use writer::{Writer, writer};
