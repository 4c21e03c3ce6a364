use super::*;

fn record(event: Event) -> Record {
    Record { time: 1_700_000_001.25, seconds: 1.25, event }
}

fn epoch(epoch: u32, step: u64, train_loss: f64) -> Record {
    record(Event::EpochEnded { epoch, step, train_loss, train_accuracy: 0.25, images_per_s: 5000.0, lr: 0.01 })
}

fn started(data: &str, steps: u64) -> Record {
    let classes = ["cat", "dog"].map(String::from).to_vec();
    record(Event::RunStarted(RunStarted { data: data.into(), steps, classes, ..Default::default() }))
}

/// A short run: 3 epochs of 100 steps and a test after each.
fn run(folder: &Path) {
    let mut board = TensorBoard::create(folder, 1_700_000_000.5).expect("create");
    board.record(&started("cifar10 (binary)", 300)).expect("record");
    for step in 1..=300 {
        let images_per_s = 100.0 * step as f64;
        let stats =
            Event::WorkerStats { worker: 1, step, shards: 2, images: 32, compute_seconds: 0.5, wait_seconds: 0.0 };
        board.record(&record(stats)).expect("record");
        let step_event = Event::Step {
            step,
            epoch: 1,
            lr: 0.125,
            loss: 2.0,
            accuracy: 0.5,
            images: 64,
            images_per_s,
            gradient_norm: 3.5,
        };
        board.record(&record(step_event)).expect("record");
        if step % 100 == 0 {
            let number = (step / 100) as u32;
            board.record(&epoch(number, step, f64::from(number) + 0.5)).expect("record");
            let tested = Event::Evaluated {
                step,
                epoch: number,
                split: Split::Test,
                dead_outputs: None,
                loss: 2.5,
                accuracy: 0.75,
                per_class: vec![Some(0.0), None],
                confusion: Vec::new(),
                images: 10,
                best: false,
            };
            board.record(&record(tested)).expect("record");
        }
    }
    board.finish().expect("finish");
}

/// Every (tag, step, value) of the folder's files.
fn scalars(folder: &Path) -> Vec<(String, i64, f32)> {
    let mut found = Vec::new();
    for path in event_files(folder).expect("list") {
        let bytes = fs::read(path).expect("read");
        let mut file = &bytes[..];
        loop {
            match tfrecord::read(&mut file).expect("read") {
                Next::End => break,
                Next::Broken(what) => panic!("{what}"),
                Next::Payload(payload) => {
                    let event = TbEvent::decode(&payload[..]).expect("decode");
                    for value in event.summary.unwrap_or_default().value {
                        found.push((value.tag, event.step, value.simple_value.expect("a scalar")));
                    }
                }
            }
        }
    }
    found
}

fn curve(scalars: &[(String, i64, f32)], tag: &str) -> Vec<(i64, f32)> {
    scalars.iter().filter(|scalar| scalar.0 == tag).map(|scalar| (scalar.1, scalar.2)).collect()
}

/// The bytes that TensorBoard 2.21 itself writes:
///
/// ```python
/// from tensorboard.compat.proto.event_pb2 import Event
/// from tensorboard.compat.proto.summary_pb2 import Summary
/// from tensorboard.summary.writer.record_writer import RecordWriter
/// w = RecordWriter(f)
/// w.write(Event(wall_time=1700000000.5, file_version="brain.Event:2").SerializeToString())
/// w.write(Event(wall_time=1700000001.25, step=780, summary=Summary(value=[
///     Summary.Value(tag="Loss_CIFAR10/train", simple_value=2.03125)])).SerializeToString())
/// print(f.getvalue().hex())
/// ```
const GOLDEN: &str = "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110\
    290000000000000037ff5f000900005040fc54d941108c062a1b0a190a124c6f73735f434946415231302f747261696e1500000240b761114a";

