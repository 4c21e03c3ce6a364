//! Compiles the .proto without protoc: protox parses it, tonic-prost-build writes the code.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["lockstep/v1/lockstep.proto"], ["."])?;
    // The reflection service answers from this file, so that grpcurl needs no .proto.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("lockstep.descriptors"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // protobuf with a checksum
        .codec_path("crate::seal::SealedCodec")
        // `Bytes` shares one buffer among all sessions; `Vec<u8>` would copy the parameters for each.
        .bytes(".lockstep.v1.Parameters.data")
        .bytes(".lockstep.v1.OptimizerState.data")
        .bytes(".lockstep.v1.Gradient.data")
        .bytes(".lockstep.v1.StatePart.data")
        .bytes(".lockstep.v1.RecordsChunk.data")
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=lockstep/v1/lockstep.proto");
    Ok(())
}
