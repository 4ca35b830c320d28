//! The house rules of proto/, read from descriptors with their comments.

use std::collections::BTreeSet;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

use crate::descriptors::ours;

// Numbers of fields in descriptor.proto, of which the path of a comment is made.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const MESSAGE_MESSAGES: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;
const SERVICE_RPCS: i32 = 2;

/// Every breach of a house rule, in words.
pub(crate) fn breaches(set: &FileDescriptorSet) -> Vec<String> {
    ours(set).flat_map(|file| Linter::new(file).lint(file)).collect()
}

struct Linter {
    package: String,
    commented: BTreeSet<Vec<i32>>,
    found: Vec<String>,
}

impl Linter {
    fn new(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let commented = locations
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.clone())
            .collect();
        Self { package: file.package().to_owned(), commented, found: Vec::new() }
    }

    fn lint(mut self, file: &FileDescriptorProto) -> Vec<String> {
        self.package_is_versioned_and_in_its_folder(file);
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(message, &self.package.clone(), &[FILE_MESSAGES, index]);
        }
        for (index, found) in (0..).zip(&file.enum_type) {
            self.enumeration(found, &self.package.clone(), &[FILE_ENUMS, index]);
        }
        for (index, service) in (0..).zip(&file.service) {
            self.service(service, &[FILE_SERVICES, index]);
        }
        self.requests_and_responses_serve_one_rpc_each(file);
        self.found
    }

    fn package_is_versioned_and_in_its_folder(&mut self, file: &FileDescriptorProto) {
        let version = self.package.rsplit('.').next().unwrap_or_default();
        let number = version.strip_prefix('v').unwrap_or_default();
        if number.parse::<u32>().is_err() {
            self.found.push(format!("package {} does not end in a version", self.package));
        }
        let folder = self.package.replace('.', "/");
        if file.name().rsplit_once('/').is_none_or(|(directory, _)| directory != folder) {
            self.found.push(format!("package {} is not in {folder}", self.package));
        }
    }

    fn message(&mut self, message: &DescriptorProto, scope: &str, path: &[i32]) {
        let name = format!("{scope}.{}", message.name());
        self.commented("message", &name, path);
        for (index, nested) in (0..).zip(&message.nested_type) {
            // The entry of a map is nobody's words.
            if !nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
                self.message(nested, &name, &below(path, MESSAGE_MESSAGES, index));
            }
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(nested, &name, &below(path, MESSAGE_ENUMS, index));
        }
    }

    fn enumeration(&mut self, found: &EnumDescriptorProto, scope: &str, path: &[i32]) {
        let name = format!("{scope}.{}", found.name());
        self.commented("enum", &name, path);
        let zero = found.value.iter().find(|value| value.number() == 0);
        if !zero.is_some_and(|value| value.name().ends_with("_UNSPECIFIED")) {
            self.found.push(format!("enum {name} has no zero value _UNSPECIFIED"));
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, path: &[i32]) {
        let name = format!("{}.{}", self.package, service.name());
        self.commented("service", &name, path);
        if !name.ends_with("Service") {
            self.found.push(format!("service {name} is not named …Service"));
        }
        for (index, rpc) in (0..).zip(&service.method) {
            let path = below(path, SERVICE_RPCS, index);
            self.commented("rpc", &format!("{name}.{}", rpc.name()), &path);
        }
    }

    fn requests_and_responses_serve_one_rpc_each(&mut self, file: &FileDescriptorProto) {
        let mut seen = BTreeSet::new();
        for rpc in file.service.iter().flat_map(|service| &service.method) {
            let name = format!(".{}.{}", self.package, rpc.name());
            for (used, wanted) in [
                (rpc.input_type(), format!("{name}Request")),
                (rpc.output_type(), format!("{name}Response")),
            ] {
                if used != wanted || !seen.insert(used.to_owned()) {
                    self.found.push(format!("rpc {} must use its own {wanted}", rpc.name()));
                }
            }
        }
    }

    fn commented(&mut self, what: &str, name: &str, path: &[i32]) {
        if !self.commented.contains(path) {
            self.found.push(format!("{what} {name} has no comment"));
        }
    }
}

fn below(path: &[i32], field: i32, index: i32) -> Vec<i32> {
    [path, &[field, index]].concat()
}
