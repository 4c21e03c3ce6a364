//! What takes events.

use super::error::TelemetryError;
use super::event::Record;

/// A place where events go. It has a thread to itself (or shares one with sinks as quick), so it may block.
///
/// An error is shown to the user as a warning and the sink is called again as before: it must say the same thing once.
pub trait Sink: Send {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError>;

    /// Nothing more is waiting: make visible what was recorded. Called at least a few times a second.
    fn flush(&mut self) -> Result<(), TelemetryError> {
        Ok(())
    }

    /// The run is over.
    fn finish(&mut self) -> Result<(), TelemetryError> {
        self.flush()
    }
}