#[test]
fn writes_the_bytes_of_tensorboard() {
    let folder = tempfile::tempdir().expect("folder");
    let mut board = TensorBoard::create(folder.path(), 1_700_000_000.5).expect("create");
    board.write(1_700_000_001.25, 780, vec![value("Loss_CIFAR10/train", 2.03125)]);
    board.finish().expect("finish");
    let path = event_files(folder.path()).expect("list").remove(0);
    let hex: String = fs::read(path).expect("read").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

#[test]
fn a_run_gives_its_curves() {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path());
    let all = scalars(folder.path());
    for [loss, accuracy, test_loss, test_accuracy] in [
        ["Loss_CIFAR10/train", "Accuracy_CIFAR10/train", "Loss_CIFAR10/test", "Accuracy_CIFAR10/test"],
        ["Loss train", "Train Accuracy", "Loss test", "Test Accuracy"],
    ] {
        assert_eq!(curve(&all, loss), [(1, 1.5), (2, 2.5), (3, 3.5)]);
        assert_eq!(curve(&all, accuracy), [(1, 0.25), (2, 0.25), (3, 0.25)]);
        assert_eq!(curve(&all, test_loss), [(1, 2.5), (2, 2.5), (3, 2.5)]);
        assert_eq!(curve(&all, test_accuracy), [(1, 0.75), (2, 0.75), (3, 0.75)]);
    }
    assert_eq!(curve(&all, "Class accuracy test/cat"), [(1, 0.0), (2, 0.0), (3, 0.0)], "0 is a value");
    assert_eq!(curve(&all, "Class accuracy test/dog"), [], "no images, no accuracy");
    let throughput = curve(&all, "Throughput/images_per_s");
    assert_eq!(throughput.len(), 300);
    assert!((throughput[99].1 - 10_000.0).abs() < 0.01);
    assert_eq!(curve(&all, "Worker compute seconds per step/worker 1")[0], (1, 0.5));
}

#[test]
fn train_accuracy_is_that_of_the_pass_over_the_training_images_where_there_is_one() {
    let folder = tempfile::tempdir().expect("folder");
    let mut board = TensorBoard::create(folder.path(), 0.0).expect("create");
    let start = RunStarted { data: "cifar10".into(), steps: 100, train_images: true, ..Default::default() };
    board.record(&record(Event::RunStarted(start))).expect("record");
    board.record(&epoch(1, 100, 1.5)).expect("record");
    let again = Event::Evaluated {
        step: 100,
        epoch: 1,
        split: Split::TrainEval,
        dead_outputs: None,
        loss: 1.25,
        accuracy: 0.5,
        per_class: Vec::new(),
        confusion: Vec::new(),
        images: 10,
        best: false,
    };
    board.record(&record(again)).expect("record");
    board.finish().expect("finish");
    let all = scalars(folder.path());
    assert_eq!(curve(&all, "Train Accuracy"), [(1, 0.5)]);
    assert_eq!(curve(&all, "Accuracy_CIFAR10/train"), [(1, 0.25)]);
    assert_eq!(curve(&all, "Loss train"), [(1, 1.5)]);
}

#[test]
fn a_long_run_has_a_bounded_number_of_points_with_the_true_mean() {
    let folder = tempfile::tempdir().expect("folder");
    let mut board = TensorBoard::create(folder.path(), 0.0).expect("create");
    board.record(&started("builtin", 4 * POINTS)).expect("record");
    for step in 1..=8 {
        // 64 images in 1 s, then 64 in 3 s, …: 2 of each in 8 s.
        let images_per_s = if step % 2 == 0 { 64.0 } else { 64.0 / 3.0 };
        let event = Event::Step {
            step,
            epoch: 1,
            lr: 0.1,
            loss: 2.0,
            accuracy: 0.5,
            images: 64,
            images_per_s,
            gradient_norm: 1.0,
        };
        board.record(&record(event)).expect("record");
    }
    board.finish().expect("finish");
    let throughput = curve(&scalars(folder.path()), "Throughput/images_per_s");
    assert_eq!(throughput, [(4, 32.0), (8, 32.0)]);
}

