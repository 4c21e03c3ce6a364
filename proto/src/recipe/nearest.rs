//! "Did you mean": the known name nearest to one that is not.

/// What other tools call our keys; no distance between letters finds these.
const ELSEWHERE: [(&str, &str); 8] = [
    ("learning_rate", "optimizer.lr"),
    ("learning_rate_schedule", "schedule.name"),
    ("lr_scheduler", "schedule.name"),
    ("scheduler", "schedule.name"),
    ("gradient_clip_val", "optimizer.clip_grad_norm"),
    ("max_grad_norm", "optimizer.clip_grad_norm"),
    ("max_norm", "optimizer.clip_grad_norm"),
    ("max_epochs", "epochs"),
];

/// Below this likeness a suggestion would be a guess: 0.7 takes `learn` for `learning_rate`, but not `foo` for anything.
const LIKE: f64 = 0.7;

/// No known word has a third of it. The likeness of a long text costs time, and nobody meant a word by it.
pub(super) const LONGEST: usize = 100;

/// The key in `known` (dotted) that `key` most likely means: its last part counts too, so that a bare `momentum` finds
/// `optimizer.momentum`. None if nothing is near.
pub(super) fn key<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = tail(key);
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == last) {
        return Some(ours);
    }
    best(key, known, |candidate| {
        // a little less for a match of tails alone: the section that was typed should win a tie
        strsim::jaro_winkler(key, candidate).max(0.99 * strsim::jaro_winkler(last, tail(candidate)))
    })
}

/// The word in `known` that looks most like `word`; none if nothing is near.
pub(super) fn word<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    best(word, known, |candidate| strsim::jaro_winkler(&word.to_lowercase(), candidate))
}

fn tail(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn best<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, score: impl Fn(&str) -> f64) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let scored = known.into_iter().map(|name| (score(name), name)).filter(|(score, _)| *score > LIKE);
    // the first of equals
    scored.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn typing_errors_bare_names_and_other_tools_names_are_found() {
        let known = ["batch_size", "optimizer", "optimizer.lr", "optimizer.momentum", "schedule.name", "epochs"];
        for (typed, meant) in [
            ("batchsize", "batch_size"),
            ("momentum", "optimizer.momentum"),
            ("optimizer.momentun", "optimizer.momentum"),
            ("optim", "optimizer"),
            ("optimizer.learning_rate", "optimizer.lr"),
        ] {
            assert_eq!(super::key(typed, known), Some(meant), "{typed}");
        }
        assert_eq!(super::key("xyzzy", known), None);
        assert_eq!((super::word("foo", ["sgd", "adam"]), super::word("ADAM", ["sgd", "adam"])), (None, Some("adam")));
    }
}
