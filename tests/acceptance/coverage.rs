//! Every route of the OpenAPI document, without a token and with wrong ones: refused in the style of its API, before
//! anything of a body is read. A route that is added is asked here without anybody thinking of it.

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::Value;

/// Method, path with something in place of its parameters, and whether it needs a token.
fn routes(document: &Value) -> Vec<(String, String, bool)> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path: String = path
            .split('/')
            .map(
                |segment| {
                    if segment.starts_with('{') { "0190c8f0-1111-7111-8111-111111111111" } else { segment }
                },
            )
            .collect::<Vec<_>>()
            .join("/");
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                let needs_token =
                    operation["security"].as_array().is_some_and(|all| !all.contains(&serde_json::json!({})));
                routes.push((method.to_uppercase(), path.clone(), needs_token));
            }
        }
    }
    assert!(routes.len() > 20, "{}", routes.len());
    routes
}

/// A 401 in the style of the path's API (contract D9, D10).
#[track_caller]
fn assert_unauthorized(answer: &Answer, method: &str, path: &str) {
    assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
    if method == "HEAD" {
        return;
    }
    let body = answer.json();
    let rest = path.strip_prefix("/api/v1/");
    let is_said = match rest {
        Some(rest) if rest.starts_with("billing/") => body["error"].is_string(),
        Some(_) => {
            body["success"] == false && (body["code"].is_string() || body["error"]["code"].is_string())
        }
        None if path.starts_with("/api/files") || path.starts_with("/storage") => {
            body["message"] == "Non authentifié."
        }
        None if path.starts_with("/internal/") => {
            body["statusCode"] == 401 && body["error"] == "Unauthorized"
        }
        None => body["error"]["code"].is_string() && body["error"]["request_id"].is_string(),
    };
    assert!(is_said, "{method} {path}: {body}");
}

#[test]
fn no_route_lets_strangers_in() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("COFFRE_LIMITS__RATE__GENERAL", "0"), ("COFFRE_LIMITS__RATE__UPLOAD", "0")];
    let daemon = Daemon::start_with(&folder.path().join("data"), &[], &environment);
    let admin = Rest::admin(&daemon);
    let anybody = admin.without_token();
    let revoked = {
        let token = daemon.json(&["token", "create", "--user", "admin", "--name", "revoked"]);
        daemon.json(&["token", "revoke", token["id"].as_str().unwrap()]);
        token["token"].as_str().unwrap().to_owned()
    };
    let wrong = ["0190c8f0-1111-7111-8111-111111111111|x".to_owned(), "a.b.c".to_owned(), revoked];
    for (method, path, needs_token) in routes(&anybody.get("/openapi.json").expect(200).json()) {
        let headers = [("content-type", "application/json"), ("tus-resumable", "1.0.0")];
        if needs_token {
            assert_unauthorized(&anybody.send(&method, &path, &headers, b"{}"), &method, &path);
        }
        for token in &wrong {
            let rest = Rest { token: Some(token.clone()), ..admin.clone() };
            assert_unauthorized(&rest.send(&method, &path, &headers, b"{}"), &method, &path);
        }
    }
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
