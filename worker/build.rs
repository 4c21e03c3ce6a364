//! With `--features cuda`: our GPU kernels, to PTX by nvcc. Without it there is nothing to do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Turing, the oldest that CUDA 13 knows: one text for all GPUs since, which the driver compiles for the one that it finds. Our kernels
/// wait for memory, so newer instructions would gain nothing.
const ARCHITECTURE: &str = "compute_75";

const KERNELS: &str = "src/cuda/kernels";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={KERNELS}");
    for name in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(problem) = compile() {
        println!("cargo::error={problem}");
    }
}

fn compile() -> Result<(), String> {
    let nvcc = find("nvcc", &["bin"]).ok_or(
        "--features cuda needs nvcc of CUDA 12 or 13: install the CUDA toolkit and set CUDA_HOME to it (or put its bin on PATH); \
         without the feature Lockstep computes on the CPU and needs none of it",
    )?;
    if find("libcudnn.so", &["lib", "lib64", "lib/x86_64-linux-gnu", "targets/x86_64-linux/lib"]).is_none() {
        println!(
            "cargo::warning=no libcudnn.so beside the CUDA toolkit: if the linker misses it, install cuDNN 9 for development, or \
             add its folder to LIBRARY_PATH"
        );
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let here = env::current_dir().map_err(|error| error.to_string())?.join(KERNELS);
    let mut names: Vec<PathBuf> =
        fs::read_dir(&here).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let sources = names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "cu"));
    let all: String = sources.map(|path| format!("#include \"{}\"\n", path.display())).collect();
    let source = out.join("kernels.cu");
    fs::write(&source, all).map_err(|error| error.to_string())?;
    let mut command = Command::new(&nvcc);
    // no fused multiply-add: what is rounded is what is written, here as on the CPU
    command
        .args(["--ptx", "-O3", "-fmad=false", "-arch", ARCHITECTURE, "-o"])
        .arg(out.join("kernels.ptx"))
        .arg(&source);
    let output = command.output().map_err(|error| format!("{}: {error}", nvcc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // an error is one line for cargo
    Err(format!("{} can't compile {KERNELS}: {}", nvcc.display(), text.lines().take(8).collect::<Vec<_>>().join(" | ")))
}

/// A file of the CUDA toolkit, in one of `folders` of it; a program is looked for in PATH too.
fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let roots = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let usual = ["/usr/local/cuda", "/opt/cuda", "/usr"].into_iter().map(PathBuf::from);
    let of_roots =
        roots.chain(usual).flat_map(|root| folders.iter().map(move |folder| root.join(folder)).collect::<Vec<_>>());
    let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    of_roots.chain(path).map(|folder: PathBuf| folder.join(name)).find(|file| Path::is_file(file))
}
