//! Values on the command line that are more than a word: each refused with the rule.

use std::num::IntErrorKind;
use std::time::Duration;

use lockstep_proto::recipe::EvaluationMode;

use crate::exit::{Failure, Result};

/// A fault at (worker, step).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub worker: usize,
    pub step: u64,
}

pub(super) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    // a deadline is a point in time, and there is no clock for one that far away
    const MOST: f64 = 1e9;
    match text.parse() {
        Ok(value) if value > MOST => Err(format!("it must be at most {MOST:e} seconds, which is 31 years")),
        Ok(value) => Duration::try_from_secs_f64(value).map_err(|_| "it must be 0 seconds or more".to_owned()),
        Err(_) => Err("it must be a number of seconds, 0 or more".to_owned()),
    }
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

/// How layers behave in an evaluation.
pub(super) fn mode(text: &str) -> std::result::Result<EvaluationMode, String> {
    let known = [EvaluationMode::Eval, EvaluationMode::Train];
    known
        .into_iter()
        .find(|mode| mode.word() == text)
        .ok_or_else(|| format!("it is one of {}", EvaluationMode::WORDS.join(", ")))
}

/// A part of a whole.
pub(super) fn share(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it must be a number from 0 to 1, as 0.01".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("it must be from 0 to 1, as 0.01".to_owned()) }
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

/// Compute threads of one worker.
pub(super) fn threads(text: &str) -> std::result::Result<usize, String> {
    const MOST: usize = 1024;
    match count(text)? {
        n if n > MOST => Err(format!("{n} threads are more than {MOST}; more threads than cores are never faster")),
        n => Ok(n),
    }
}

/// Values of a benchmark of the wire: memory for a few copies of them in each process.
pub(super) fn floats(text: &str) -> std::result::Result<usize, String> {
    const MOST: usize = 1 << 28;
    match count(text)? {
        n if n > MOST => Err(format!("{n} values are more than {MOST}, which is 1 GiB each way")),
        n => Ok(n),
    }
}

/// Steps of a benchmark: the first 10 are not timed, and a handful of others would say little.
pub(super) fn timed_steps(text: &str) -> std::result::Result<usize, String> {
    const LEAST: usize = 20;
    match count(text)? {
        n if n < LEAST => {
            Err(format!("the first 10 steps are not timed, so that {n} measure nothing; give at least {LEAST}"))
        }
        n => Ok(n),
    }
}

pub(super) fn count(text: &str) -> std::result::Result<usize, String> {
    // the largest that a message on the wire holds
    const MOST: usize = u32::MAX as usize;
    match text.parse() {
        Ok(0) => Err("it is 0, but there must be at least 1".to_owned()),
        Ok(n) if n <= MOST => Ok(n),
        Err(error) if *error.kind() != IntErrorKind::PosOverflow => {
            Err("it must be a whole number, 1 or more".to_owned())
        }
        Ok(_) | Err(_) => Err(format!("it must be at most {MOST}")),
    }
}

/// `host:port`, as both sides need it; an IPv6 address in brackets.
pub(super) fn address(text: &str) -> std::result::Result<String, String> {
    const RULE: &str = "give host:port, for instance 127.0.0.1:7077 or [::1]:7077";
    let (host, port) =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or(format!("it has no port; {RULE}"))?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!("an IPv6 address needs brackets; {RULE}"));
    }
    match port.parse::<u16>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("its port {port:?} is no number from 0 to 65535; {RULE}")),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As long as a terminal lets one type, and everything that a number or an address could be taken for.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<u64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:e}")),
            "[-+0-9.eEinfaN_]{0,24}",
            "[a-z0-9.:@\\[\\]%-]{0,24}",
            "\\PC{0,24}",
        ]
    }

    proptest! {
        #[test]
        fn fuzz_values(text in texts()) {
            if let Ok(value) = seconds(&text) {
                // every deadline is now plus one of these
                prop_assert!(std::time::Instant::now().checked_add(value * 2).is_some(), "{value:?}");
            }
            prop_assert!(timeout(&text).map_or(true, |value| value >= Duration::from_secs(1)));
            prop_assert!(processes(&text).map_or(true, |n| (1..=64).contains(&n)));
            prop_assert!(threads(&text).map_or(true, |n| (1..=1024).contains(&n)));
            prop_assert!(floats(&text).map_or(true, |n| (1..=1 << 28).contains(&n)));
            prop_assert!(timed_steps(&text).map_or(true, |n| n >= 20));
            prop_assert!(address(&text).map_or(true, |text| text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())));
            if let Ok(Kill { worker, step }) = kill(&text) {
                prop_assert_eq!(kill(&format!("{worker}@{step}")), Ok(Kill { worker, step }));
            }
            let _ = reducer(Some(&text));
        }
    }

    #[test]
    fn addresses() {
        for good in ["localhost:7077", "10.0.0.1:1", "[::1]:7077", "a.b.c:0"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for (bad, word) in [
            ("nonsense", "no port"),
            (":7077", "no port"),
            ("a:99999", "99999"),
            ("a:", "65535"),
            ("::1:7077", "brackets"),
        ] {
            let error = address(bad).expect_err("refused");
            assert!(error.contains(word) && error.contains("host:port"), "{bad}: {error}");
        }
    }

    #[test]
    fn numbers_that_can_not_be_meant() {
        assert_eq!((count("4096"), threads("1024"), timed_steps("20")), (Ok(4096), Ok(1024), Ok(20)));
        let refused = |result: std::result::Result<usize, String>, word: &str| {
            let error = result.expect_err("refused");
            assert!(error.contains(word), "no {word:?} in: {error}");
        };
        refused(count("99999999999999999999"), "at most 4294967295");
        refused(count("4294967296"), "at most 4294967295");
        refused(count("-1"), "whole number");
        refused(threads("100000"), "1024");
        refused(timed_steps("19"), "at least 20");
        assert!(
            seconds("1e30").is_err() && seconds("-1").is_err() && seconds("NaN").is_err() && seconds("0.5").is_ok()
        );
    }
}
