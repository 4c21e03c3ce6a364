//! One file a command.

pub mod bench;
pub mod coordinator;
pub mod data;
pub mod eval;
pub mod model;
pub mod predict;
pub mod recipes;
pub mod remote;
pub mod report;
pub mod reproduce;
pub mod train;
pub mod verify;
pub mod worker;

/// Version and digest of what decides bits (see build.rs): results hold within one build.
pub const BUILD: &str = env!("LOCKSTEP_BUILD");

/// What this machine calls itself.
pub fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
