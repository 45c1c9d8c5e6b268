//! Every operation of the door, asked by somebody else and by nobody: refused, nothing changed. The list of operations
//! is read from the source, so that a new one without a row here fails.

use crate::support::server::World;
use crate::support::wire::Call;

/// The operations that `ops.rs` serves, by the names of s3s's trait.
fn served() -> Vec<String> {
    let source = include_str!("../../src/ops.rs");
    let table = source.split("operations! {").nth(1).unwrap().split("\n}").next().unwrap();
    table
        .lines()
        .filter_map(|line| line.trim().split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()))
        .collect()
}

const VERSIONING: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const TAGGING: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
const BLOCK: &str = "<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy>\
                     </PublicAccessBlockConfiguration>";
const DELETE: &str = "<Delete><Object><Key>k</Key></Object></Delete>";
const COMPLETE: &str = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>\
                        </CompleteMultipartUpload>";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:*","Resource":["arn:aws:s3:::alpha","arn:aws:s3:::alpha/*"]}]}"#;

/// A request for each operation on alice's bucket. `{upload}` in a query is her upload.
fn rows() -> Vec<(&'static str, Call)> {
    let bucket = |method, query: &str| Call::new(method, "/alpha").query(query, "");
    let object = |method, query: &str| Call::new(method, "/alpha/k").query(query, "");
    let upload = |method| Call::new(method, "/alpha/up").query("uploadId", "{upload}");
    vec![
        ("head_bucket", Call::new("HEAD", "/alpha")),
        ("delete_bucket", Call::new("DELETE", "/alpha")),
        ("get_bucket_location", bucket("GET", "location")),
        ("get_bucket_versioning", bucket("GET", "versioning")),
        ("put_bucket_versioning", bucket("PUT", "versioning").body(VERSIONING)),
        ("get_bucket_tagging", bucket("GET", "tagging")),
        ("put_bucket_tagging", bucket("PUT", "tagging").body(TAGGING)),
        ("delete_bucket_tagging", bucket("DELETE", "tagging")),
        ("get_bucket_policy", bucket("GET", "policy")),
        ("put_bucket_policy", bucket("PUT", "policy").body(POLICY)),
        ("delete_bucket_policy", bucket("DELETE", "policy")),
        ("get_bucket_policy_status", bucket("GET", "policyStatus")),
        ("get_public_access_block", bucket("GET", "publicAccessBlock")),
        ("put_public_access_block", bucket("PUT", "publicAccessBlock").body(BLOCK)),
        ("delete_public_access_block", bucket("DELETE", "publicAccessBlock")),
        ("get_bucket_acl", bucket("GET", "acl")),
        ("put_bucket_acl", bucket("PUT", "acl").header("x-amz-acl", "private")),
        ("get_bucket_ownership_controls", bucket("GET", "ownershipControls")),
        ("get_bucket_request_payment", bucket("GET", "requestPayment")),
        ("get_bucket_logging", bucket("GET", "logging")),
        ("get_bucket_notification_configuration", bucket("GET", "notification")),
        ("get_bucket_accelerate_configuration", bucket("GET", "accelerate")),
        ("get_bucket_cors", bucket("GET", "cors")),
        ("get_bucket_lifecycle_configuration", bucket("GET", "lifecycle")),
        ("get_bucket_website", bucket("GET", "website")),
        ("get_bucket_encryption", bucket("GET", "encryption")),
        ("get_bucket_replication", bucket("GET", "replication")),
        ("get_object_lock_configuration", bucket("GET", "object-lock")),
        ("put_object", Call::new("PUT", "/alpha/new").body("1")),
        ("get_object", Call::new("GET", "/alpha/k")),
        ("head_object", Call::new("HEAD", "/alpha/k")),
        ("copy_object", Call::new("PUT", "/alpha/new").header("x-amz-copy-source", "/alpha/k")),
        ("delete_object", Call::new("DELETE", "/alpha/k")),
        ("delete_objects", bucket("POST", "delete").body(DELETE)),
        ("get_object_attributes", object("GET", "attributes").header("x-amz-object-attributes", "ETag")),
        ("get_object_tagging", object("GET", "tagging")),
        ("put_object_tagging", object("PUT", "tagging").body(TAGGING)),
        ("delete_object_tagging", object("DELETE", "tagging")),
        ("get_object_acl", object("GET", "acl")),
        ("put_object_acl", object("PUT", "acl").header("x-amz-acl", "private")),
        ("list_objects", Call::new("GET", "/alpha")),
        ("list_objects_v2", Call::new("GET", "/alpha").query("list-type", "2")),
        ("list_object_versions", bucket("GET", "versions")),
        ("create_multipart_upload", object("POST", "uploads")),
        ("upload_part", upload("PUT").query("partNumber", "2").body("1")),
        ("upload_part_copy", upload("PUT").query("partNumber", "2").header("x-amz-copy-source", "/alpha/k")),
        ("complete_multipart_upload", upload("POST").body(COMPLETE)),
        ("abort_multipart_upload", upload("DELETE")),
        ("list_parts", upload("GET")),
        ("list_multipart_uploads", bucket("GET", "uploads")),
    ]
}

/// Not about somebody's bucket: `buckets.rs` tests who may make one and what a list of them shows.
const OF_NOBODY: [&str; 2] = ["create_bucket", "list_buckets"];

#[tokio::test]
async fn no_operation_serves_somebody_else() {
    let rows = rows();
    let mut listed: Vec<&str> = rows.iter().map(|(name, _)| *name).chain(OF_NOBODY).collect();
    let mut served = served();
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served, "every operation has a row");

    let world = World::new().await;
    world.ok(Call::new("PUT", "/alpha")).await;
    world.ok(Call::new("PUT", "/alpha/k").body("kept")).await;
    let upload = world.ok(Call::new("POST", "/alpha/up").query("uploads", "")).await.xml("UploadId").unwrap();
    let before = world.stored().await;
    for (operation, mut call) in rows {
        for (_, value) in &mut call.query {
            *value = value.replace("{upload}", &upload);
        }
        let expected = match operation {
            "head_bucket" | "head_object" => "403",
            // tells of each key
            "delete_objects" => "200 AccessDenied",
            _ => "403 AccessDenied",
        };
        let found = world.bob(call.clone()).await;
        assert_eq!(found.verdict(), expected, "{operation} by somebody else: {}", found.text());
        let found = world.anonymous(call).await;
        assert_eq!(found.verdict(), expected, "{operation} by nobody: {}", found.text());
        assert_eq!(world.stored().await, before, "{operation} has changed something");
    }
}
