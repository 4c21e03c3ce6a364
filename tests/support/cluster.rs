//! A coordinator and workers of the real executable, started by hand, and what the system says of them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Desk, Done, Running};

/// A coordinator that listens on a port of its own, and everything that it says on standard error.
pub struct Coordinator {
    pub running: Running,
    pub address: String,
    errors: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Coordinator {
    /// Starts one that trains on the desk's images into `out`.
    pub fn start(desk: &Desk, out: &str, args: &[&str]) -> Self {
        let fixed = ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", out];
        Self::watch(desk.start(&[&fixed[..], args].concat()))
    }

    /// Waits until `running` says where to join.
    pub fn watch(mut running: Running) -> Self {
        let mut lines = BufReader::new(running.child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut before = String::new();
        let line = lines.find(|line| {
            before += line;
            before += "\n";
            line.contains("join with")
        });
        let line = line.unwrap_or_else(|| panic!("it never said where to join: {before}"));
        let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
        let errors = Arc::new(Mutex::new(before));
        let theirs = Arc::clone(&errors);
        let reader = std::thread::spawn(move || {
            for line in lines {
                *theirs.lock().expect("no panic") += &(line + "\n");
            }
        });
        Self { running, address, errors, reader }
    }

    /// Waits for the end; standard error is whole.
    pub fn finish(self) -> Done {
        let mut done = self.running.finish();
        self.reader.join().expect("read");
        done.stderr = self.errors.lock().expect("no panic").clone();
        done
    }
}

/// A worker with one thread that joins `address`.
pub fn worker(desk: &Desk, address: &str, args: &[&str]) -> Running {
    desk.start(&[&["worker", "--join", address, "--threads", "1"], args].concat())
}

/// VmHWM of a process in KiB, while it lives.
pub fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// Follows a process's [`peak_memory`] until it ends.
pub fn follow_memory(process: u32) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut peak = 0;
        while let Some(found) = peak_memory(process) {
            peak = found;
            std::thread::sleep(Duration::from_millis(10));
        }
        peak
    })
}
