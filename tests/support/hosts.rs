//! Hosts of their own on one machine: network namespaces, each with a cable to a switch that a test can pull.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::skip;

/// Hosts 0, 1, … with the addresses 10.77.0.1, 10.77.0.2, …; gone when dropped.
pub struct Hosts {
    name: String,
    count: usize,
}

/// Tells the namespaces of one test from those of others in this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Hosts {
    /// So many hosts; none, with a word why, where there are no rights or no `ip`.
    pub fn new(count: usize) -> Option<Self> {
        let name = format!("lockstep-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // from here on, whatever fails, what was made is taken away
        let hosts = Self { name, count };
        match hosts.lay_cables() {
            Ok(()) => Some(hosts),
            Err(problem) => {
                skip(&format!("network namespaces need root and the program ip (iproute2): {problem}"));
                None
            }
        }
    }

    fn lay_cables(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for host in 0..self.count {
            let (name, port, address) = (self.host(host), port(host), format!("{}/24", self.address(host)));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "add", "eth", "type", "veth", "peer", "name", &port, "netns", &switch])?;
            ip(&["-n", &name, "address", "add", &address, "dev", "eth"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "link", "set", "eth", "up"])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"])?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn host(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    pub fn address(&self, host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// What starts a program on `host`.
    pub fn on(&self, host: usize) -> [String; 4] {
        ["ip".to_owned(), "netns".to_owned(), "exec".to_owned(), self.host(host)]
    }

    /// Pulls a host's cable at the switch, or puts it back.
    pub fn plug(&self, host: usize, plugged: bool) {
        let way = if plugged { "up" } else { "down" };
        ip(&["-n", &self.switch(), "link", "set", &port(host), way]).expect("its port");
    }

    /// Lets no more than `megabits` a second through to and from every host; none, with a word why, without `tc`.
    pub fn slow_down(&self, megabits: u32) -> Option<()> {
        let rate = format!("{megabits}mbit");
        for host in 0..self.count {
            for (name, device) in [(self.switch(), port(host)), (self.host(host), "eth".to_owned())] {
                let shape =
                    ["qdisc", "add", "dev", &device, "root", "tbf", "rate", &rate, "burst", "64kb", "latency", "400ms"];
                let run = Command::new("tc").args(["-n", &name]).args(shape).output();
                if let Err(problem) = outcome("tc", run) {
                    skip(&format!("slow links need tc (iproute2) and the kernel's tbf: {problem}"));
                    return None;
                }
            }
        }
        Some(())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // with a namespace go its links and what they are plugged into
        for host in 0..self.count {
            let _ = ip(&["netns", "delete", &self.host(host)]);
        }
        let _ = ip(&["netns", "delete", &self.switch()]);
    }
}

/// A host's socket at the switch.
fn port(host: usize) -> String {
    format!("port{host}")
}

fn ip(args: &[&str]) -> Result<(), String> {
    outcome("ip", Command::new("ip").args(args).output())
}

fn outcome(program: &str, run: std::io::Result<Output>) -> Result<(), String> {
    let output = run.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
