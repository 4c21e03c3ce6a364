//! How loading and running show themselves.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_coordinator::dataset::Progress;
use lockstep_coordinator::telemetry::Display;

use crate::cli::DisplayArgs;

impl DisplayArgs {
    /// The display that was asked for, or that fits the terminal.
    pub fn choose(self) -> Display {
        match self {
            Self { json: true, .. } => Display::Json,
            Self { quiet: true, .. } => Display::Quiet,
            Self { plain: true, .. } => Display::Plain,
            _ => Display::detect(),
        }
    }
}

/// A bar for downloads and loading, on standard error and only on a terminal; warnings always.
#[derive(Debug, Default)]
pub struct LoadingBar {
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress for LoadingBar {
    fn start(&self, what: &str, total: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = match total {
            Some(total) if total > 1_000_000 => "{msg}  {wide_bar}  {bytes}/{total_bytes}  {eta}",
            Some(_) => "{msg}  {wide_bar}  {human_pos}/{human_len}",
            None => "{spinner} {msg}  {human_pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(n);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, text: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| warn!("warning: {text}")),
            None => warn!("warning: {text}"),
        }
    }
}
