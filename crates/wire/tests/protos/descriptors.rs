//! Descriptors of proto/ as it stands, and places in them.

use bruri_xtask::codegen::{self, Comments};
use bruri_xtask::workspace;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

/// Compiles proto/.
pub(crate) fn fresh(comments: Comments) -> FileDescriptorSet {
    let compiled = codegen::compile(&workspace::root(), comments).unwrap();
    FileDescriptorSet::decode(compiled.encode_file_descriptor_set().as_slice()).unwrap()
}

/// The files that are ours; the others are what they import.
pub(crate) fn ours(set: &FileDescriptorSet) -> impl Iterator<Item = &FileDescriptorProto> {
    set.file.iter().filter(|file| file.package().starts_with("bruri."))
}

/// The file of a package.
pub(crate) fn file<'a>(
    set: &'a mut FileDescriptorSet,
    package: &str,
) -> &'a mut FileDescriptorProto {
    set.file.iter_mut().find(|file| file.package() == package).unwrap()
}

/// A message that stands alone.
pub(crate) fn message<'a>(
    set: &'a mut FileDescriptorSet,
    package: &str,
    name: &str,
) -> &'a mut DescriptorProto {
    file(set, package).message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

/// A field of a message.
pub(crate) fn field<'a>(
    message: &'a mut DescriptorProto,
    name: &str,
) -> &'a mut FieldDescriptorProto {
    message.field.iter_mut().find(|field| field.name() == name).unwrap()
}

/// An enum that stands alone.
pub(crate) fn enumeration<'a>(
    set: &'a mut FileDescriptorSet,
    package: &str,
    name: &str,
) -> &'a mut EnumDescriptorProto {
    file(set, package).enum_type.iter_mut().find(|found| found.name() == name).unwrap()
}

/// A package's only service.
pub(crate) fn service<'a>(
    set: &'a mut FileDescriptorSet,
    package: &str,
) -> &'a mut ServiceDescriptorProto {
    file(set, package).service.first_mut().unwrap()
}
