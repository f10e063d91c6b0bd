//! Compiles the .proto files with protox, so that no `protoc` needs to be installed.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["types.proto", "agent.proto", "operator.proto"].map(|name| format!("landfall/v1/{name}"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
