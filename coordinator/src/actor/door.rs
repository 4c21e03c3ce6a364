//! Who may take part: checked before a worker costs anything.

use lockstep_proto::wire::{Hello, PROTOCOL, Refused};

/// What a worker must match.
pub(super) struct Rules<'a> {
    pub(super) build: &'a str,
    /// The run's device class, if anybody's shard was accepted or anybody is here.
    pub(super) pinned: Option<&'a str>,
    pub(super) allow_foreign: bool,
    /// The run promises one result.
    pub(super) deterministic: bool,
    /// Gradients are summed by NCCL, and these are here.
    pub(super) nccl: Option<Vec<Rank<'a>>>,
}

/// A worker of a run whose gradients are summed by NCCL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank<'a> {
    pub(super) name: &'a str,
    pub(super) gpu: &'a str,
    pub(super) nccl: u32,
}

/// Why `hello` is refused, if it is.
pub(super) fn check(hello: &Hello, rules: &Rules<'_>) -> Result<(), Refused> {
    let Rules { build, pinned, allow_foreign, deterministic, ref nccl } = *rules;
    let refuse = |reason: String| Err(Refused { reason, mistake: true });
    if hello.protocol != PROTOCOL {
        return refuse(format!(
            "the worker speaks protocol {}, the coordinator {PROTOCOL}; start both from the same build of lockstep",
            hello.protocol
        ));
    }
    if let Some(ranks) = nccl {
        check_rank(hello, ranks)?;
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
    if let Some(pinned) = pinned.filter(|pinned| deterministic && *pinned != hello.device_class) {
        return refuse(format!(
            "the worker's device class is {}, but this run is pinned to {pinned}: other kernels give other bits; {}, \
             or begin a new run with --fast, which promises no bits and takes any worker",
            hello.device_class,
            way_in(&hello.device_class, pinned),
        ));
    }
    Ok(())
}

/// Whether `hello` can be a rank beside `ranks`. NCCL would find out, too, but only when the ring is formed, which stops everybody.
fn check_rank(hello: &Hello, ranks: &[Rank<'_>]) -> Result<(), Refused> {
    const INSTEAD: &str = "or start the coordinator with --plane auto";
    let refuse = |mistake: bool, reason: String| Err(Refused { reason, mistake });
    if hello.nccl == 0 || hello.gpu.is_empty() {
        let (class, build) = (&hello.device_class, "a build with --features nccl");
        let way = match class.starts_with("cuda/") {
            true => format!("has a GPU and no NCCL; start {build}"),
            false => format!("computes on {class}; start {build} with --device cuda"),
        };
        return refuse(
            true,
            format!("gradients are summed among GPUs here (by NCCL), and the worker {way}, {INSTEAD}"),
        );
    }
    if let Some(rank) = ranks.iter().find(|rank| rank.gpu == hello.gpu) {
        // of the same name it is most likely the one that we have not noticed to be gone
        let mistake = rank.name != hello.name;
        return refuse(
            mistake,
            format!(
                "the worker computes on the GPU {}, as {} does, and NCCL has one rank a GPU; start it with another --device \
                 cuda:N, {INSTEAD}",
                hello.gpu, rank.name
            ),
        );
    }
    if let Some(rank) = ranks.iter().find(|rank| rank.nccl != hello.nccl) {
        return refuse(
            true,
            format!(
                "the worker has NCCL {}, and {} has {}: ranks need the same; install one of them everywhere, {INSTEAD}",
                hello.nccl, rank.name, rank.nccl
            ),
        );
    }
    Ok(())
}

/// How a worker gets from its class to another: kernel sets can be chosen, GPUs and their libraries can't.
fn way_in(class: &str, pinned: &str) -> String {
    let parts = |class: &str| class.split('/').map(str::to_owned).collect::<Vec<_>>();
    match (&parts(class)[..], &parts(pinned)[..]) {
        ([ours, _, maths], [theirs, kernels, same]) if ours == theirs && maths == same => {
            format!("start the worker with --kernels {kernels} if its processor can")
        }
        (_, [device, ..]) if device == "cuda" => {
            "start the worker with --device cuda on a machine with that GPU and those libraries".to_owned()
        }
        (_, [device, ..]) if !class.starts_with(&format!("{device}/")) => {
            format!("start the worker with --device {device}")
        }
        _ => "start the worker from the same build".to_owned(),
    }
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
            super::check(hello, &Rules { build: "0.1.0", pinned, allow_foreign, deterministic: true, nccl: None })
        }
        let no = |hello: Hello, pinned: Option<&str>| check(&hello, pinned, false).expect_err("refused").reason;
        assert!(check(&hello(), None, false).is_ok() && check(&hello(), Some("cpu/v4/1"), false).is_ok());
        let text = no(Hello { protocol: 99, ..hello() }, None);
        assert!(text.contains("99") && text.contains("same build"), "{text}");
        let text = no(Hello { build: "0.0.9".to_owned(), ..hello() }, None);
        assert!(text.contains("0.0.9") && text.contains("0.1.0"), "{text}");
        let text = no(hello(), Some("cpu/v3/1"));
        assert!(text.contains("cpu/v4/1") && text.contains("--kernels v3"), "{text}");
        let text = no(hello(), Some("cuda/H100/cublas13/cudnn9/tf32/kernels1"));
        assert!(text.contains("--device cuda") && text.contains("--fast"), "{text}");
        let gpu = Hello { device_class: "cuda/H100/cublas13/cudnn9/tf32/kernels1".to_owned(), ..hello() };
        assert!(no(gpu.clone(), Some("cpu/v4/1")).contains("--device cpu"));
        let fast =
            Rules { build: "0.1.0", pinned: Some("cpu/v4/1"), allow_foreign: false, deterministic: false, nccl: None };
        assert!(super::check(&gpu, &fast).is_ok(), "without the promise classes may differ");
        let text = no(Hello { foreign: true, ..hello() }, None);
        assert!(text.contains("--allow-foreign-workers"), "{text}");
        assert!(check(&Hello { foreign: true, build: String::new(), ..hello() }, None, true).is_ok());
    }

    #[test]
    fn a_rank_needs_nccl_and_a_gpu_of_its_own() {
        let here = Rank { name: "first", gpu: "aa", nccl: 22703 };
        let check = |hello: Hello| {
            let (build, nccl) = ("0.1.0", Some(vec![here]));
            super::check(&hello, &Rules { build, pinned: None, allow_foreign: true, deterministic: false, nccl })
        };
        let rank = |gpu: &str, nccl| Hello { gpu: gpu.to_owned(), nccl, name: "second".to_owned(), ..hello() };
        let no = |hello: Hello| check(hello).expect_err("refused");
        assert!(check(rank("bb", 22703)).is_ok());
        let cpu = no(rank("", 0)).reason;
        assert!(cpu.contains("cpu/v4/1") && cpu.contains("--device cuda") && cpu.contains("--features nccl"), "{cpu}");
        let gpu = no(Hello { device_class: "cuda/H100".to_owned(), ..rank("", 0) }).reason;
        assert!(gpu.contains("no NCCL") && gpu.contains("with --plane auto"), "{gpu}");
        assert!(check(Hello { foreign: true, ..rank("", 0) }).is_err(), "whoever it is");
        let twice = no(rank("aa", 22703));
        assert!(twice.mistake && twice.reason.contains("as first does"), "{}", twice.reason);
        let again = no(Hello { name: "first".to_owned(), ..rank("aa", 22703) });
        assert!(!again.mistake, "it may come again once it is noticed to be gone");
        let old = no(rank("bb", 21903)).reason;
        assert!(old.contains("21903") && old.contains("22703"), "{old}");
    }
}
