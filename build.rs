//! Gives the program its build: the version, and a digest of everything that decides bits. Results hold within one build.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The crates whose code decides bits, and the versions of what they stand on.
const SOURCES: [&str; 5] = ["proto/src", "proto/lockstep", "coordinator/src", "worker/src", "Cargo.lock"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // equal within one compiler, which the digest holds, too: another one may change bits
    let mut digest = DefaultHasher::new();
    if let Some(compiler) = env::var_os("RUSTC") {
        Command::new(compiler).arg("-V").output()?.stdout.hash(&mut digest);
    }
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        feed(&root, Path::new(source), &mut digest)?;
    }
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=LOCKSTEP_BUILD={version}+{:016x}", digest.finish());
    Ok(())
}

/// Files by name, so that the order in which a folder lists them does not matter; tests decide no bits.
fn feed(root: &Path, path: &Path, digest: &mut DefaultHasher) -> io::Result<()> {
    let whole = root.join(path);
    if path.file_stem().is_some_and(|name| name == "tests") {
        return Ok(());
    }
    if whole.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&whole)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        return names.iter().try_for_each(|name| feed(root, &path.join(name), digest));
    }
    path.to_string_lossy().hash(digest);
    fs::read(&whole)?.hash(digest);
    Ok(())
}
