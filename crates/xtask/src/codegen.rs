//! Rust and descriptors from proto/, without `protoc`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use protox::Compiler;
use tempfile::TempDir;

use crate::derived;

/// Fields that carry what a record is made of: a batch's bytes are shared, not copied, on their way
/// between database and network. Everything else is `Vec<u8>`.
const SHARED_BYTES: [&str; 6] = [
    ".bruri.replication.v1.Entry.envelope",
    ".bruri.replication.v1.Entry.payload",
    ".bruri.replication.v1.Batch.bodies",
    ".bruri.replication.v1.HaveNewerResponse.bodies",
    ".bruri.replication.v1.GetStatesResponse.chunk",
    ".bruri.replication.v1.StatesChunk.bodies",
];

/// What the program shows to gRPC reflection.
const DESCRIPTORS: &str = "descriptors.binpb";

/// Fails where the committed files are not what proto/ gives.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let fresh = fresh(root)?;
    derived::check(fresh.path(), &generated(root), "run `cargo xtask codegen`")
}

/// Writes the generated files.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let fresh = fresh(root)?;
    derived::replace(fresh.path(), &generated(root))
}

/// Where the descriptors of the last release lie.
#[must_use]
pub fn released(root: &Path) -> PathBuf {
    root.join("proto/released.binpb")
}

/// Writes the descriptors of a release.
pub fn write_released(root: &Path) -> anyhow::Result<()> {
    let path = released(root);
    let descriptors = compile(root, Comments::Dropped)?.encode_file_descriptor_set();
    fs::write(&path, descriptors).with_context(|| format!("write {}", path.display()))
}

/// Whether descriptors carry the comments of their source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comments {
    /// For documentation and for the check that there is some.
    Kept,
    /// Where only names and numbers count.
    Dropped,
}

/// Compiles every file below proto/bruri, with the files of others that they import.
pub fn compile(root: &Path, comments: Comments) -> anyhow::Result<Compiler> {
    let proto = root.join("proto");
    let mut files = Vec::new();
    collect(&proto.join("bruri"), &mut files)?;
    files.sort();
    let mut compiler = Compiler::new([&proto]).context("open proto/")?;
    compiler.include_imports(true).include_source_info(comments == Comments::Kept);
    compiler.open_files(files).context("compile proto/")?;
    Ok(compiler)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("read directory {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

fn generated(root: &Path) -> PathBuf {
    root.join("crates/wire/src/generated")
}

fn fresh(root: &Path) -> anyhow::Result<TempDir> {
    let directory = TempDir::new().context("create a temporary directory")?;
    let mut builder = tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .emit_rerun_if_changed(false)
        .out_dir(directory.path());
    for field in SHARED_BYTES {
        builder = builder.bytes(field);
    }
    let sources = compile(root, Comments::Kept)?.file_descriptor_set();
    builder.compile_fds(sources).context("generate code")?;
    let descriptors = compile(root, Comments::Dropped)?.encode_file_descriptor_set();
    fs::write(directory.path().join(DESCRIPTORS), descriptors).context("write descriptors")?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_proto_makes_the_generated_files_stale() {
        let root = workspace_with("message A { bytes b = 1; }");
        write(root.path()).unwrap();
        check(root.path()).unwrap();

        write_proto(root.path(), "message A { bytes c = 1; }");
        let refused = check(root.path()).unwrap_err().to_string();
        assert!(refused.contains("bruri.a.v1.rs differs"), "{refused}");
        assert!(refused.ends_with("run `cargo xtask codegen`"), "{refused}");
    }

    #[test]
    fn a_release_is_the_descriptors_as_they_stand() {
        let root = workspace_with("message A { bytes b = 1; }");
        write(root.path()).unwrap();
        write_released(root.path()).unwrap();
        let shown = fs::read(generated(root.path()).join(DESCRIPTORS)).unwrap();
        assert_eq!(fs::read(released(root.path())).unwrap(), shown);
    }

    fn workspace_with(message: &str) -> TempDir {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("proto/bruri/a/v1")).unwrap();
        write_proto(root.path(), message);
        root
    }

    fn write_proto(root: &Path, message: &str) {
        let text = format!("syntax = \"proto3\";\npackage bruri.a.v1;\n{message}\n");
        fs::write(root.join("proto/bruri/a/v1/a.proto"), text).unwrap();
    }
}
