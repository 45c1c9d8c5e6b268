//! The admin API from outside (contract §6, D23, D33, D43), and JWTs of a configured issuer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

const JSON: (&str, &str) = ("content-type", "application/json");

fn post(rest: &Rest, path: &str, body: &Value) -> coffre_tests::s3::Answer {
    rest.send("POST", path, &[JSON], body.to_string().as_bytes())
}

#[test]
fn what_the_command_line_can_do() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let admin = Rest::admin(&daemon);
    let ann = post(&admin, "/admin/v1/users", &json!({"name": "ann", "email": "ann@example.org"}))
        .expect(201)
        .json();
    assert_eq!((&ann["role"], &ann["disabled"]), (&json!("USER"), &json!(false)));
    let id = ann["id"].as_str().unwrap();
    assert_eq!(admin.get("/admin/v1/users/ann").expect(200).json(), ann);
    assert_eq!(admin.get(&format!("/admin/v1/users/{id}")).expect(200).json(), ann);
    post(&admin, "/admin/v1/users", &json!({"name": "Ann"})).expect(409);
    post(&admin, "/admin/v1/users", &json!({"name": "x", "role": "KING"})).expect(400);
    assert_eq!(admin.get("/admin/v1/users").expect(200).json()["users"].as_array().unwrap().len(), 2);

    let made =
        post(&admin, "/admin/v1/tokens", &json!({"user": "ann", "name": "t", "permissions": ["read_files"]}));
    let made = made.expect(201).json();
    let token = Rest { token: Some(made["token"].as_str().unwrap().into()), ..admin.clone() };
    token.get("/admin/v1/users").expect(403);
    let listed = admin.get("/admin/v1/tokens?user=ann").expect(200).json();
    assert_eq!(listed["tokens"][0]["permissions"], json!(["read_files"]));
    assert!(listed["tokens"][0]["last_used_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains(made["token"].as_str().unwrap().split('|').nth(1).unwrap()));
    let path = format!("/admin/v1/tokens/{}", made["id"].as_str().unwrap());
    admin.send("DELETE", &path, &[], b"").expect(204);
    admin.send("DELETE", &path, &[], b"").expect(404);
    token.get("/admin/v1/users").expect(401);

    let key = post(&admin, "/admin/v1/keys", &json!({"user": id})).expect(201).json();
    let access = key["access_key_id"].as_str().unwrap();
    assert!(admin.get("/admin/v1/keys?user=ann").expect(200).text().contains(access));
    admin.send("DELETE", &format!("/admin/v1/keys/{access}"), &[], b"").expect(204);

    let org = post(&admin, "/admin/v1/orgs", &json!({"name": "org"})).expect(201).json()["id"].clone();
    assert_eq!(admin.get("/admin/v1/orgs/org").expect(200).json()["id"], org);
    for (method, path) in [
        ("PUT", "/admin/v1/orgs/org/members/ann"),
        ("DELETE", "/admin/v1/orgs/org/members/ann"),
        ("PUT", "/admin/v1/clients/123/users/ann"),
        ("DELETE", "/admin/v1/clients/123/users/ann"),
    ] {
        admin.send(method, path, &[], b"").expect(204);
        admin.send(method, &path.replace("ann", "nobody"), &[], b"").expect(404);
    }
    post(&admin, "/admin/v1/buckets", &json!({"name": "hello", "owner": "ann"})).expect(201);
    assert!(admin.get("/admin/v1/buckets").expect(200).text().contains("\"hello\""));
    admin.send("DELETE", "/admin/v1/buckets/hello", &[], b"").expect(204);
    admin.send("DELETE", "/admin/v1/buckets/files", &[], b"").expect(403);
    assert_eq!(
        post(&admin, "/admin/v1/gc", &json!({})).expect(200).json(),
        json!({"freed_bytes": 0, "blobs": 0})
    );
    assert_eq!(post(&admin, "/admin/v1/check", &json!({})).expect(200).json()["findings"], json!([]));
    let scrubbed =
        post(&admin, "/admin/v1/scrub", &json!({"bytes_per_second": 4_000_000})).expect(200).json();
    assert_eq!(scrubbed["damaged"], json!([]));
    // at this rate it would not end
    post(&admin, "/admin/v1/scrub", &json!({"bytes_per_second": 0})).expect(400);
    assert_eq!(admin.get("/admin/v1/status").expect(200).json()["state"], "ready");
    let disabled = admin.send("POST", "/admin/v1/users/ann/disable", &[], b"").expect(200).json();
    assert_eq!(disabled["disabled"], true);
    daemon.stop_cleanly();
}

#[test]
fn the_audit_log_is_read_filtered_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let admin = Rest::admin(&daemon);
    for n in 0..5 {
        let headers = [JSON, ("x-request-id", "audited")];
        let body = json!({"name": format!("user-{n}")}).to_string();
        admin.send("POST", "/admin/v1/users", &headers, body.as_bytes()).expect(201);
    }
    let page = admin.get("/admin/v1/audit?action=CreateUser&per_page=2&page=2").expect(200).json();
    let pagination = json!({
        "current_page": 2, "from": 3, "last_page": 3, "per_page": 2, "to": 4, "total": 5, "has_more_pages": true,
    });
    assert_eq!(page["pagination"], pagination);
    let row = &page["data"][0];
    let mut names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["action", "bucket", "client_address", "door", "key", "outcome", "principal", "request_id", "time"]
    );
    assert_eq!(
        (&row["door"], &row["outcome"], &row["request_id"]),
        (&json!("rest"), &json!("ok"), &json!("audited"))
    );
    assert_eq!(
        (&row["principal"], &row["client_address"]),
        (&daemon.credentials()["user_id"], &json!("127.0.0.1"))
    );
    let count = |query: &str| {
        admin.get(&format!("/admin/v1/audit?{query}")).expect(200).json()["pagination"]["total"].clone()
    };
    assert_eq!(count("principal=admin&action=CreateUser"), 5);
    assert_eq!(count("principal=anonymous"), 0);
    assert_eq!(count("action=CreateUser&to=2000-01-01"), 0);
    assert_eq!(count("action=CreateUser&from=2000-01-01"), 5);
    for query in ["per_page=0", "per_page=1001", "page=0", "from=soon"] {
        admin.get(&format!("/admin/v1/audit?{query}")).expect(400);
    }
    let user = Rest::user(&daemon, "plain", &[]);
    user.get("/admin/v1/audit").expect(403);
    daemon.stop_cleanly();
}

