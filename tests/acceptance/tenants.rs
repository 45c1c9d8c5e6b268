//! Two users of one daemon, made by the command line: neither sees or touches what is the other's (contract §2, D2).

use coffre_tests::daemon::Daemon;
use coffre_tests::s3::{Client, Request};
use coffre_tests::sign::Key;

fn user(daemon: &Daemon, name: &str) -> Client {
    let user = daemon.json(&["user", "create", name]);
    let id = user["id"].as_str().unwrap().to_owned();
    let key = daemon.json(&["key", "create", "--user", &id]);
    let field = |name: &str| key[name].as_str().unwrap().to_owned();
    let key =
        Key { id: field("access_key_id"), secret: field("secret_access_key"), region: "us-east-1".into() };
    Client::new(daemon.s3_address(), Some(key))
}

#[test]
fn one_user_cannot_reach_what_is_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let (ann, bob) = (user(&daemon, "ann"), user(&daemon, "bob"));
    ann.put("/ann-bucket", b"").unwrap().expect(200);
    ann.put("/ann-bucket/secret", b"ann's").unwrap().expect(200);
    bob.put("/bob-bucket", b"").unwrap().expect(200);

    let refused =
        |client: &Client, method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]| {
            let answer = client.send(&Request { method, path, query, headers, body: b"" }).unwrap();
            assert!(matches!(answer.status, 403 | 404), "{method} {path} {query:?}: {}", answer.status);
            assert!(!answer.text().contains("ann's"));
        };
    for client in [&bob, &daemon.anonymous()] {
        refused(client, "GET", "/ann-bucket/secret", &[], &[]);
        refused(client, "HEAD", "/ann-bucket/secret", &[], &[]);
        refused(client, "PUT", "/ann-bucket/secret", &[], &[]);
        refused(client, "PUT", "/ann-bucket/new", &[], &[]);
        refused(client, "DELETE", "/ann-bucket/secret", &[], &[]);
        refused(client, "GET", "/ann-bucket", &[("list-type", "2")], &[]);
        refused(client, "GET", "/ann-bucket", &[("versions", "")], &[]);
        refused(client, "GET", "/ann-bucket", &[("uploads", "")], &[]);
        refused(client, "GET", "/ann-bucket", &[("policy", "")], &[]);
        refused(client, "POST", "/ann-bucket/secret", &[("uploads", "")], &[]);
        refused(client, "DELETE", "/ann-bucket", &[], &[]);
        refused(client, "PUT", "/files/client/7/devis/x.pdf", &[], &[]);
    }
    // Bob may write his own bucket, but not read ann's through a copy.
    refused(&bob, "PUT", "/bob-bucket/stolen", &[], &[("x-amz-copy-source", "/ann-bucket/secret")]);
    let upload = bob.post("/bob-bucket/parts", &[("uploads", "")], b"").unwrap().expect(200);
    let upload = upload.element("UploadId").unwrap();
    let query = [("partNumber", "1"), ("uploadId", upload.as_str())];
    refused(&bob, "PUT", "/bob-bucket/parts", &query, &[("x-amz-copy-source", "/ann-bucket/secret")]);
    // An upload of bob's is not ann's to see, by id or by key.
    refused(&ann, "GET", "/bob-bucket/parts", &[("uploadId", &upload)], &[]);
    refused(&ann, "DELETE", "/bob-bucket/parts", &[("uploadId", &upload)], &[]);
    refused(&ann, "GET", "/ann-bucket/parts", &[("uploadId", &upload)], &[]);
    // Each lists only its own buckets.
    let listed = bob.get("/").unwrap().expect(200).text();
    assert!(listed.contains("bob-bucket") && !listed.contains("ann-bucket"), "{listed}");
    assert_eq!(ann.get("/ann-bucket/secret").unwrap().expect(200).body, b"ann's");
    daemon.check_finds_nothing();

    // A key that is revoked, and a user that is disabled, are refused from then on.
    let keys = daemon.json(&["key", "list"]);
    let id = ann.key.as_ref().unwrap().id.as_str();
    assert!(keys.to_string().contains(id), "{keys}");
    daemon.json(&["key", "revoke", id]);
    ann.get("/ann-bucket/secret").unwrap().expect(403);
    daemon.json(&["user", "disable", "bob"]);
    bob.get("/bob-bucket").unwrap().expect(403);
    daemon.stop_cleanly();
}
