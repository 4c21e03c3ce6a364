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

/// The key in `known` (dotted) that `key` most likely means: its last part counts too, so that a bare `momentum` finds
/// `optimizer.momentum`.
pub(super) fn key<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    let last = tail(key);
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == last) {
        return ours;
    }
    best(known, |candidate| {
        // a little less for a match of tails alone: the section that was typed should win a tie
        strsim::jaro_winkler(key, candidate).max(0.99 * strsim::jaro_winkler(last, tail(candidate)))
    })
}

/// The word in `known` that looks most like `word`.
pub(super) fn word<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    best(known, |candidate| strsim::jaro_winkler(&word.to_lowercase(), candidate))
}

fn tail(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn best<'a>(known: impl IntoIterator<Item = &'a str>, score: impl Fn(&str) -> f64) -> &'a str {
    known.into_iter().map(|name| (score(name), name)).fold((-1.0, ""), |a, b| if b.0 > a.0 { b } else { a }).1
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
            assert_eq!(super::key(typed, known), meant, "{typed}");
        }
    }
}