#[test]
fn only_admins_and_only_json() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let admin = Rest::admin(&daemon);
    let user = Rest::user(&daemon, "plain", &[]);
    let document = admin.without_token().get("/openapi.json").expect(200).json();
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(rest) = path.strip_prefix("/admin/v1/") else { continue };
        let path = format!("/admin/v1/{}", rest.replace(['{', '}'], ""));
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            routes += 1;
            let none = admin.without_token().send(&method, &path, &[JSON], b"{}").expect(401).json();
            assert_eq!(none["error"]["code"], "AUTH_REQUIRED", "{method} {path}");
            let wrong = Rest { token: Some("a|b".into()), ..admin.clone() };
            assert_eq!(
                wrong.send(&method, &path, &[JSON], b"{}").expect(401).json()["error"]["code"],
                "AUTH_INVALID"
            );
            let refused = user.send(&method, &path, &[JSON], b"{}").expect(403).json();
            assert_eq!(refused["error"]["code"], "PERMISSION_DENIED", "{method} {path}");
            assert!(refused["error"]["request_id"].is_string());
        }
    }
    assert!(routes > 20, "{routes}");
    admin.send("POST", "/admin/v1/users", &[("content-type", "text/plain")], b"{}").expect(415);
    admin.send("POST", "/admin/v1/users", &[JSON], b"{").expect(400);
    admin.send("POST", "/admin/v1/users", &[JSON], b"{\"nom\":1}").expect(400);
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    admin.send("POST", "/admin/v1/users", &[JSON], large.as_bytes()).expect(413);
    assert_eq!(daemon.json(&["user", "list"])["users"].as_array().unwrap().len(), 2, "nothing was made");
    daemon.stop_cleanly();
}

#[test]
fn the_documents_need_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let anybody = Rest::admin(&daemon).without_token();
    let document = anybody.get("/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let page = anybody.get("/docs").expect(200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    for path in page.text().split(['"', '\'']).filter(|text| text.starts_with('/') && text.len() > 1) {
        anybody.get(path).expect(200);
    }
    for text in [page.text(), anybody.get("/docs/page.js").text(), anybody.get("/docs/page.css").text()] {
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    }
    daemon.stop_cleanly();
}

fn jwt(secret: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[test]
fn an_issuers_tokens_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coffre.toml");
    let secret = "a secret of thirty-two characters";
    let text = format!(
        "[[auth.jwt]]\nissuer = \"https://id.example\"\naudience = \"coffre\"\nhs256_secret = \"{secret}\"\n\
         create_users = true\n"
    );
    std::fs::write(&file, text).unwrap();
    let data = folder.path().join("data");
    let daemon = Daemon::start_with(&data, &["--config", file.to_str().unwrap()], &[]);
    let claims = |exp: u64| json!({"iss": "https://id.example", "aud": "coffre", "sub": "user_1", "name": "Ann", "exp": exp});
    let with = |token: String| Rest { token: Some(token), ..Rest::admin(&daemon) };
    let far = 4_102_444_800;
    // no ADMIN, but somebody: 403 where nobody is 401
    with(jwt(secret, &claims(far))).get("/admin/v1/users").expect(403);
    with(jwt(secret, &claims(far))).get("/admin/v1/users").expect(403);
    let users = daemon.json(&["user", "list"]);
    let made: Vec<&str> =
        users["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(made, ["admin", "Ann"], "made once");
    let late = with(jwt(secret, &claims(1_000_000_000))).get("/admin/v1/users").expect(401).json();
    assert_eq!(late["error"]["code"], "AUTH_EXPIRED");
    let forged = with(jwt("another secret", &claims(far))).get("/admin/v1/users").expect(401).json();
    assert_eq!(forged["error"]["code"], "AUTH_INVALID");
    assert!(!daemon.log().contains(secret));
    daemon.stop_cleanly();
}
