//! Quotas at the REST and the S3 door: each in its own words, never passed by those who race for the last megabyte, and
//! given back by deleting (contract §5.3, D9, D22, D33).

use std::thread;

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::{Answer, Client, Request};
use coffre_tests::seed;
use coffre_tests::sign::Key;
use serde_json::json;

use super::{JSON, world};

const MB: usize = 1_000_000;
const DIRECT: &str = "/api/v1/files/upload/direct";
const TUS: &str = "/api/v1/files/upload/multipart";
const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=limit");

fn form(field: &str, more: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "{more}--limit\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f.bin\"\r\n\r\n"
    );
    [head.as_bytes(), bytes, b"\r\n--limit--\r\n"].concat()
}

/// An S3 client of a user.
fn s3_of(daemon: &Daemon, user: &str) -> Client {
    let key = daemon.json(&["key", "create", "--user", user]);
    let field = |name: &str| key[name].as_str().unwrap().to_owned();
    let key =
        Key { id: field("access_key_id"), secret: field("secret_access_key"), region: "us-east-1".into() };
    Client::new(daemon.s3_address(), Some(key))
}

fn used(daemon: &Daemon, whose: &[&str]) -> u64 {
    let shown = daemon.json(&[&["quota", "show"], whose].concat());
    shown["used_bytes"].as_u64().unwrap()
}

fn tus(rest: &Rest, length: usize) -> Answer {
    rest.send("POST", TUS, &[VERSION, ("upload-length", &length.to_string())], b"")
}

fn patch(rest: &Rest, location: &str, offset: usize, bytes: &[u8]) -> Answer {
    let offset = offset.to_string();
    let kind = ("content-type", "application/offset+octet-stream");
    rest.send("PATCH", location, &[VERSION, kind, ("upload-offset", &offset)], bytes)
}

#[test]
fn each_door_says_it_in_its_own_words() {
    let world = world();
    let (daemon, ann) = (&world.daemon, &world.rest);
    let set = daemon.json(&["quota", "set", "--user", "ann", "--bytes", "1000000"]);
    assert_eq!(
        (&set["of"], &set["limit_bytes"], &set["used_bytes"]),
        (&json!("user"), &json!(MB), &json!(0))
    );
    let s3 = s3_of(daemon, "ann");
    s3.put("/anns-bucket", b"").unwrap().expect(200);
    s3.put("/anns-bucket/half", &seed::bytes(1, MB / 2)).unwrap().expect(200);
    let large = seed::bytes(2, MB / 2 + 1);

    // S3
    let refused = s3.put("/anns-bucket/more", &large).unwrap();
    assert_eq!((refused.status, refused.element("Code").as_deref()), (403, Some("QuotaExceeded")));
    s3.get("/anns-bucket/more").unwrap().expect(404);
    // gateway, direct and resumable
    let answer = ann.send("POST", DIRECT, &[FORM], &form("files", "", &large));
    assert_eq!((answer.status, &answer.json()["success"]), (402, &json!(false)), "{}", answer.text());
    let refused = tus(ann, MB / 2 + 1);
    assert_eq!((refused.status, &refused.json()["code"]), (402, &json!("QUOTA_EXCEEDED")));
    // one that fits when it is announced, and not any more when it comes
    let location = tus(ann, MB / 2).expect(201).header("location").unwrap().to_owned();
    patch(ann, &location, 0, &seed::bytes(3, 100_000)).expect(204);
    s3.put("/anns-bucket/between", &seed::bytes(4, 300_000)).unwrap().expect(200);
    let refused = patch(ann, &location, 100_000, &seed::bytes(5, 400_000));
    assert_eq!((refused.status, &refused.json()["code"]), (402, &json!("QUOTA_EXCEEDED")));
    assert_eq!(used(daemon, &["--user", "ann"]), 900_000, "what has come of it counts");
    // filing
    let category = "--limit\r\nContent-Disposition: form-data; name=\"category\"\r\n\r\ndevis\r\n";
    let answer = ann.send("POST", "/api/files", &[FORM], &form("file", category, &large));
    assert_eq!((answer.status, answer.json()), (402, json!({"message": "Quota de stockage dépassé."})));
    // parts
    let upload = s3.post("/anns-bucket/parts", &[("uploads", "")], b"").unwrap().expect(200);
    let upload = upload.element("UploadId").unwrap();
    let query = [("partNumber", "1"), ("uploadId", upload.as_str())];
    let part = |bytes: &[u8]| {
        let request =
            Request { method: "PUT", path: "/anns-bucket/parts", query: &query, headers: &[], body: bytes };
        s3.send(&request).unwrap()
    };
    assert_eq!(part(&large).element("Code").as_deref(), Some("QuotaExceeded"));
    part(&seed::bytes(6, 100_000)).expect(200);
    assert_eq!(used(daemon, &["--user", "ann"]), 1_000_000);
    // copies count, overwriting with less frees
    let copy = [("x-amz-copy-source", "/anns-bucket/half")];
    let request = Request { method: "PUT", path: "/anns-bucket/copy", query: &[], headers: &copy, body: b"" };
    assert_eq!(s3.send(&request).unwrap().element("Code").as_deref(), Some("QuotaExceeded"));
    s3.put("/anns-bucket/half", b"small").unwrap().expect(200);
    // what is given up and deleted is free at once
    let request = Request {
        method: "DELETE",
        path: "/anns-bucket/parts",
        query: &[("uploadId", &upload)],
        headers: &[],
        body: b"",
    };
    s3.send(&request).unwrap().expect(204);
    ann.send("DELETE", &location, &[VERSION], b"").expect(204);
    s3.delete("/anns-bucket/between").unwrap().expect(204);
    assert_eq!(used(daemon, &["--user", "ann"]), 5);
    s3.put("/anns-bucket/more", &large).unwrap().expect(200);
    // others have their own, and a lifted quota is none
    daemon.admin().put("/files/general/devis/x.bin", &seed::bytes(7, 2 * MB)).unwrap().expect(200);
    let set = daemon.json(&["quota", "set", "--user", "ann", "--none"]);
    assert_eq!(set["limit_bytes"], serde_json::Value::Null);
    s3.put("/anns-bucket/large", &seed::bytes(8, 2 * MB)).unwrap().expect(200);
    world.finish();
}

