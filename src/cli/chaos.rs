//! `--chaos`: which faults a run is to survive, how often, and for how long.

use std::time::Duration;

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL: it is gone at once.
    Kill,
    /// SIGSTOP, and SIGCONT after a while: it hears and says nothing in between.
    Freeze,
    /// SIGTERM: it finishes what it has in hand and goes.
    Leave,
}

/// A kind of fault, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub fault: Fault,
    /// Mean time from one to the next.
    pub every: Duration,
    /// How long a frozen worker stays frozen, if that was said.
    pub lasts: Option<Duration>,
}

/// Everything that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chaos {
    /// At least one, each kind at most once.
    pub rules: Vec<Rule>,
    /// Another schedule than the recipe's seed gives.
    pub seed: Option<u64>,
}

/// A worker needs about as long to start: more faults than that and the run would never get on.
const LEAST: Duration = Duration::from_millis(100);

const FORM: &str = "write kill=TIME, freeze=TIME or freeze=TIME/LENGTH, leave=TIME, seed=N, with commas between them";

pub(super) fn chaos(text: &str) -> Result<Chaos, String> {
    let mut chaos = Chaos { rules: Vec::new(), seed: None };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no value; {FORM}"))?;
        let (key, value) = (key.trim(), value.trim());
        let fault = match key {
            "kill" => Fault::Kill,
            "freeze" => Fault::Freeze,
            "leave" => Fault::Leave,
            "seed" => {
                let seed = value.parse().map_err(|_| format!("seed={value}: it must be a whole number, 0 or more"))?;
                if chaos.seed.replace(seed).is_some() {
                    return Err("seed stands there twice".to_owned());
                }
                continue;
            }
            _ => return Err(format!("there is no fault {key:?}; {FORM}")),
        };
        if chaos.rules.iter().any(|rule| rule.fault == fault) {
            return Err(format!("{key} stands there twice; give one time for it"));
        }
        let (every, lasts) = match value.split_once('/') {
            Some((every, lasts)) if fault == Fault::Freeze => (every, Some(time(key, lasts)?)),
            Some(_) => return Err(format!("{key}={value}: only freeze has a length")),
            None => (value, None),
        };
        chaos.rules.push(Rule { fault, every: time(key, every)?, lasts });
    }
    if chaos.rules.is_empty() {
        return Err(format!("it names no fault; {FORM}"));
    }
    Ok(chaos)
}

/// A number and its unit.
fn time(key: &str, text: &str) -> Result<Duration, String> {
    let rule =
        |problem: &str| format!("{key}={text}: {problem}; write a number and ms, s, m or h, for instance 500ms or 2m");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Err(rule("it has no unit")),
        other => return Err(rule(&format!("there is no unit {other:?}"))),
    };
    let number: f64 = digits.parse().map_err(|_| rule("that is no time"))?;
    let time = super::values::seconds(&(number * unit).to_string()).map_err(|problem| rule(&problem))?;
    if time < LEAST {
        return Err(rule(&format!("it must be at least {} ms", LEAST.as_millis())));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_time_of_its_own() {
        let chaos = chaos("kill=30s,freeze=1.5m/500ms, leave=2h,seed=7").expect("fine");
        let rule = |fault, every, lasts| Rule {
            fault,
            every: Duration::from_secs(every),
            lasts: Option::map(lasts, Duration::from_millis),
        };
        let rules = [rule(Fault::Kill, 30, None), rule(Fault::Freeze, 90, Some(500)), rule(Fault::Leave, 7200, None)];
        assert_eq!((chaos.rules, chaos.seed), (rules.to_vec(), Some(7)));
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_the_form() {
        for (text, words) in [
            ("", ["has no value", "kill=TIME"]),
            ("kill", ["\"kill\"", "kill=TIME"]),
            ("kil=3s", ["\"kil\"", "freeze=TIME"]),
            ("seed=1", ["names no fault", "kill=TIME"]),
            ("kill=3s,seed=x", ["seed=x", "whole number"]),
            ("kill=3s,kill=4s", ["kill", "twice"]),
            ("kill=3s,seed=1,seed=1", ["seed", "twice"]),
            ("kill=30", ["kill=30", "no unit"]),
            ("kill=3d", ["\"d\"", "ms, s, m or h"]),
            ("kill=s", ["kill=s", "no time"]),
            ("kill=-1s", ["kill=-1s", "0 seconds or more"]),
            ("kill=99ms", ["kill=99ms", "at least 100 ms"]),
            ("kill=1e30h", ["kill=1e30h", "at most"]),
            ("kill=3s/4s", ["kill=3s/4s", "only freeze"]),
            ("freeze=3s/0s", ["freeze=0s", "at least 100 ms"]),
        ] {
            let error = chaos(text).expect_err(text);
            for word in words {
                assert!(error.contains(word), "{text:?}: no {word:?} in: {error}");
            }
        }
    }
}
