//! Who may take part: checked before a worker costs anything.

use lockstep_proto::wire::{Hello, PROTOCOL, Refused};

/// What a worker must match.
pub(super) struct Rules<'a> {
    pub(super) build: &'a str,
    /// The run's device class, if anybody's shard was accepted or anybody is here.
    pub(super) pinned: Option<&'a str>,
    pub(super) allow_foreign: bool,
}

/// Why `hello` is refused, if it is.
pub(super) fn check(hello: &Hello, rules: &Rules<'_>) -> Result<(), Refused> {
    let Rules { build, pinned, allow_foreign } = *rules;
    let refuse = |reason: String| Err(Refused { reason, mistake: true });
    if hello.protocol != PROTOCOL {
        return refuse(format!(
            "the worker speaks protocol {}, the coordinator {PROTOCOL}; start both from the same build of lockstep",
            hello.protocol
        ));
    }
    if hello.foreign {
        if allow_foreign {
            return Ok(());
        }
        return refuse(
            "the worker is not this program; start the coordinator with --allow-foreign-workers to give up the promise \
             of one result and let it in"
                .to_owned(),
        );
    }
    if hello.build != build {
        return refuse(format!(
            "the worker is build {}, the coordinator {build}; results hold within one build, so start both from the same",
            hello.build
        ));
    }
    if let Some(pinned) = pinned.filter(|pinned| *pinned != hello.device_class) {
        return refuse(format!(
            "the worker's device class is {}, but this run is pinned to {pinned}: other kernels give other bits; start \
             the worker with --kernels {} if its processor can, or begin a new run with --kernels portable everywhere",
            hello.device_class,
            pinned.split('/').nth(1).unwrap_or("portable"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            build: "0.1.0".to_owned(),
            device_class: "cpu/v4/1".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn each_mismatch_names_both_sides_and_the_way_out() {
        fn check(hello: &Hello, pinned: Option<&str>, allow_foreign: bool) -> Result<(), Refused> {
            super::check(hello, &Rules { build: "0.1.0", pinned, allow_foreign })
        }
        let no = |hello: Hello, pinned: Option<&str>| check(&hello, pinned, false).expect_err("refused").reason;
        assert!(check(&hello(), None, false).is_ok() && check(&hello(), Some("cpu/v4/1"), false).is_ok());
        let text = no(Hello { protocol: 99, ..hello() }, None);
        assert!(text.contains("99") && text.contains("same build"), "{text}");
        let text = no(Hello { build: "0.0.9".to_owned(), ..hello() }, None);
        assert!(text.contains("0.0.9") && text.contains("0.1.0"), "{text}");
        let text = no(hello(), Some("cpu/v3/1"));
        assert!(text.contains("cpu/v4/1") && text.contains("--kernels v3"), "{text}");
        let text = no(Hello { foreign: true, ..hello() }, None);
        assert!(text.contains("--allow-foreign-workers"), "{text}");
        assert!(check(&Hello { foreign: true, build: String::new(), ..hello() }, None, true).is_ok());
    }
}
