//! Standard error for log lines.

use std::io::{self, Write};

use super::block;

/// Writes to standard error, above the bars where they are shown. For `tracing_subscriber::fmt().with_writer(telemetry::writer)`.
pub fn writer() -> Writer {
    Writer { pending: Vec::new() }
}

/// See [`writer`]. Text appears when its line is complete, or when this is flushed or dropped.
pub struct Writer {
    pending: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if let Some(end) = self.pending.iter().rposition(|&byte| byte == b'\n') {
            let whole: Vec<u8> = self.pending.drain(..=end).collect();
            block::print(&String::from_utf8_lossy(&whole));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.pending.push(b'\n');
            block::print(&String::from_utf8_lossy(&self.pending));
            self.pending.clear();
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.flush(); // always Ok
    }
}
