use super::*;

fn plain() -> Colours {
    Colours::new(false)
}

struct Run(Board);

impl Run {
    /// Two workers, 100 steps of 64 images in 10 s, of 1,000 steps.
    fn new() -> Run {
        let mut run = Run(Board::new());
        let start = RunStarted { epochs: 20, steps: 1000, ..Default::default() };
        run.take(0.0, Event::RunStarted(start));
        run.join(0);
        run.join(1);
        for step in 1..=100 {
            run.stats(0, step);
            run.step(step, 1, step as f64 / 10.0);
        }
        run
    }

    fn take(&mut self, seconds: f64, event: Event) {
        self.0.take(&Record { time: 0.0, seconds, event });
    }

    fn join(&mut self, worker: u32) {
        self.take(0.0, Event::WorkerJoined { worker, device_class: "cpu-v4".into(), threads: 1 });
    }

    fn stats(&mut self, worker: u32, step: u64) {
        let stats =
            Event::WorkerStats { worker, step, shards: 2, images: 64, compute_seconds: 0.075, wait_seconds: 0.025 };
        self.take(step as f64 / 10.0, stats);
    }

    fn step(&mut self, step: u64, epoch: u32, seconds: f64) {
        let (loss, accuracy) = if step.is_multiple_of(2) { (3.0, 0.5) } else { (1.0, 0.25) };
        let event =
            Event::Step { step, epoch, lr: 0.1, loss, accuracy, images: 64, images_per_s: 640.0, gradient_norm: 1.0 };
        self.take(seconds, event);
    }

    fn lines(&self, now: f64, width: usize, height: usize) -> Vec<String> {
        self.0.render(now, width, height, Glyphs::Ascii, &plain())
    }
}

#[test]
fn a_run_at_eighty_columns() {
    let lines = Run::new().lines(10.0, 79, 20);
    assert_eq!(
        lines,
        [
            "epoch  1/20  ====--------------------------------------------   10%  1:30 left",
            "step   100/1,000  loss 2.0000  accuracy 37.50%     640 images/s",
            "  worker 0  computing          200 shards     640 images/s   75% busy  cpu-v4",
            "  worker 1  idle        cpu-v4",
        ]
    );
}

#[test]
fn never_wider_or_higher_than_asked() {
    let mut run = Run::new();
    (2..50).for_each(|worker| run.join(worker));
    for width in 0..140 {
        for height in 0..10 {
            for glyphs in [Glyphs::Ascii, Glyphs::Unicode] {
                let lines = run.0.render(10.0, width, height, glyphs, &Colours::new(true));
                assert!(lines.len() <= height, "{} lines for {height}", lines.len());
                for line in lines {
                    assert!(measure_text_width(&line) <= width, "{line:?} for {width}");
                }
            }
        }
    }
    assert_eq!(run.lines(10.0, 80, 6).last().expect("a line"), "  and 47 more workers");
}

#[test]
fn waiting_evaluating_and_silence_are_told() {
    let mut run = Run::new();
    run.take(11.0, Event::Waiting { what: "1 of 2 workers".into(), deadline_seconds: 60.0 });
    assert_eq!(run.lines(21.0, 79, 9)[1], "waiting for 1 of 2 workers, for 0:50 at most");
    run.take(22.0, Event::EvaluationProgress { step: 100, split: Split::Test, done: 2500, images: 10_000 });
    assert_eq!(run.lines(22.0, 79, 9)[1], "evaluating test 2,500/10,000");
    assert!(run.lines(22.0, 79, 9)[2].contains("silent 0:12"), "{:?}", run.lines(22.0, 79, 9));
    run.step(101, 1, 22.5);
    assert!(run.lines(22.5, 79, 9)[1].starts_with("step"));
}

#[test]
fn a_lost_worker_is_shown_for_a_while_and_a_new_one_takes_its_line() {
    let mut run = Run::new();
    run.take(10.0, Event::WorkerLeft { worker: 0, reason: "connection reset".into(), reissued: 2 });
    run.stats(0, 101);
    assert_eq!(run.lines(10.0, 79, 9)[2], "  worker 0  lost: connection reset");
    run.join(0);
    assert_eq!(run.lines(10.0, 79, 9)[2], "  worker 0  idle        cpu-v4");
    run.take(11.0, Event::WorkerLeft { worker: 0, reason: "killed".into(), reissued: 0 });
    run.step(101, 1, 80.0);
    assert!(run.lines(80.0, 79, 9)[2].starts_with("  worker 1"));
}

#[test]
fn an_epoch_begins_anew_and_the_end_is_whole() {
    let mut run = Run::new();
    run.step(101, 2, 10.1);
    assert!(run.lines(10.1, 79, 9)[1].contains("loss 1.0000  accuracy 25.00%"));
    run.step(999, 20, 99.9);
    assert!(run.lines(99.9, 79, 9)[0].contains(" 99%"));
    run.step(1000, 20, 100.0);
    assert!(run.lines(100.0, 79, 9)[0].contains("100%  0:00 left"), "{:?}", run.lines(100.0, 79, 9));
}

#[test]
fn nothing_known_yet() {
    let board = Board::new();
    let lines = board.render(0.0, 79, 9, Glyphs::Ascii, &plain());
    assert_eq!(lines[1], "starting");
    assert!(lines[0].ends_with("0%  -"), "{lines:?}");
}
