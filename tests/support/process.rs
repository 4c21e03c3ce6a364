//! Processes seen from outside: who is whose child, who lives, and signals by number.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

/// Ends with the test, however that ends; a stopped process too.
pub struct Ends(pub Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ends {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is there until it is waited for");
    }
}

pub fn children(parent: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output().expect("ps runs");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(|id| id.parse().expect("a number")).collect()
}

/// `ps`'s letter: R and S live, T is stopped, Z is dead and not yet waited for; none: it is not there.
pub fn state(id: u32) -> Option<char> {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &id.to_string()]).output().expect("ps runs");
    String::from_utf8_lossy(&output.stdout).trim().chars().next()
}

pub fn alive(id: u32) -> bool {
    !matches!(state(id), None | Some('Z'))
}
