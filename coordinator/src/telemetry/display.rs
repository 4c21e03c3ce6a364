//! How a run shows itself, and the choice of it.

use std::env;
use std::io::{self, IsTerminal};

use console::{colors_enabled, colors_enabled_stderr};

use super::board::Glyphs;
use super::colours::Colours;
use super::screen::{Bars, Json, Plain, Quiet, Silent};
use super::sink::Sink;

/// How a run shows itself. What is for people goes to standard output, except bars, logs and warnings: standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Bars at the bottom of the terminal, epochs and evaluations scrolling by above them, a table at the end.
    Bars,
    /// A line an epoch and an evaluation, a sign of life at least every half minute, a table at the end. For logs.
    Plain,
    /// Every event as a line of JSON. For programs.
    Json,
    /// Only warnings.
    Quiet,
    /// Nothing at all: for runs inside another command, which tells the result itself.
    Silent,
}

impl Display {
    /// Bars where a person is watching, else plain lines.
    pub fn detect() -> Display {
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        // Both: with `train | tee log` bars would be drawn into what tee prints.
        if io::stdout().is_terminal() && io::stderr().is_terminal() && !dumb { Display::Bars } else { Display::Plain }
    }

    pub(super) fn sink(self) -> Box<dyn Sink> {
        match self {
            Display::Bars => Box::new(Bars::new(glyphs(), Colours::new(colors_enabled_stderr()), stdout_colours())),
            Display::Plain => Box::new(Plain::new(stdout_colours())),
            Display::Json => Box::new(Json::default()),
            Display::Quiet => Box::new(Quiet),
            Display::Silent => Box::new(Silent),
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Display::detect()
    }
}

/// As `indicatif` decides for its own: on a terminal, unless `NO_COLOR` or `CLICOLOR=0` is set.
fn stdout_colours() -> Colours {
    Colours::new(colors_enabled())
}

/// Box-drawing characters only where the locale says that they can be shown.
fn glyphs() -> Glyphs {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os).find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_string_lossy().to_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") { Glyphs::Unicode } else { Glyphs::Ascii }
}
