//! A folder of its own for each test, a small data set in it, and the executable run there.

pub mod cluster;
pub mod hosts;
pub mod mount;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod watched;
pub mod wire;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lockstep_proto::keys::Key;
use serde_json::Value;

/// Long enough for a loaded machine; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(120);

/// A user's machine: nothing in it but a small data set.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// What a command came to.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Fails the test unless the command succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command refused, with all these words.
    pub fn refused(&self, words: &[&str]) {
        let Self { code, stdout, stderr } = self;
        assert_eq!(*code, Some(64), "stdout: {stdout}\nstderr: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in: {stderr}");
        }
    }

    /// The last line of standard output, as JSON.
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Desk {
    /// With 640 training and 100 test images, which a network can learn from: each class has a pattern of its own.
    pub fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let batches = desk.path("images");
        fs::create_dir(&batches).expect("folder");
        for number in 1..=5 {
            fs::write(batches.join(format!("data_batch_{number}.bin")), images(number, 128)).expect("batch");
        }
        fs::write(batches.join("test_batch.bin"), images(6, 100)).expect("batch");
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The executable with nothing of this process's environment that could change what it does.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_under(&[], args)
    }

    /// The same, started by another program: `before` and its arguments.
    pub fn command_under(&self, before: &[&str], args: &[&str]) -> Command {
        let all = [before, &[env!("CARGO_BIN_EXE_lockstep")], args].concat();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).current_dir(self.folder.path()).env("XDG_CACHE_HOME", self.path("cache"));
        for name in [
            "LOCKSTEP_DATA",
            "LOCKSTEP_TEST_REDUCER",
            "RUST_LOG",
            "LOCKSTEP_KERNELS",
            "LOCKSTEP_CUDA_GRAPHS",
            "LOCKSTEP_OWN_STEPS",
        ] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, or kills it and fails the test.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned"), args)
    }

    /// `train` on the small images, with plain output, into the folder `out`.
    pub fn train(&self, out: &str, args: &[&str]) -> Done {
        let mut all = vec!["train", "--data", "images", "--plain", "--out", out];
        all.extend(args);
        self.run(&all)
    }

    /// A named pipe that nobody writes into.
    pub fn pipe(&self, name: &str) {
        let made = Command::new("mkfifo").arg(self.path(name)).status().expect("mkfifo");
        assert!(made.success(), "{name}");
    }

    /// The `summary.json` of the run in `out`.
    pub fn summary(&self, out: &str) -> Value {
        let text = fs::read_to_string(self.path(out).join("summary.json")).expect("summary.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The weights hash of the run in `out`.
    pub fn hash(&self, out: &str) -> String {
        self.summary(out)["weights_hash"].as_str().expect("a hash").to_owned()
    }

    /// All records of the run's `metrics.jsonl` with this `event`.
    pub fn events(&self, out: &str, event: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(out).join("metrics.jsonl")).expect("metrics.jsonl");
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        records.filter(|record| record["event"] == event).collect()
    }

    /// Starts a command that is watched while it runs.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_under(&[], args)
    }

    /// The same, started by another program: `before` and its arguments.
    pub fn start_under(&self, before: &[&str], args: &[&str]) -> Running {
        let mut child =
            self.command_under(before, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Running { child: Kept::new(child), lines, args: args.iter().map(ToString::to_string).collect() }
    }
}

/// A command that runs.
pub struct Running {
    pub child: Kept,
    lines: BufReader<ChildStdout>,
    args: Vec<String>,
}

/// A process that does not outlive the test that started it, however that ends.
pub struct Kept(Option<Child>);

impl Kept {
    pub fn new(child: Child) -> Self {
        Self(Some(child))
    }
}

impl std::ops::Deref for Kept {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("it is taken only to wait for its end")
    }
}

impl std::ops::DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken only to wait for its end")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    /// Reads standard output up to the first line that `wanted` says something of.
    pub fn wait_for<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("readable") > 0 {
            if let Some(found) = wanted(line.trim_end()) {
                return found;
            }
            line.clear();
        }
        panic!("{:?} ended before it said what was waited for", self.args);
    }

    /// Reads standard error up to a line with `word`, and returns that line.
    pub fn wait_for_error(&mut self, word: &str) -> String {
        let stderr = self.child.stderr.take().expect("read once");
        let mut lines = BufReader::new(stderr);
        let mut line = String::new();
        while lines.read_line(&mut line).expect("readable") > 0 {
            if line.contains(word) {
                // somebody must go on reading, or the command would stop at a full pipe
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return line;
            }
            line.clear();
        }
        panic!("{:?} ended before it said {word:?}", self.args);
    }

    /// Waits for the end. What was read already is not in the output.
    pub fn finish(mut self) -> Done {
        self.child.stdout = None;
        let rest = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut self.lines, &mut text);
            text
        });
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut done = finish(self.child.0.take().expect("taken once"), &args);
        done.stdout = rest.join().expect("read");
        done
    }

    /// Sends a signal by name, for instance `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

fn finish(child: Child, args: &[&str]) -> Done {
    let id = child.id();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let what = format!("{args:?}");
    // a hang must fail the test, not the whole suite
    let watchdog = std::thread::spawn(move || {
        let start = Instant::now();
        if told.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            panic!("{what} hung for {:?}", start.elapsed());
        }
    });
    let Output { status, stdout, stderr } = child.wait_with_output().expect("waited");
    drop(tell);
    watchdog.join().expect("no hang");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// `count` records of the binary layout: noise, and three brighter rows whose height and colour the class decides.
fn images(number: u32, count: u32) -> Vec<u8> {
    let key = Key::new(1, "test images", "");
    let mut bytes = Vec::with_capacity(count as usize * 3073);
    for image in 0..count {
        let mut dice = key.stream(number, image, 0);
        let class = image % 10;
        bytes.push(class as u8);
        for channel in 0..3 {
            let lit = |at: u32| (at / 96 == class) && channel != class % 3;
            bytes.extend((0..1024).map(|at| (if lit(at) { 150 } else { 40 } + dice.below(80)) as u8));
        }
    }
    bytes
}

/// Says that something is not tested here, and what it would take.
pub fn skip(why: &str) {
    use std::io::Write as _;
    // past the test harness's capture, so that a skip is seen
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// The real images, if they are at hand: `LOCKSTEP_DATA`, or those beside the project.
pub fn real_images() -> Option<PathBuf> {
    let named = std::env::var_os("LOCKSTEP_DATA").map(PathBuf::from);
    let found = named.filter(|path| path.exists());
    if found.is_none() {
        skip("no real images; set LOCKSTEP_DATA to their folder");
    }
    found
}

/// PyTorch's interpreter, if the tests are to ask it.
pub fn python() -> Option<PathBuf> {
    let found = std::env::var_os("LOCKSTEP_PYTHON").map(PathBuf::from);
    if found.is_none() {
        skip("set LOCKSTEP_PYTHON to an interpreter with torch and safetensors");
    }
    found
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