#[test]
fn a_plans_storage_is_metered_and_enforced() {
    let world = world();
    let (daemon, ann) = (&world.daemon, &world.rest);
    let company = format!("/internal/services/files/v1/companies/{}/files", world.org);
    let send = |bytes: usize| ann.send("POST", &company, &[FORM], &form("file", "", &seed::bytes(9, bytes)));
    // without a plan there is no storage, where plans sell it
    assert_eq!(send(1).status, 402);
    world.plan("tiny");
    let stored = send(600_000).expect(200).json();
    assert_eq!(world.right("data_storage"), (true, json!(1), 1), "megabytes begun");
    let refused = send(400_001);
    assert_eq!((refused.status, &refused.json()["statusCode"]), (402, &json!(402)));
    // through the S3 door too, wherever in the company's folder
    let s3 = s3_of(daemon, "ann");
    for key in ["x", "a/b/c/d", "0190c8f0-1111-7111-8111-111111111111/f.bin"] {
        let refused = s3.put(&format!("/companies/{}/{key}", world.org), &seed::bytes(1, 400_001)).unwrap();
        assert_eq!(refused.element("Code").as_deref(), Some("QuotaExceeded"), "{key}");
    }
    s3.put(&format!("/companies/{}/x", world.org), &seed::bytes(1, 400_000)).unwrap().expect(200);
    assert_eq!(used(daemon, &["--org", "Acme"]), 1_000_000);
    // a token of the organisation writes on its account; the user's own files are the user's
    let token = daemon.json(&["token", "create", "--user", "ann", "--name", "o", "--org", "Acme"]);
    let of_org = Rest { token: Some(token["token"].as_str().unwrap().to_owned()), ..ann.clone() };
    assert_eq!(of_org.send("POST", DIRECT, &[FORM], &form("files", "", b"x")).status, 402);
    ann.send("POST", DIRECT, &[FORM], &form("files", "", b"x")).expect(200);
    assert_eq!((used(daemon, &["--user", "ann"]), used(daemon, &["--org", "Acme"])), (1, 1_000_000));
    // a larger plan opens it again, and so does a grant, and deleting
    world.plan("premium_monthly");
    of_org.send("POST", DIRECT, &[FORM], &form("files", "", b"x")).expect(200);
    assert_eq!(world.right("data_storage"), (true, json!(10_000), 2));
    world.plan("tiny");
    assert_eq!(send(1).status, 402, "over it, nothing more is taken");
    daemon.json(&["billing", "grant", "Acme", "data_storage", "1"]);
    send(1).expect(200);
    assert_eq!(world.right("data_storage").1, json!(2));
    let id = stored["resource"]["id"].as_str().unwrap();
    ann.send("DELETE", &format!("{company}/{id}"), &[], b"").expect(200);
    assert_eq!(used(daemon, &["--org", "Acme"]), 400_002);
    // the operator's own ceiling, if it is lower
    let admin = Rest::admin(daemon);
    let body = json!({"org": "Acme", "bytes": 400_002}).to_string();
    admin.send("PUT", "/admin/v1/quotas", &[JSON], body.as_bytes()).expect(200);
    assert_eq!(send(1).status, 402);
    world.finish();
}

