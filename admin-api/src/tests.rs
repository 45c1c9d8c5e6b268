//! The ground's promises, asked of the door without a socket.

use axum::body::Body;
use axum::extract::State;
use axum::http::Method;
use axum::routing::{get, post};
use coffre_identity::Role;
use coffre_store::put::{Claims, PutObject};
use serde_json::json;

use super::*;
use crate::http::address;
use crate::http::caller::{Anyone, Caller, Permission};
use crate::http::form::Form;
use crate::http::send::{self, Sending};
use crate::testing::{Answer, World, ask, options, request, system};

async fn plain(
    method: &str,
    path: &str,
    readiness: Readiness,
    token: Option<&str>,
    headers: &[(&str, &str)],
) -> Answer {
    let door = RestDoor::new(options(readiness, token));
    ask(door.starting, request(method, path, headers, Body::empty())).await
}

#[tokio::test]
async fn readiness_is_told_apart_from_health() {
    for (readiness, status) in [
        (Readiness::Starting, 503),
        (Readiness::Ready, 200),
        (Readiness::Stopping, 503),
        (Readiness::Failed, 503),
    ] {
        assert_eq!(
            plain("GET", "/readyz", readiness, None, &[]).await.status.as_u16(),
            status,
            "{readiness:?}"
        );
        assert_eq!(plain("GET", "/healthz", readiness, None, &[]).await.status.as_u16(), 200);
    }
    let early = plain("GET", "/api/files", Readiness::Starting, None, &[]).await;
    assert_eq!((early.status.as_u16(), early.header("retry-after")), (503, Some("1")));
    assert!(early.json()["message"].as_str().unwrap().starts_with("Le service"), "{early:?}");
}

