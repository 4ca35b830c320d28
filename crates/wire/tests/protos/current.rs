//! Generated files are what proto/ gives.

use bruri_wire::DESCRIPTORS;
use bruri_xtask::codegen::{self, Comments};
use bruri_xtask::workspace;
use prost::Message as _;

use crate::descriptors;

#[test]
fn generated_code_is_current() {
    codegen::check(&workspace::root()).unwrap();
}

#[test]
fn reflection_shows_every_package() {
    let shown = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let ours = descriptors::fresh(Comments::Dropped);
    let names = |set: &prost_types::FileDescriptorSet| -> Vec<String> {
        set.file.iter().map(|file| file.name().to_owned()).collect()
    };
    assert_eq!(names(&shown), names(&ours));
}

#[test]
fn every_package_has_its_module() {
    let root = workspace::root().join("crates/wire/src");
    let modules = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    for file in std::fs::read_dir(root.join("generated")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let included = modules.contains(&format!("\"generated/{name}\""));
        assert!(included, "crates/wire/src/lib.rs does not include generated/{name}");
    }
}