#[test]
fn a_buckets_quota_binds_everybody() {
    let world = world();
    let daemon = &world.daemon;
    let s3 = s3_of(daemon, "ann");
    s3.put("/anns-bucket", b"").unwrap().expect(200);
    daemon.json(&["quota", "set", "--bucket", "anns-bucket", "--bytes", "10"]);
    s3.put("/anns-bucket/a", b"0123456789").unwrap().expect(200);
    for client in [&s3, &daemon.admin()] {
        let refused = client.put("/anns-bucket/b", b"x").unwrap();
        assert_eq!(refused.element("Code").as_deref(), Some("QuotaExceeded"));
        client.put("/anns-bucket/empty", b"").unwrap().expect(200);
    }
    // each overwriting adds what it is larger by
    s3.put("/anns-bucket/a", b"012345678").unwrap().expect(200);
    s3.put("/anns-bucket/b", b"x").unwrap().expect(200);
    let admin = Rest::admin(daemon);
    let shown = admin.get("/admin/v1/quotas?bucket=anns-bucket").expect(200).json();
    assert_eq!(shown, json!({"of": "bucket", "id": "anns-bucket", "limit_bytes": 10, "used_bytes": 10}));
    for (query, status) in
        [("", 400), ("user=ann&org=Acme", 400), ("user=nobody", 404), ("bucket=no-such", 404)]
    {
        admin.get(&format!("/admin/v1/quotas?{query}")).expect(status);
    }
    world.finish();
}

/// Writers of every family race for the last megabyte: what is stored is never more than there was room for, and nobody
/// is refused who could have had it.
#[test]
fn nobody_passes_the_last_megabyte() {
    const STEP: usize = 90_000;
    let world = world();
    let daemon = &world.daemon;
    let s3 = s3_of(daemon, "ann");
    s3.put("/anns-bucket", b"").unwrap().expect(200);
    s3.put("/anns-bucket/before", &seed::bytes(1, 3 * MB)).unwrap().expect(200);
    daemon.json(&["quota", "set", "--user", "ann", "--bytes", &(4 * MB).to_string()]);
    for round in 0..seed::rounds(3, 30) {
        let stored: usize = thread::scope(|scope| {
            let writers: Vec<_> = (0..24)
                .map(|n| {
                    let (s3, rest) = (s3.clone(), world.rest.clone());
                    scope.spawn(move || {
                        let bytes = seed::bytes(n, STEP);
                        let status = match n % 3 {
                            0 => s3.put(&format!("/anns-bucket/{n}"), &bytes).unwrap().status,
                            1 => rest.send("POST", DIRECT, &[FORM], &form("files", "", &bytes)).status,
                            _ => match tus(&rest, STEP) {
                                begun if begun.status == 201 => {
                                    let location = begun.header("location").unwrap().to_owned();
                                    let status = patch(&rest, &location, 0, &bytes).status;
                                    if status != 204 {
                                        rest.send("DELETE", &location, &[VERSION], b"").expect(204);
                                    }
                                    status
                                }
                                refused => refused.status,
                            },
                        };
                        assert!([200, 204, 402, 403].contains(&status), "{status}");
                        usize::from(status < 300)
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        let used = used(daemon, &["--user", "ann"]);
        assert!(used <= 4 * MB as u64, "round {round}: {used}");
        assert_eq!(used, (3 * MB + stored * STEP) as u64, "round {round}");
        assert!(stored > 0, "round {round}: none of 24");
        // what is free is filled to the last by who comes alone
        let mut more = 0;
        while s3.put(&format!("/anns-bucket/more-{more}"), &seed::bytes(7, STEP)).unwrap().status == 200 {
            more += 1;
        }
        assert_eq!(stored + more, MB / STEP, "round {round}");
        for n in 0..24 {
            s3.delete(&format!("/anns-bucket/{n}")).unwrap().expect(204);
        }
        for n in 0..more {
            s3.delete(&format!("/anns-bucket/more-{n}")).unwrap().expect(204);
        }
        // what went through the gateway
        for (key, ..) in s3.list("gateway").unwrap() {
            s3.delete(&format!("/gateway/{key}")).unwrap().expect(204);
        }
    }
    world.finish();
}