#[tokio::test]
async fn metrics_want_their_token_when_there_is_one() {
    let open = plain("GET", "/metrics", Readiness::Ready, None, &[]).await;
    assert_eq!((open.status.as_u16(), &open.body[..]), (200, &b"coffre_up 1\n"[..]));
    for (header, status) in [
        ("", 401),
        ("Bearer wrong", 401),
        ("Basic secret", 401),
        ("Bearer secret2", 401),
        ("bearer secret", 200),
    ] {
        let headers = [("authorization", header)];
        let answer = plain("GET", "/metrics", Readiness::Ready, Some("secret"), &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{header}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.json()["error"]["code"], "AUTH_REQUIRED");
        }
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_in_the_style_of_their_prefix() {
    let world = World::new().await;
    let missing = world.ask(request("GET", "/nowhere", &[], "")).await;
    assert_eq!(missing.status.as_u16(), 404);
    assert_eq!(missing.header("x-request-id"), Some("made-here"));
    assert_eq!(missing.json()["error"]["code"], "NOT_FOUND");
    assert_eq!(missing.json()["error"]["request_id"], "made-here");

    let kept = [("x-request-id", "mine.1")];
    let refused = world.ask(request("POST", "/healthz", &kept, "")).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-request-id")), (405, Some("mine.1")));
    assert!(refused.header("allow").unwrap().contains("GET"), "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "METHOD_NOT_ALLOWED");

    let gateway = world.ask(request("GET", "/api/v1/files/pdf/nothing", &[], "")).await.json();
    assert_eq!(gateway["success"], false);
    assert_eq!((gateway["code"].as_str(), gateway["error"].is_string()), (Some("NOT_FOUND"), true));
    let billing = world.ask(request("GET", "/api/v1/billing/nothing", &[], "")).await.json();
    assert!(billing["error"].is_string() && billing.as_object().unwrap().len() == 1, "{billing}");
    let t2m = world.ask(request("GET", "/api/v1/nowhere", &[], "")).await.json();
    assert_eq!(t2m["error"]["code"], "RESOURCE_NOT_FOUND");
    assert!(t2m["error"]["message"].is_string() && t2m["error"]["details"].is_string(), "{t2m}");
    let french = world.ask(request("GET", "/api/files/a/b/c", &[], "")).await.json();
    assert_eq!(french, json!({"message": "Ressource non trouvée."}));
    let english =
        world.ask(request("GET", "/api/files/a/b/c", &[("accept-language", "en")], "")).await.json();
    assert_eq!(english, json!({"message": "Resource not found."}));
    let company = world.ask(request("GET", "/internal/services/files/v1/nowhere", &[], "")).await.json();
    assert_eq!((&company["statusCode"], &company["error"]), (&json!(404), &json!("Not Found")));
    let head = world.ask(request("HEAD", "/api/files/a/b/c", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
}

#[tokio::test]
async fn a_wrong_token_is_401_wherever_it_is_sent() {
    let world = World::new().await;
    for header in ["Bearer 1|2", "Bearer x", "Basic abc", "Bearer", "é"] {
        let headers = [("authorization", header)];
        let answer = world.ask(request("GET", "/api/v1/nowhere", &headers, "")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("www-authenticate")),
            (401, Some("Bearer")),
            "{header}"
        );
        assert_eq!(answer.json()["error"]["code"], "AUTH_INVALID");
        assert_eq!(world.ask(request("GET", "/healthz", &headers, "")).await.status.as_u16(), 200);
    }
    let filing = world.ask(request("GET", "/api/files", &[("authorization", "Bearer x|y")], "")).await;
    assert_eq!(filing.json(), json!({"message": "Non authentifié."}));
}

#[tokio::test]
async fn limits_are_of_the_user_and_told() {
    let world = World::new().await;
    let (_, ann) = world.person("ann", Role::User, &[]).await;
    let (_, bob) = world.person("bob", Role::User, &[]).await;
    let call = async |token: &str| {
        let headers = [("authorization", token)];
        world.ask(request("GET", "/api/v1/nowhere", &headers, "")).await
    };
    for left in ["2", "1", "0"] {
        let answer = call(&ann).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-remaining")), (404, Some(left)));
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3"));
    }
    let refused = call(&ann).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("3600")));
    assert_eq!(
        refused.json()["error"],
        json!({
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Rate limit exceeded",
            "details": "You have exceeded the limit of 3 requests per hour. Try again in 60 minutes.",
        })
    );
    let gateway = [("authorization", ann.as_str())];
    let refused = world.ask(request("GET", "/api/v1/files/upload/multipart/x", &gateway, "")).await;
    assert_eq!(refused.json()["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(call(&bob).await.status.as_u16(), 404, "another user has another window");
    let health = world.ask(request("GET", "/api/v1/system/health", &gateway, "")).await;
    assert!(health.header("x-ratelimit-limit").is_none());
    world.clock.0.fetch_add(3_600_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(call(&ann).await.status.as_u16(), 404);
}

#[tokio::test]
async fn pages_of_named_origins_may_call() {
    let world = World::new().await;
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        world.ask(request(method, "/api/v1/files/upload/multipart", headers, "")).await
    };
    let asked = [
        ("origin", "https://app.test"),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "tus-resumable,authorization"),
    ];
    let preflight = ask("OPTIONS", &asked).await;
    assert_eq!(preflight.status.as_u16(), 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("tus-resumable,authorization"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("PATCH"));
    let answer = ask("GET", &[("origin", "https://app.test"), ("authorization", "Bearer no|no")]).await;
    assert_eq!(answer.status.as_u16(), 401);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.test"),
        "errors can be read too"
    );
    assert!(answer.header("access-control-expose-headers").unwrap().contains("Upload-Offset"));
    let other =
        ask("OPTIONS", &[("origin", "https://evil.test"), ("access-control-request-method", "PUT")]).await;
    assert_eq!(other.header("access-control-allow-origin"), None);
}

/// Routes that show what handlers are given, in the frame of the real ones.
fn sample(world: &World) -> Router {
    async fn who(anyone: Anyone) -> String {
        let address = anyone.cx.circumstances.client_address.map(|address| address.to_string());
        format!("{:?} {:?} {}", anyone.cx.principal.name, address, anyone.cx.request_id)
    }
    async fn upload(
        State(ground): State<Ground>,
        caller: Caller,
        mut form: Form,
    ) -> Result<String, ApiError> {
        caller.may(Permission::UploadFiles)?;
        let mut stored = Vec::new();
        while let Some(part) = form.next().await? {
            let Some(name) = part.file_name.clone() else { continue };
            let at = coffre_store::object::At {
                bucket: ground.settings.buckets.filing.clone(),
                key: format!("general/autre/{name}").parse()?,
            };
            let put = PutObject {
                at,
                attributes: coffre_store::object::Attributes {
                    content_type: part.content_type.clone(),
                    ..Default::default()
                },
                body: part.bytes_within(10_000),
                size_bytes: None,
                claims: Claims::default(),
                conditions: coffre_store::condition::Conditions::default(),
            };
            stored.push(ground.store.put(&caller.cx, put).await?.version.size_bytes.to_string());
        }
        Ok(stored.join(","))
    }
    async fn download(
        State(ground): State<Ground>,
        caller: Caller,
        method: Method,
        headers: axum::http::HeaderMap,
        http::input::Path(name): http::input::Path<String>,
    ) -> Result<axum::response::Response, ApiError> {
        let at = coffre_store::object::At {
            bucket: ground.settings.buckets.filing.clone(),
            key: format!("general/autre/{name}").parse()?,
        };
        send::object(&ground.store, &caller.cx, &method, &headers, Sending::attachment(at)).await
    }
    let ground = world.ground.clone();
    Router::new()
        .route("/api/files/who", get(who))
        .route("/api/files/panic", get(async || -> &'static str { panic!("on purpose") }))
        .route("/api/files/axum", get(async |_: axum::extract::Json<u8>| "never"))
        .route("/api/files/up", post(upload))
        .route("/api/files/down/{name}", get(download))
        .layer(from_fn_with_state(ground.clone(), caller::admit))
        .layer(from_fn_with_state(Rendering { tells_causes: true }, frame::render))
        .layer(from_fn_with_state(ground.clone(), address::find))
        .with_state(ground)
        .layer(axum::Extension(Peer { address: "10.1.1.1:1".parse().unwrap(), is_secure: false }))
        .layer(axum::Extension(request_id::RequestId("r-7".into())))
}

#[tokio::test]
async fn handlers_know_who_calls_and_whence() {
    let world = World::new().await;
    let (_, ann) = world.person("ann", Role::User, &[]).await;
    let call = async |headers: &[(&str, &str)]| {
        let answer = ask(sample(&world), request("GET", "/api/files/who", headers, "")).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    assert_eq!(call(&[]).await, "None Some(\"10.1.1.1\") r-7");
    let proxied = [("authorization", ann.as_str()), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(call(&proxied).await, "Some(\"ann\") Some(\"203.0.113.9\") r-7");
}

#[tokio::test]
async fn what_breaks_is_said_in_the_apis_style() {
    let world = World::new().await;
    let bad = ask(sample(&world), request("GET", "/api/files/panic", &[], "")).await;
    assert_eq!(bad.status.as_u16(), 500);
    assert_eq!(
        bad.json(),
        json!({
            "message": "Une erreur est survenue lors du traitement de la requête.",
            "error": "a request panicked",
        })
    );
    let axums = ask(sample(&world), request("GET", "/api/files/axum", &[], "x")).await;
    assert_eq!(axums.status.as_u16(), 415);
    assert_eq!(axums.json(), json!({"message": "Le type de contenu n'est pas pris en charge."}));
    let anonymous = ask(sample(&world), request("POST", "/api/files/up", &[], "x")).await;
    assert_eq!((anonymous.status.as_u16(), anonymous.header("www-authenticate")), (401, Some("Bearer")));
}

const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\
    Content-Type: text/plain\r\n\r\n0123456789\r\n\
    --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"p.svg\"\r\nContent-Type: image/svg+xml\r\n\r\n\
    <svg/>\r\n--x--\r\n";

#[tokio::test]
async fn forms_go_into_the_store_and_objects_come_out() {
    let world = World::new().await;
    let (_, ann) = world.person("ann", Role::User, &[]).await;
    let (_, reader) = world.person("reader", Role::User, &["read_files"]).await;
    let up = async |token: &str, kind: &str, form: String| {
        let headers = [("authorization", token), ("content-type", kind)];
        ask(sample(&world), request("POST", "/api/files/up", &headers, form)).await
    };
    let kind = "multipart/form-data; boundary=x";
    let stored = up(&ann, kind, FORM.into()).await;
    assert_eq!((stored.status.as_u16(), &stored.body[..]), (200, &b"10,6"[..]), "{stored:?}");
    assert_eq!(up(&reader, kind, FORM.into()).await.status.as_u16(), 403);
    assert_eq!(up(&ann, "application/json", FORM.into()).await.status.as_u16(), 415);
    let large = FORM.replace("0123456789", &"x".repeat(10_001)).replace("a.txt", "large");
    assert_eq!(up(&ann, kind, large).await.status.as_u16(), 422);
    let cut = FORM.replace("a.txt", "cut").split_once("56").unwrap().0.to_owned();
    assert_eq!(up(&ann, kind, cut).await.status.as_u16(), 400);

    let down = async |token: &str, method: &str, name: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("authorization", token)];
        all.extend_from_slice(headers);
        ask(sample(&world), request(method, &format!("/api/files/down/{name}"), &all, "")).await
    };
    for name in ["large", "cut"] {
        assert_eq!(down(&ann, "GET", name, &[]).await.status.as_u16(), 404, "{name} left nothing behind");
    }
    let whole = down(&ann, "GET", "a.txt", &[]).await;
    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(whole.header("content-type"), Some("text/plain"));
    assert_eq!(whole.header("content-disposition"), Some("attachment; filename=\"a.txt\""));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert!(whole.header("content-security-policy").unwrap().starts_with("sandbox"));
    assert_eq!(whole.header("last-modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    let etag = whole.header("etag").unwrap().to_owned();
    assert_eq!(etag, "\"781e5e245d69b566979b86e28d23f2c7\"");

    let head = down(&ann, "HEAD", "a.txt", &[]).await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("10"), 0));
    for (headers, status, body) in [
        (&[("range", "bytes=2-4")][..], 206, "234"),
        (&[("range", "bytes=-2")], 206, "89"),
        (&[("range", "bytes=2-4,6-7")], 206, "234"),
        (&[("range", "bytes=2-4"), ("if-range", &etag)], 206, "234"),
        (&[("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "0123456789"),
        (&[("range", "bytes=2-4"), ("if-range", "Tue, 14 Nov 2023 22:13:20 GMT")], 206, "234"),
        (&[("range", "bytes=2-4"), ("if-range", "Tue, 14 Nov 2023 22:13:21 GMT")], 200, "0123456789"),
        (&[("range", "lines=1-2")], 200, "0123456789"),
        (&[("if-none-match", &etag)], 304, ""),
        (&[("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT")], 304, ""),
        (&[("if-match", &etag)], 200, "0123456789"),
    ] {
        let answer = down(&ann, "GET", "a.txt", headers).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()), "{headers:?}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()), "{headers:?}");
    }
    let part = down(&ann, "GET", "a.txt", &[("range", "bytes=2-4")]).await;
    assert_eq!(
        (part.header("content-range"), part.header("content-length")),
        (Some("bytes 2-4/10"), Some("3"))
    );
    let outside = down(&ann, "GET", "a.txt", &[("range", "bytes=10-")]).await;
    assert_eq!((outside.status.as_u16(), outside.header("content-range")), (416, Some("bytes */10")));
    assert_eq!(down(&ann, "GET", "a.txt", &[("if-match", "\"x\"")]).await.status.as_u16(), 412);
    assert_eq!(down(&reader, "GET", "a.txt", &[]).await.status.as_u16(), 404, "not another's");
    assert!(
        down(&ann, "GET", "p.svg", &[])
            .await
            .header("content-disposition")
            .unwrap()
            .starts_with("attachment")
    );
    let at = coffre_store::object::At {
        bucket: "files".parse().unwrap(),
        key: "general/autre/a.txt".parse().unwrap(),
    };
    let what = coffre_store::get::GetObject {
        at,
        version: None,
        conditions: coffre_store::condition::Conditions::default(),
        range: None,
    };
    let seen = world.ground.store.head(&system(), what).await;
    assert_eq!(seen.unwrap().version.size_bytes, 10, "what REST stored is there for all doors");
}
