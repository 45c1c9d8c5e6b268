//! Every route without a token, with a wrong one, by who is no member, and with what it does not take.

use coffre_tests::rest::Rest;
use serde_json::json;

use super::{FORM, World, form, id_of, send, world};

/// Each route: method, what follows `…/files`, whether it takes a form.
fn routes(id: &str) -> Vec<(&'static str, String, bool)> {
    vec![
        ("POST", String::new(), true),
        ("POST", format!("/{id}"), true),
        ("GET", format!("/{id}"), false),
        ("GET", format!("/{id}/download"), false),
        ("GET", format!("/{id}/thumbnails/0"), false),
        ("DELETE", format!("/{id}"), false),
    ]
}

fn call(world: &World, rest: &Rest, route: &(&str, String, bool)) -> coffre_tests::s3::Answer {
    let body = if route.2 { form("file", "x", "text/plain", b"not stored") } else { Vec::new() };
    let headers: &[(&str, &str)] = if route.2 { &[FORM] } else { &[] };
    rest.send(route.0, &world.files(&route.1), headers, &body)
}

#[test]
fn who_is_let_in() {
    let world = world();
    let id = id_of(&send(&world.member, &world.files(""), "a.txt", "text/plain", b"one").expect(200));
    let before = world.daemon.json(&["status"])["store"].clone();
    let wrong = Rest { token: Some("0190c8f0-1111-7111-8111-111111111111|x".into()), ..world.member.clone() };
    let reader = Rest::user(&world.daemon, "reader", &["--permission", "generate_videos"]);
    world.daemon.json(&["org", "add-member", &world.company, "reader"]);
    for route in routes(&id) {
        let missing = call(&world, &world.member.without_token(), &route).expect(401);
        assert_eq!(missing.json()["statusCode"], json!(401), "{route:?}");
        assert_eq!(missing.json()["error"], "Unauthorized");
        assert!(missing.json()["message"].is_string());
        assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
        call(&world, &wrong, &route).expect(401);
        let hidden = call(&world, &world.stranger, &route).expect(404).json();
        assert_eq!(
            (&hidden["statusCode"], &hidden["error"]),
            (&json!(404), &json!("Not Found")),
            "{route:?}"
        );
        call(&world, &reader, &route).expect(403);
        // a company that is none, and a file that is none
        let (method, rest, takes_form) = route.clone();
        for path in [
            format!("{}/companies/0190c8f0-1111-7111-8111-111111111111/files{rest}", super::PREFIX),
            format!("{}/companies/companies/files{rest}", super::PREFIX),
            format!("{}/companies/x%2Fy/files{rest}", super::PREFIX),
        ] {
            let body = if takes_form { form("file", "x", "text/plain", b"no") } else { Vec::new() };
            world.member.send(method, &path, if takes_form { &[FORM] } else { &[] }, &body).expect(404);
        }
        let unknown = (method, rest.replace(&id, "0190c8f0-1111-7111-8111-111111111111"), takes_form);
        if !rest.is_empty() {
            call(&world, &world.member, &unknown).expect(404);
        }
    }
    assert_eq!(world.daemon.json(&["status"])["store"], before, "nothing was stored");
    world.daemon.stop_cleanly();
}

#[test]
fn what_is_not_taken() {
    let world = world();
    let id = id_of(&send(&world.member, &world.files(""), "a.txt", "text/plain", b"one").expect(200));
    for path in [world.files(""), world.files(&format!("/{id}"))] {
        let poster = if path.ends_with(&id) { &world.application } else { &world.member };
        let kind =
            poster.send("POST", &path, &[("content-type", "application/json")], b"{}").expect(415).json();
        assert_eq!(kind["error"], "Unsupported Media Type");
        poster.send("POST", &path, &[("content-type", "multipart/form-data")], b"x").expect(400);
        let refused = world.member.send("PUT", &path, &[], b"x").expect(405);
        assert!(refused.header("allow").is_some());
        assert_eq!(refused.json()["statusCode"], json!(405));
    }
    world.daemon.stop_cleanly();
}
