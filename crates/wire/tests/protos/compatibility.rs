//! proto/ changes only by addition since the last release, and the comparison finds what does not.

use bruri_xtask::codegen::{self, Comments};
use bruri_xtask::workspace;
use prost::Message as _;
use prost_types::descriptor_proto::ReservedRange;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::compare::breaks;
use crate::descriptors::{enumeration, field, file, fresh, message, service};

const RECORD: &str = "bruri.record.v1";
const REPLICATION: &str = "bruri.replication.v1";

#[test]
fn nothing_that_was_released_is_gone_or_changed() {
    let path = codegen::released(&workspace::root());
    let bytes = std::fs::read(&path)
        .expect("proto/released.binpb is missing: a release runs `cargo xtask release-protos`");
    let released = FileDescriptorSet::decode(bytes.as_slice()).unwrap();
    let found = breaks(&released, &fresh(Comments::Dropped));
    assert!(found.is_empty(), "since the last release: {}", found.join("\n"));
}

#[test]
fn what_is_added_breaks_nothing() {
    let found = breaks_after(|set| {
        let added =
            FieldDescriptorProto { name: Some("new".into()), number: Some(99), ..field_of_bytes() };
        message(set, RECORD, "Envelope").field.push(added);
        let value = EnumValueDescriptorProto {
            name: Some("RECORD_KIND_NEW".into()),
            number: Some(99),
            options: None,
        };
        enumeration(set, RECORD, "RecordKind").value.push(value);
        let copy = file(set, RECORD).message_type.first().unwrap().clone();
        file(set, RECORD)
            .message_type
            .push(prost_types::DescriptorProto { name: Some("New".into()), ..copy });
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_message_that_is_gone_is_found() {
    let found = breaks_after(|set| {
        file(set, RECORD).message_type.retain(|message| message.name() != "Head");
    });
    assert_eq!(found, ["message bruri.record.v1.Head is gone"]);
}

#[test]
fn a_package_that_is_gone_is_found() {
    let found = breaks_after(|set| set.file.retain(|file| file.package() != "bruri.site.v1"));
    assert!(found.contains(&"service bruri.site.v1.SiteService is gone".to_owned()), "{found:?}");
    assert!(found.contains(&"enum bruri.site.v1.Peer.State is gone".to_owned()), "{found:?}");
}

#[test]
fn a_field_that_is_gone_is_found() {
    let found = breaks_after(|set| {
        message(set, RECORD, "Envelope").field.retain(|field| field.name() != "generation");
    });
    assert_eq!(found, ["field bruri.record.v1.Envelope = 3 is gone"]);
}

#[test]
fn a_field_with_another_number_is_found() {
    let found = changed_field(|field| field.number = Some(99));
    assert_eq!(found, ["field bruri.record.v1.Version = 3 is gone"]);
}

#[test]
fn a_field_with_another_name_type_label_or_oneof_is_found() {
    let changes: [fn(&mut FieldDescriptorProto); 6] = [
        |field| field.name = Some("area".into()),
        |field| field.json_name = Some("area".into()),
        |field| field.set_type(Type::Bytes),
        |field| field.set_label(Label::Repeated),
        |field| field.proto3_optional = Some(true),
        |field| field.oneof_index = Some(0),
    ];
    for change in changes {
        assert_eq!(changed_field(change), ["field bruri.record.v1.Version = 3 changed"]);
    }
}

#[test]
fn a_field_of_another_message_type_is_found() {
    let found = breaks_after(|set| {
        field(message(set, RECORD, "Head"), "stamp").type_name =
            Some(".bruri.record.v1.Dot".into());
    });
    assert_eq!(found, ["field bruri.record.v1.Head = 2 changed"]);
}

#[test]
fn a_reserved_number_that_is_used_again_is_found() {
    let mut released = fresh(Comments::Dropped);
    let range = ReservedRange { start: Some(40), end: Some(42) };
    message(&mut released, RECORD, "Envelope").reserved_range.push(range);
    let mut now = released.clone();
    let reused = FieldDescriptorProto { number: Some(41), ..field_of_bytes() };
    message(&mut now, RECORD, "Envelope").field.push(reused);
    assert_eq!(breaks(&released, &now), ["field bruri.record.v1.Envelope = 41 was reserved"]);
}

fn deletion(values: &mut [EnumValueDescriptorProto]) -> &mut EnumValueDescriptorProto {
    values.iter_mut().find(|value| value.number() == 2).unwrap()
}

#[test]
fn an_enum_value_that_is_gone_renamed_or_renumbered_is_found() {
    let changes: [fn(&mut Vec<EnumValueDescriptorProto>); 3] = [
        |values| values.retain(|value| value.number() != 2),
        |values| deletion(values).name = Some("RECORD_KIND_GONE".into()),
        |values| deletion(values).number = Some(1000),
    ];
    for change in changes {
        let found = breaks_after(|set| change(&mut enumeration(set, RECORD, "RecordKind").value));
        let wanted = "value bruri.record.v1.RecordKind.RECORD_KIND_DELETION = 2 is gone";
        assert_eq!(found, [wanted]);
    }
}

#[test]
fn an_enum_that_is_gone_is_found() {
    let found = breaks_after(|set| file(set, REPLICATION).enum_type.clear());
    assert_eq!(found, ["enum bruri.replication.v1.LogKind is gone"]);
}

#[test]
fn an_rpc_that_is_gone_is_found() {
    let found = breaks_after(|set| service(set, REPLICATION).method.clear());
    let gone = |rpc| format!("rpc bruri.replication.v1.ReplicationService.{rpc} is gone");
    let all = [
        "GetBodies",
        "GetChains",
        "GetDigest",
        "GetFileDigests",
        "GetRecords",
        "GetStates",
        "HaveNewer",
        "Subscribe",
    ];
    assert_eq!(found, all.map(gone));
}

#[test]
fn an_rpc_with_other_messages_or_streams_is_found() {
    let changes: [fn(&mut prost_types::MethodDescriptorProto); 4] = [
        |rpc| rpc.input_type = Some(".bruri.replication.v1.Hello".into()),
        |rpc| rpc.output_type = Some(".bruri.replication.v1.Hello".into()),
        |rpc| rpc.client_streaming = Some(false),
        |rpc| rpc.server_streaming = Some(false),
    ];
    for change in changes {
        let found = breaks_after(|set| {
            change(service(set, REPLICATION).method.first_mut().unwrap());
        });
        assert_eq!(found, ["rpc bruri.replication.v1.ReplicationService.Subscribe changed"]);
    }
}

fn breaks_after(change: impl FnOnce(&mut FileDescriptorSet)) -> Vec<String> {
    let released = fresh(Comments::Dropped);
    let mut now = released.clone();
    change(&mut now);
    breaks(&released, &now)
}

fn changed_field(change: impl FnOnce(&mut FieldDescriptorProto)) -> Vec<String> {
    breaks_after(|set| change(field(message(set, RECORD, "Version"), "realm")))
}

fn field_of_bytes() -> FieldDescriptorProto {
    let mut field = FieldDescriptorProto { name: Some("bytes".into()), ..Default::default() };
    field.set_type(Type::Bytes);
    field.set_label(Label::Optional);
    field
}
