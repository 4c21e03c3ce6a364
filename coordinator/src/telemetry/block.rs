//! The bars that stay at the bottom of the terminal while text scrolls by above them. `indicatif` draws them.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::board::{Glyphs, View};

/// The one terminal of this process. A lock, since log lines come from any thread and would tear the block apart. It is held while the
/// terminal is written to, so a stopped terminal stops who logs, as it would without us; steps don't log.
static BLOCK: Mutex<Option<Block>> = Mutex::new(None);

/// A second: as many pictures look smooth, and don't fill a slow line.
const REDRAWS: u8 = 10;

struct Block {
    all: MultiProgress,
    /// How far the run is, below an empty line.
    run: ProgressBar,
    /// What it is doing, and its workers.
    lines: Vec<ProgressBar>,
}

impl Block {
    fn new(target: ProgressDrawTarget, glyphs: Glyphs) -> Block {
        let all = MultiProgress::with_draw_target(target);
        let run = all.add(ProgressBar::no_length());
        let chars = match glyphs {
            Glyphs::Unicode => "━─",
            Glyphs::Ascii => "=-",
        };
        run.set_style(style("\n{prefix}  {wide_bar:.green/dim}  {msg}").progress_chars(chars));
        Block { all, run, lines: Vec::new() }
    }

    fn show(&mut self, view: View) {
        for line in self.lines.drain(view.lines.len().min(self.lines.len())..) {
            self.all.remove(&line);
        }
        while self.lines.len() < view.lines.len() {
            let line = self.all.add(ProgressBar::no_length());
            line.set_style(style("{wide_msg}"));
            self.lines.push(line);
        }
        for (line, text) in self.lines.iter().zip(view.lines) {
            if line.message() != text {
                line.set_message(text);
            }
        }
        // `with_…` don't draw, so that this is one picture and not four.
        self.run.clone().with_prefix(view.epoch).with_message(view.left).update(|run| {
            run.set_len(view.steps);
            run.set_pos(view.step);
        });
    }

    /// What `MultiProgress::suspend` does, which panics when the terminal is gone (SIGHUP): that must not end the run.
    fn above(&self, write: impl FnOnce()) {
        let _ = self.all.clear();
        write();
        self.run.force_draw();
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = self.all.clear();
        // Bars draw a last time when they are dropped.
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates here are right, and every test draws them")
}

fn block() -> MutexGuard<'static, Option<Block>> {
    // A panic while drawing leaves at worst a line behind on the screen.
    BLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the block on standard error, if that is a terminal.
pub(super) fn show(view: View, glyphs: Glyphs) {
    block().get_or_insert_with(|| Block::new(ProgressDrawTarget::stderr_with_hz(REDRAWS), glyphs)).show(view);
}

pub(super) fn remove() {
    *block() = None;
}

/// Prints whole lines to standard error, above the block where there is one.
pub(super) fn print(text: &str) {
    let write = || {
        let _ = io::stderr().write_all(text.as_bytes()); // nobody to tell if even this is gone
    };
    match &*block() {
        Some(block) => block.above(write),
        None => write(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, TermLike};

    fn view(lines: &[&str]) -> View {
        let lines = lines.iter().map(ToString::to_string).collect();
        View { epoch: "epoch  5/20".into(), step: 25, steps: 100, left: " 25%  1:30 left".into(), lines }
    }

    /// A block on a terminal of `columns`, not held back in how often it draws.
    fn block(columns: u16) -> (Block, InMemoryTerm) {
        let terminal = InMemoryTerm::new(12, columns);
        (Block::new(ProgressDrawTarget::term_like(Box::new(terminal.clone())), Glyphs::Ascii), terminal)
    }

    #[test]
    fn the_bar_takes_the_room_there_is_and_lines_are_cut() {
        let (mut block, terminal) = block(40);
        block.show(view(&["step 25/100  loss 2.0000  accuracy 37.50%  640 images/s", "  worker 0"]));
        let expected = "
epoch  5/20  ==--------   25%  1:30 left
step 25/100  loss 2.0000  accuracy 37.50
  worker 0";
        assert_eq!(terminal.contents(), expected);
    }

    #[test]
    fn text_goes_above_and_nothing_remains_of_lines_that_went() {
        let (mut block, terminal) = block(32);
        block.show(view(&["step", "  worker 0", "  worker 1"]));
        block.above(|| terminal.write_line("epoch 4  loss 2.0000").expect("in memory"));
        let expected = "epoch 4  loss 2.0000\n
epoch  5/20  --   25%  1:30 left
step
  worker 0
  worker 1";
        assert_eq!(terminal.contents(), expected);
        block.show(view(&["evaluating"]));
        assert_eq!(terminal.contents(), "epoch 4  loss 2.0000\n\nepoch  5/20  --   25%  1:30 left\nevaluating");
        drop(block);
        assert_eq!(terminal.contents(), "epoch 4  loss 2.0000");
    }
}
