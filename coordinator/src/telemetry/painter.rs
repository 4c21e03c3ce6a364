//! A block of lines that stays at the bottom of the terminal while text scrolls by above it.
//!
//! Ours rather than `indicatif`'s drawing, because that one pads each line to the full width: when the window becomes narrower, every
//! line wraps and leaves its remains behind. Here a redraw goes up as many rows as the lines take *now*, clears to the end of the
//! screen and writes everything in one go, as a synchronised update: nothing flickers.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::{Term, measure_text_width};

/// The one terminal of this process. A lock, since log lines come from any thread and would tear the block apart. It is held while the
/// terminal is written to, so a stopped terminal stops who logs, as it would without us; steps don't log.
static PAINTER: Mutex<Painter> = Mutex::new(Painter { lines: Vec::new() });

/// Begin and end of a synchronised update: terminals that know them show the whole at once, others ignore them.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

struct Painter {
    /// What stands on the screen now; the cursor is at the beginning of the row below.
    lines: Vec<String>,
}

impl Painter {
    /// What to send so that `text` appears above the block and `lines` in its place, in a terminal of `columns`.
    fn paint(&mut self, text: &str, lines: Vec<String>, columns: usize) -> String {
        let mut out = String::new();
        if lines == self.lines && text.is_empty() {
            return out;
        }
        out.push_str(BEGIN);
        let rows: usize = self.lines.iter().map(|line| measure_text_width(line).div_ceil(columns).max(1)).sum();
        if rows > 0 {
            // To a String: can't fail.
            let _ = write!(out, "\r\x1b[{rows}A\x1b[J");
        }
        out.push_str(text);
        for line in &lines {
            out.push_str(line);
            out.push('\n');
        }
        out.push_str(END);
        self.lines = lines;
        out
    }
}

fn painter() -> MutexGuard<'static, Painter> {
    // A panic while painting leaves at worst a wrong count of lines.
    PAINTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Columns and rows of the terminal. Some report 0 while they start.
pub(super) fn size() -> (usize, usize) {
    let (rows, columns) = Term::stderr().size_checked().unwrap_or((24, 80));
    let or = |n: u16, default| if n == 0 { default } else { usize::from(n) };
    (or(columns, 80), or(rows, 24))
}

fn send(text: &str) {
    // A terminal that is gone (SIGHUP) must not end the run.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Shows `lines` as the block; none removes it.
pub(super) fn draw(lines: Vec<String>) {
    let mut painter = painter();
    send(&painter.paint("", lines, size().0));
}

/// Prints whole lines above the block (or just prints them, where there is none).
pub(super) fn print(text: &str) {
    let mut painter = painter();
    if painter.lines.is_empty() {
        return send(text);
    }
    let lines = painter.lines.clone();
    send(&painter.paint(text, lines, size().0));
}

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
            print(&String::from_utf8_lossy(&whole));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.pending.push(b'\n');
            print(&String::from_utf8_lossy(&self.pending));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a terminal as is needed: text, line feeds, carriage returns, cursor up, clear to the end; it wraps at `columns` and
    /// re-wraps its lines when it is resized, as most terminals do.
    struct Screen {
        columns: usize,
        rows: Vec<String>,
        /// Rows that continue the one above.
        wrapped: Vec<bool>,
        row: usize,
    }

    impl Screen {
        fn new(columns: usize) -> Screen {
            Screen { columns, rows: vec![String::new()], wrapped: vec![false], row: 0 }
        }

        fn feed(&mut self, mut text: &str) {
            while let Some(c) = text.chars().next() {
                text = &text[c.len_utf8()..];
                match c {
                    '\r' => assert!(self.rows[self.row].is_empty(), "only at the beginning of a row here"),
                    '\n' => self.down(false),
                    '\x1b' => {
                        let end = text.find(|c: char| c.is_ascii_alphabetic()).expect("a whole sequence");
                        let (sequence, rest) = text.split_at(end + 1);
                        text = rest;
                        match sequence {
                            "[?2026h" | "[?2026l" => {}
                            "[J" => {
                                self.rows.truncate(self.row);
                                self.wrapped.truncate(self.row);
                                self.rows.push(String::new());
                                self.wrapped.push(false);
                            }
                            up => {
                                let n: usize = up[1..up.len() - 1].parse().expect("cursor up");
                                self.row = self.row.saturating_sub(n);
                            }
                        }
                    }
                    c => {
                        if self.rows[self.row].chars().count() == self.columns {
                            self.down(true);
                        }
                        self.rows[self.row].push(c);
                    }
                }
            }
        }

        fn down(&mut self, wrapped: bool) {
            self.row += 1;
            self.rows.push(String::new());
            self.wrapped.push(wrapped);
        }

        fn resize(&mut self, columns: usize) {
            let mut lines: Vec<String> = Vec::new();
            for (row, &wrapped) in self.rows.iter().zip(&self.wrapped) {
                match lines.last_mut().filter(|_| wrapped) {
                    Some(line) => line.push_str(row),
                    None => lines.push(row.clone()),
                }
            }
            *self = Screen::new(columns);
            self.feed(&lines.join("\n"));
        }
    }

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn text_scrolls_by_above_the_block() {
        let (mut painter, mut screen) = (Painter { lines: Vec::new() }, Screen::new(20));
        screen.feed(&painter.paint("", lines(&["bar 1", "worker"]), 20));
        screen.feed(&painter.paint("epoch 1\n", lines(&["bar 1", "worker"]), 20));
        screen.feed(&painter.paint("", lines(&["bar 2", "worker", "more"]), 20));
        assert_eq!(screen.rows, ["epoch 1", "bar 2", "worker", "more", ""]);
        screen.feed(&painter.paint("", Vec::new(), 20));
        assert_eq!(screen.rows, ["epoch 1", ""]);
    }

    #[test]
    fn nothing_is_sent_when_nothing_changed() {
        let mut painter = Painter { lines: Vec::new() };
        painter.paint("", lines(&["bar"]), 20);
        assert_eq!(painter.paint("", lines(&["bar"]), 20), "");
    }

    #[test]
    fn a_narrower_window_keeps_no_remains_and_loses_no_text() {
        let (mut painter, mut screen) = (Painter { lines: Vec::new() }, Screen::new(20));
        screen.feed(&painter.paint("epoch 1\n", lines(&["a bar of 20 columns.", "worker 0 computing"]), 20));
        screen.resize(7);
        assert_eq!(screen.rows.len(), 8);
        screen.feed(&painter.paint("", lines(&["a bar", "worker"]), 7));
        assert_eq!(screen.rows, ["epoch 1", "a bar", "worker", ""]);
        screen.resize(20);
        screen.feed(&painter.paint("", lines(&["a bar of 20 columns."]), 20));
        assert_eq!(screen.rows, ["epoch 1", "a bar of 20 columns.", ""]);
    }

    #[test]
    fn colours_take_no_columns() {
        let mut painter = Painter { lines: Vec::new() };
        painter.paint("", lines(&["\x1b[32mgreen\x1b[0m"]), 5);
        assert!(painter.paint("", lines(&["x"]), 5).contains("\x1b[1A"));
    }
}