#[test]
fn a_step_of_unknown_duration_spoils_no_point() {
    let folder = tempfile::tempdir().expect("folder");
    let mut board = TensorBoard::create(folder.path(), 0.0).expect("create");
    board.record(&started("builtin", 2 * POINTS)).expect("record");
    for (step, images_per_s) in [(1, f64::NAN), (2, f64::NAN), (3, f64::NAN), (4, 32.0)] {
        let (epoch, lr, loss, accuracy, images, gradient_norm) = (1, 0.1, 2.0, 0.5, 64, 1.0);
        let event = Event::Step { step, epoch, lr, loss, accuracy, images, images_per_s, gradient_norm };
        board.record(&record(event)).expect("record");
    }
    board.finish().expect("finish");
    let all = scalars(folder.path());
    assert_eq!(curve(&all, "Throughput/images_per_s"), [(4, 32.0)]);
    assert_eq!(curve(&all, "Gradient norm"), [(2, 1.0), (4, 1.0)]);
}

#[test]
fn only_cifar_10_is_called_so() {
    for data in ["cifar10", "CIFAR-10 (parquet)", "cifar10: 50,000 images"] {
        assert_eq!(set_name(data), "CIFAR10");
    }
    assert_eq!(set_name("builtin (procedural)"), "builtin");
    assert_eq!(set_name("cifar10-fake"), "cifar10-fake");
    assert_eq!(set_name("/data/flowers"), "data");
}

#[test]
fn cut_back_keeps_the_past_and_the_next_session_continues() {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path());
    let before = scalars(folder.path());
    let done = cut_back(folder.path(), 200).expect("cut");
    assert_eq!(done.cut, 202, "100 steps, 100 worker's, an epoch, a test");
    let after = scalars(folder.path());
    // two epochs of three, and 200 steps of 300
    let epochs = |tag: &str| tag.contains("Loss") || tag.contains("ccuracy");
    let kept = |scalar: &(String, i64, f32)| scalar.1 <= if epochs(&scalar.0) { 2 } else { 200 };
    assert_eq!(after, before.into_iter().filter(kept).collect::<Vec<_>>());
    assert_eq!(cut_back(folder.path(), 200).expect("again"), CutBack { cut: 0, ..done });

    let mut board = TensorBoard::create(folder.path(), 1_700_000_000.6).expect("the second of the first file");
    board.record(&started("cifar10", 300)).expect("record");
    board.record(&epoch(3, 300, 9.0)).expect("record");
    board.finish().expect("finish");
    assert_eq!(curve(&scalars(folder.path()), "Loss_CIFAR10/train"), [(1, 1.5), (2, 2.5), (3, 9.0)]);
}

#[test]
fn cut_back_removes_a_torn_end() {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path());
    let path = event_files(folder.path()).expect("list").remove(0);
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[..whole.len() - 5]).expect("tear");
    let done = cut_back(folder.path(), 300).expect("cut");
    assert_eq!((done.cut, done.unreadable), (0, 1));
    let kept = fs::read(&path).expect("read");
    assert!(whole.starts_with(&kept) && kept.len() < whole.len() - 5);
    assert_eq!(cut_back(folder.path(), 300).expect("again"), CutBack { unreadable: 0, ..done });
}

/// TensorBoard itself reads the run, before and after a cut. Runs where `LOCKSTEP_PYTHON` names a Python that has it.
#[test]
fn tensorboard_reads_it() {
    let Some(python) = std::env::var_os("LOCKSTEP_PYTHON") else {
        eprintln!("SKIPPED: set LOCKSTEP_PYTHON to a Python with tensorboard");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/read_events.py");
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path());
    for last in [300, 150] {
        cut_back(folder.path(), last).expect("cut");
        let out = std::process::Command::new(&python).arg(&script).arg(folder.path()).output().expect("python");
        if out.status.code() == Some(77) {
            eprintln!("SKIPPED: {} has no tensorboard", python.to_string_lossy());
            return;
        }
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let read: BTreeMap<String, Vec<(i64, f32)>> = serde_json::from_slice(&out.stdout).expect("JSON");
        let ours = scalars(folder.path());
        assert_eq!(read.values().map(Vec::len).sum::<usize>(), ours.len());
        for (tag, points) in &read {
            assert_eq!(points, &curve(&ours, tag), "{tag}");
        }
        assert_eq!(read["Learning rate"].last(), Some(&(last as i64, 0.125)));
    }
}
