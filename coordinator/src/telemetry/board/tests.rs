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
        self.join_as(worker, &format!("worker-{worker}"));
    }

    fn join_as(&mut self, worker: u32, name: &str) {
        let (name, device_class) = (name.into(), "cpu-v4".into());
        self.take(0.0, Event::WorkerJoined { worker, name, device_class, threads: 1 });
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

    fn view(&self, now: f64) -> View {
        self.0.view(now, 8, &plain())
    }

    fn lines(&self, now: f64) -> Vec<String> {
        self.view(now).lines
    }
}

#[test]
fn a_run_at_a_moment() {
    let lines = [
        "step   100/1,000  loss 2.0000  accuracy 37.50%     640 images/s",
        "  worker-0  computing         200 shards     640 images/s   75% busy",
        "  worker-1  idle        cpu-v4",
    ];
    let (epoch, left) = ("epoch  1/20".into(), " 10%  1:30 left".into());
    let expected = View { epoch, step: 100, steps: 1000, left, lines: lines.map(String::from).to_vec() };
    assert_eq!(Run::new().view(10.0), expected);
}

#[test]
fn workers_are_called_by_their_names_and_fit_into_80_columns() {
    let mut run = Run::new();
    run.join_as(2, "a-host-with-a-very-long-name-4194304");
    (101..=200).for_each(|step| run.stats(2, step));
    let lines = run.lines(20.0);
    assert!(lines[1].starts_with("  worker-0              computing "), "{lines:#?}");
    assert!(lines[3].starts_with("  a-host-with-a-very-~  computing "), "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
}

#[test]
fn never_higher_than_asked() {
    let mut run = Run::new();
    (2..50).for_each(|worker| run.join(worker));
    for height in 1..10 {
        assert_eq!(run.0.view(10.0, height, &plain()).lines.len(), height);
    }
    assert_eq!(run.0.view(10.0, 5, &plain()).lines.last().expect("a line"), "  and 47 more workers");
}

#[test]
fn evaluation_is_in_the_time_left_but_not_in_the_rate() {
    let mut run = Run::new();
    (101..=200).for_each(|step| run.step(step, 1, 10.0 + step as f64 / 10.0));
    assert!(run.lines(30.0)[0].ends_with(" 640 images/s"), "{:?}", run.lines(30.0));
    // 200 steps took 30 s, so 800 take about 120: a bit more, since the pause is fresher than the first steps.
    let left = |now, texts: [&str; 3]| {
        let seen = run.view(now).left;
        assert!(texts.iter().any(|text| seen.ends_with(text)), "{seen}");
    };
    left(30.0, [" 2:00 left", " 2:01 left", " 2:02 left"]);
    left(34.0, [" 1:56 left", " 1:57 left", " 1:58 left"]);
}

#[test]
fn a_resumed_run_judges_by_its_own_steps() {
    let mut run = Run(Board::new());
    run.take(500.0, Event::RunStarted(RunStarted { steps: 1020, resumed_from: Some(1000), ..Default::default() }));
    assert!(run.view(500.0).left.ends_with(" 98%  -"), "{}", run.view(500.0).left);
    (1001..=1010).for_each(|step| run.step(step, 1, 500.1 + (step - 1001) as f64 / 10.0));
    assert!(run.view(501.0).left.ends_with("0:01 left"), "{}", run.view(501.0).left);
}

#[test]
fn waiting_evaluating_and_silence_are_told() {
    let mut run = Run::new();
    run.take(11.0, Event::Waiting { what: "1 of 2 workers".into(), deadline_seconds: 60.0 });
    assert_eq!(run.lines(21.0)[0], "waiting for 1 of 2 workers, for 0:50 at most");
    run.take(22.0, Event::EvaluationProgress { step: 100, split: Split::Test, done: 2500, images: 10_000 });
    assert_eq!(run.lines(22.0)[0], "evaluating test 2,500/10,000");
    assert!(run.lines(22.0)[1].contains("silent 0:12"), "{:?}", run.lines(22.0));
    run.step(101, 1, 22.5);
    assert!(run.lines(22.5)[0].starts_with("step"));
}

#[test]
fn a_lost_worker_is_shown_for_a_while_and_a_new_one_takes_its_line() {
    let mut run = Run::new();
    run.take(10.0, Event::WorkerLeft { worker: 0, reason: "connection reset".into(), reissued: 2 });
    run.stats(0, 101);
    assert_eq!(run.lines(10.0)[1], "  worker-0  lost: connection reset");
    run.join(0);
    assert_eq!(run.lines(10.0)[1], "  worker-0  idle        cpu-v4");
    run.take(11.0, Event::WorkerLeft { worker: 0, reason: "killed".into(), reissued: 0 });
    run.step(101, 1, 80.0);
    assert!(run.lines(80.0)[1].starts_with("  worker-1"));
}

#[test]
fn an_epoch_begins_anew_and_the_end_is_whole() {
    let mut run = Run::new();
    run.step(101, 2, 10.1);
    assert!(run.lines(10.1)[0].contains("loss 1.0000  accuracy 25.00%"));
    run.step(999, 20, 99.9);
    assert!(run.view(99.9).left.contains(" 99%"));
    run.step(1000, 20, 100.0);
    assert!(run.view(100.0).left.contains("100%  0:00 left"), "{:?}", run.view(100.0));
}

#[test]
fn nothing_known_yet() {
    let view = Board::new().view(0.0, 8, &plain());
    assert_eq!((view.step, view.steps, view.left.as_str()), (0, 1, "  0%  -"));
    assert_eq!(view.epoch, "epoch -");
    assert_eq!(view.lines, ["starting"]);
}
