//! proto/ keeps the house rules, and each of them can be broken.

use bruri_xtask::codegen::Comments;
use prost_types::FileDescriptorSet;

use crate::descriptors::{enumeration, file, fresh, service};
use crate::lint::breaches;

const HISTORY: &str = "bruri.history.v1";
const RECORD: &str = "bruri.record.v1";
const REPLICATION: &str = "bruri.replication.v1";

#[test]
fn the_protos_keep_the_house_rules() {
    let found = breaches(&fresh(Comments::Kept));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_package_without_a_version_is_found() {
    let change = |set: &mut FileDescriptorSet| {
        let file = file(set, RECORD);
        file.package = Some("bruri.record".into());
        file.name = Some("bruri/record/record.proto".into());
    };
    assert_found(change, "package bruri.record does not end in a version");
}

#[test]
fn a_package_in_another_folder_is_found() {
    let change = |set: &mut FileDescriptorSet| {
        file(set, RECORD).name = Some("bruri/record/v2/record.proto".into());
    };
    assert_found(change, "package bruri.record.v1 is not in bruri/record/v1");
}

#[test]
fn what_has_no_comment_is_found() {
    for wanted in [
        "message bruri.replication.v1.Batch has no comment",
        "enum bruri.replication.v1.LogKind has no comment",
        "enum bruri.replication.v1.Refusal.Reason has no comment",
        "service bruri.replication.v1.ReplicationService has no comment",
        "rpc bruri.replication.v1.ReplicationService.Subscribe has no comment",
    ] {
        assert_found(|set| file(set, REPLICATION).source_code_info = None, wanted);
    }
}

#[test]
fn a_response_of_another_rpc_is_found() {
    let change = |set: &mut FileDescriptorSet| {
        let rpc = service(set, HISTORY).method.first_mut().unwrap();
        rpc.output_type = Some(".bruri.history.v1.GetVersionResponse".into());
    };
    assert_found(change, "rpc ListFiles must use its own .bruri.history.v1.ListFilesResponse");
}

#[test]
fn an_enum_without_an_unspecified_zero_is_found() {
    let change = |set: &mut FileDescriptorSet| {
        let kinds = enumeration(set, RECORD, "RecordKind");
        kinds.value.first_mut().unwrap().name = Some("RECORD_KIND_NONE".into());
    };
    assert_found(change, "enum bruri.record.v1.RecordKind has no zero value _UNSPECIFIED");
}

#[test]
fn a_service_that_is_not_named_so_is_found() {
    let change = |set: &mut FileDescriptorSet| service(set, HISTORY).name = Some("History".into());
    assert_found(change, "service bruri.history.v1.History is not named …Service");
}

fn assert_found(change: impl FnOnce(&mut FileDescriptorSet), wanted: &str) {
    let mut set = fresh(Comments::Kept);
    assert!(!breaches(&set).iter().any(|breach| breach == wanted), "already there: {wanted}");
    change(&mut set);
    let found = breaches(&set);
    assert!(found.iter().any(|breach| breach == wanted), "not in {found:?}: {wanted}");
}
