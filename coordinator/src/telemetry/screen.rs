//! The sinks that people and programs look at while a run goes on.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use console::Term;

use super::block;
use super::board::{Board, Glyphs};
use super::colours::Colours;
use super::error::TelemetryError;
use super::event::{Event, Record};
use super::format::clean;
use super::lines::line;
use super::sink::Sink;
use super::table;

/// A log that is silent for so long makes people wonder whether the run hangs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// What complaints call it.
pub const STANDARD_OUTPUT: &str = "standard output";

/// Wider tables are hard to read, and the first to break when a window is made smaller.
const WIDTH_MAX: usize = 100;

/// The run's time between two records.
struct Now {
    seconds: f64,
    at: Instant,
}

impl Now {
    fn new() -> Now {
        Now { seconds: 0.0, at: Instant::now() }
    }

    fn set(&mut self, record: &Record) {
        *self = Now { seconds: record.seconds, at: Instant::now() };
    }

    fn get(&self) -> f64 {
        self.seconds + self.at.elapsed().as_secs_f64()
    }
}

/// Writes to standard output until it takes no more: the run goes on.
#[derive(Default)]
struct Out {
    closed: bool,
}

impl Out {
    /// Fails once, unless a reader just went away (`lockstep train | head`): that is no lost output.
    fn line(&mut self, text: &str) -> Result<(), TelemetryError> {
        if self.closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        self.closed = written.is_err();
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(TelemetryError::io("write to", STANDARD_OUTPUT.as_ref())(error))
            }
            _ => Ok(()),
        }
    }
}

fn table_width() -> usize {
    if io::stdout().is_terminal() { usize::from(Term::stdout().size().1).min(WIDTH_MAX) } else { WIDTH_MAX }
}

pub(super) struct Bars {
    board: Board,
    now: Now,
    glyphs: Glyphs,
    colours: Colours,
    out: Out,
    out_colours: Colours,
    ended: bool,
}

impl Bars {
    pub(super) fn new(glyphs: Glyphs, colours: Colours, out_colours: Colours) -> Bars {
        let (board, now, out) = (Board::new(), Now::new(), Out::default());
        Bars { board, now, glyphs, colours, out, out_colours, ended: false }
    }
}

impl Sink for Bars {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        self.now.set(record);
        self.board.take(record);
        if let Some(line) = line(record, &self.board, false, &self.colours) {
            block::print(&(line + "\n"));
        }
        if let Event::RunEnded { summary } = &record.event {
            self.ended = true;
            block::remove();
            return self.out.line(&format!("\n{}", table::render(summary, table_width(), &self.out_colours)));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TelemetryError> {
        if !self.ended {
            // Half the window: the rest is for what scrolls by.
            let height = usize::from(Term::stderr().size().0 / 2).saturating_sub(1).max(1);
            block::show(self.board.view(self.now.get(), height, &self.colours), self.glyphs);
        }
        Ok(())
    }

    /// Without a result, the run ended in an error, which the caller prints: the block makes room.
    fn finish(&mut self) -> Result<(), TelemetryError> {
        block::remove();
        Ok(())
    }
}

pub(super) struct Plain {
    board: Board,
    now: Now,
    colours: Colours,
    out: Out,
    spoke: Instant,
    running: bool,
}

impl Plain {
    pub(super) fn new(colours: Colours) -> Plain {
        let (board, now, out) = (Board::new(), Now::new(), Out::default());
        Plain { board, now, colours, out, spoke: Instant::now(), running: false }
    }

    fn say(&mut self, text: &str) -> Result<(), TelemetryError> {
        self.spoke = Instant::now();
        self.out.line(text)
    }
}

impl Sink for Plain {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        self.now.set(record);
        self.board.take(record);
        if let Some(line) = line(record, &self.board, true, &self.colours) {
            match record.event {
                Event::Warning { .. } => block::print(&(line + "\n")),
                _ => self.say(&line)?,
            }
        }
        match &record.event {
            Event::RunStarted(_) => self.running = true,
            Event::RunEnded { summary } => {
                self.running = false;
                self.say(&format!("\n{}", table::render(summary, table_width(), &self.colours)))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TelemetryError> {
        if self.running && self.spoke.elapsed() >= SIGN_OF_LIFE {
            let now = self.now.get();
            let left = self.board.left(now).map_or_else(String::new, |left| format!("  {left} left"));
            self.say(&format!("{}{left}", self.board.state(now, &self.colours)))?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Json {
    out: Out,
}

impl Sink for Json {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        let text = serde_json::to_string(record)
            .map_err(|error| TelemetryError::io("encode a record for", STANDARD_OUTPUT.as_ref())(error.into()))?;
        self.out.line(&text)
    }
}

pub(super) struct Quiet;

impl Sink for Quiet {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        if let Event::Warning { text } = &record.event {
            block::print(&format!("warning: {}\n", clean(text)));
        }
        Ok(())
    }
}

pub(super) struct Silent;

impl Sink for Silent {
    fn record(&mut self, _: &Record) -> Result<(), TelemetryError> {
        Ok(())
    }
}
