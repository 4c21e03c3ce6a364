//! Values on the command line that are more than a word: each refused with the rule.

use std::time::Duration;

use crate::exit::{Failure, Result};

/// A fault at (worker, step).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub worker: usize,
    pub step: u64,
}

pub(super) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let rule = "a number of seconds, 0 or more";
    let value: f64 = text.parse().map_err(|_| rule.to_owned())?;
    Duration::try_from_secs_f64(value).map_err(|_| rule.to_owned())
}

/// A timeout shorter than two heartbeats would call every worker dead.
pub(super) fn timeout(text: &str) -> std::result::Result<Duration, String> {
    let value = seconds(text)?;
    if value < Duration::from_secs(1) {
        Err("it must be at least 1 second: workers call twice a second".to_owned())
    } else {
        Ok(value)
    }
}

/// Worker processes on one machine: each holds the images, so that a slip of the finger must not fill the memory.
pub(super) fn processes(text: &str) -> std::result::Result<usize, String> {
    const MOST: usize = 64;
    match count(text)? {
        n if n > MOST => {
            Err(format!("{n} processes on one machine are more than {MOST}; use more machines, or --threads"))
        }
        n => Ok(n),
    }
}

pub(super) fn count(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it is 0, but there must be at least 1".to_owned()),
        Ok(n) if n <= 4096 || text.len() < 8 => Ok(n),
        Ok(n) => Err(format!("{n} is more than this program can mean")),
        Err(_) => Err("it must be a whole number, 1 or more".to_owned()),
    }
}

pub(super) fn kill(text: &str) -> std::result::Result<Kill, String> {
    let parsed = text
        .split_once('@')
        .and_then(|(worker, step)| Some(Kill { worker: worker.parse().ok()?, step: step.parse().ok()? }));
    parsed.ok_or_else(|| "write it as worker@step, for instance 1@20; workers count from 0".to_owned())
}

/// `--test-reducer`, checked.
pub fn reducer(text: Option<&str>) -> Result<lockstep_coordinator::Reducer> {
    match text {
        None | Some("" | "tree") => Ok(lockstep_coordinator::Reducer::Tree),
        Some("arrival") => Ok(lockstep_coordinator::Reducer::Arrival),
        Some(other) => Err(Failure::mistake(format!("LOCKSTEP_TEST_REDUCER is {other:?}; it may be tree or arrival"))),
    }
}
