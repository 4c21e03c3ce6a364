//! Settings that only some optimizers or schedules read.
//!
//! A setting that would be ignored is refused when somebody asked for it, and silently back at its default when somebody
//! changed the optimizer or schedule on the command line over a recipe that had set it.

/// (key, the key that chooses, the choices that read it).
pub(super) const OWNED: [(&str, &str, &[&str]); 10] = [
    ("optimizer.momentum", "optimizer.name", &["sgd"]),
    ("optimizer.dampening", "optimizer.name", &["sgd"]),
    ("optimizer.nesterov", "optimizer.name", &["sgd"]),
    ("optimizer.betas", "optimizer.name", &["adam", "adamw"]),
    ("optimizer.eps", "optimizer.name", &["adam", "adamw"]),
    ("schedule.step_size", "schedule.name", &["step"]),
    ("schedule.milestones", "schedule.name", &["multi-step"]),
    ("schedule.gamma", "schedule.name", &["step", "multi-step"]),
    ("schedule.t_max", "schedule.name", &["cosine"]),
    ("schedule.eta_min", "schedule.name", &["cosine"]),
];

/// Why `key` is refused beside `chooser = chosen`.
pub(super) fn refusal(chooser: &str, chosen: &str, owners: &[&str]) -> String {
    let owners = owners.join(" or ");
    format!("{chooser} is {chosen:?}, which has no such setting; leave it out, or choose {chooser} = {owners}")
}
