//! Disks of a few megabytes, in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// A file system of its own, gone when dropped.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// An empty one with so many KiB at `path`; none, with a word why, where there are no rights.
    pub fn mount(path: &Path, kib: u32) -> Option<Self> {
        fs::create_dir(path).expect("folder");
        let size = format!("size={kib}k");
        match run("mount", &["-t", "tmpfs", "-o", &size, "lockstep-test"], path) {
            Ok(()) => Some(Self { path: path.to_owned() }),
            Err(problem) => {
                skip(&format!("a full disk needs the right to mount one: {problem}"));
                None
            }
        }
    }

    /// Has so many KiB from now on.
    pub fn resize(&self, kib: u32) {
        run("mount", &["-o", &format!("remount,size={kib}k")], &self.path).expect("resized");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // lazily: somebody may still have a file open
        let _ = run("umount", &["-l"], &self.path);
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(path).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
