//! What of a released set of descriptors is gone or changed in another one. Additions are not.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

use crate::descriptors::ours;

/// Everything that was released and is gone or changed, in words.
pub(crate) fn breaks(released: &FileDescriptorSet, fresh: &FileDescriptorSet) -> Vec<String> {
    let released = Names::of(released);
    let fresh = Names::of(fresh);
    let mut found = Vec::new();
    pair(&released.messages, &fresh.messages, "message", &mut found, message_breaks);
    pair(&released.enums, &fresh.enums, "enum", &mut found, enum_breaks);
    pair(&released.services, &fresh.services, "service", &mut found, |_, _, _| Vec::new());
    pair(&released.rpcs, &fresh.rpcs, "rpc", &mut found, rpc_breaks);
    found
}

/// All that has a name that others rely on, by its full name.
#[derive(Default)]
struct Names<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
    rpcs: BTreeMap<String, &'a MethodDescriptorProto>,
}

impl<'a> Names<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut names = Self::default();
        for file in ours(set) {
            let package = file.package();
            file.message_type.iter().for_each(|message| names.add_message(package, message));
            names.add_enums(package, &file.enum_type);
            for service in &file.service {
                let scope = format!("{package}.{}", service.name());
                let rpcs = service.method.iter();
                names.rpcs.extend(rpcs.map(|rpc| (format!("{scope}.{}", rpc.name()), rpc)));
                names.services.insert(scope, service);
            }
        }
        names
    }

    fn add_message(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested));
        self.add_enums(&name, &message.enum_type);
        self.messages.insert(name, message);
    }

    fn add_enums(&mut self, scope: &str, enums: &'a [EnumDescriptorProto]) {
        let named = enums.iter().map(|found| (format!("{scope}.{}", found.name()), found));
        self.enums.extend(named);
    }
}

/// Compares what both have under one name, and finds what only the released has.
fn pair<T: Copy>(
    released: &BTreeMap<String, T>,
    fresh: &BTreeMap<String, T>,
    what: &str,
    found: &mut Vec<String>,
    compare: impl Fn(&str, T, T) -> Vec<String>,
) {
    for (name, old) in released {
        match fresh.get(name) {
            Some(new) => found.extend(compare(name, *old, *new)),
            None => found.push(format!("{what} {name} is gone")),
        }
    }
}

fn message_breaks(name: &str, old: &DescriptorProto, new: &DescriptorProto) -> Vec<String> {
    let mut found = Vec::new();
    for field in &old.field {
        let number = field.number();
        match new.field.iter().find(|candidate| candidate.number() == number) {
            None => found.push(format!("field {name} = {number} is gone")),
            Some(now) if facts(old, field) != facts(new, now) => {
                found.push(format!("field {name} = {number} changed"));
            }
            Some(_) => {}
        }
    }
    let reserved = |number| {
        let covers = |range: &prost_types::descriptor_proto::ReservedRange| {
            range.start() <= number && number < range.end()
        };
        old.reserved_range.iter().any(covers)
    };
    let reused = new.field.iter().filter(|field| reserved(field.number()));
    found.extend(reused.map(|field| format!("field {name} = {} was reserved", field.number())));
    found
}

/// All of a field that the bytes, their JSON or a program's source depend on.
#[derive(Debug, PartialEq)]
struct FieldFacts<'a> {
    name: &'a str,
    json_name: &'a str,
    kind: i32,
    kind_name: &'a str,
    label: i32,
    optional: bool,
    packed: Option<bool>,
    oneof: Option<&'a str>,
}

fn facts<'a>(message: &'a DescriptorProto, field: &'a FieldDescriptorProto) -> FieldFacts<'a> {
    let oneof = field.oneof_index.and_then(|index| usize::try_from(index).ok());
    let oneof = oneof.and_then(|index| message.oneof_decl.get(index));
    FieldFacts {
        name: field.name(),
        json_name: field.json_name(),
        kind: field.r#type.unwrap_or_default(),
        kind_name: field.type_name(),
        label: field.label.unwrap_or_default(),
        optional: field.proto3_optional(),
        packed: field.options.as_ref().and_then(|options| options.packed),
        oneof: oneof.map(prost_types::OneofDescriptorProto::name),
    }
}

fn enum_breaks(name: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto) -> Vec<String> {
    let kept = |number: i32, value: &str| {
        new.value.iter().any(|now| now.number() == number && now.name() == value)
    };
    old.value
        .iter()
        .filter(|value| !kept(value.number(), value.name()))
        .map(|value| format!("value {name}.{} = {} is gone", value.name(), value.number()))
        .collect()
}

fn rpc_breaks(name: &str, old: &MethodDescriptorProto, new: &MethodDescriptorProto) -> Vec<String> {
    let facts = |rpc: &MethodDescriptorProto| {
        let types = (rpc.input_type().to_owned(), rpc.output_type().to_owned());
        (types, rpc.client_streaming(), rpc.server_streaming())
    };
    if facts(old) == facts(new) { Vec::new() } else { vec![format!("rpc {name} changed")] }
}
