//! The ground's promises, asked of the router without a socket.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

#[derive(Debug)]
struct Fake(Readiness);

impl Host for Fake {
    fn readiness(&self) -> Readiness {
        self.0
    }
    fn metrics(&self) -> String {
        "coffre_up 1\n".into()
    }
    fn request_id(&self) -> String {
        "made-here".into()
    }
}

fn options(readiness: Readiness, token: Option<&str>) -> Options {
    Options { host: Arc::new(Fake(readiness)), metrics_token: token.map(str::to_owned) }
}

async fn ask(
    router: Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn error_of(body: &str) -> (String, String) {
    let body: Value = serde_json::from_str(body).unwrap();
    let field = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    assert!(!field("message").is_empty(), "{body}");
    (field("code"), field("request_id"))
}

#[tokio::test]
async fn readiness_is_told_apart_from_health() {
    for (readiness, status) in [
        (Readiness::Starting, 503),
        (Readiness::Ready, 200),
        (Readiness::Stopping, 503),
        (Readiness::Failed, 503),
    ] {
        let ready = ask(router(options(readiness, None)), "GET", "/readyz", &[]).await;
        assert_eq!(ready.0.as_u16(), status, "{readiness:?}");
        assert_eq!(ask(router(options(readiness, None)), "GET", "/healthz", &[]).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_json_with_the_request_id() {
    let (status, headers, body) = ask(router(options(Readiness::Ready, None)), "GET", "/nowhere", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(headers[X_REQUEST_ID], "made-here");
    assert_eq!(error_of(&body), ("NOT_FOUND".into(), "made-here".into()));

    let kept = [("x-request-id", "mine.1")];
    let (status, headers, body) =
        ask(router(options(Readiness::Ready, None)), "POST", "/healthz", &kept).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers[X_REQUEST_ID], "mine.1");
    assert!(headers["allow"].to_str().unwrap().contains("GET"), "{headers:?}");
    assert_eq!(error_of(&body), ("METHOD_NOT_ALLOWED".into(), "mine.1".into()));
}

#[tokio::test]
async fn metrics_want_their_token_when_there_is_one() {
    let open = ask(router(options(Readiness::Ready, None)), "GET", "/metrics", &[]).await;
    assert_eq!((open.0, open.2.as_str()), (StatusCode::OK, "coffre_up 1\n"));
    for (header, status) in [
        ("", 401),
        ("Bearer wrong", 401),
        ("Basic secret", 401),
        ("Bearer secret2", 401),
        ("bearer secret", 200),
    ] {
        let router = router(options(Readiness::Ready, Some("secret")));
        let (got, headers, body) = ask(router, "GET", "/metrics", &[("authorization", header)]).await;
        assert_eq!(got.as_u16(), status, "{header}");
        if status == 401 {
            assert_eq!(headers["www-authenticate"], "Bearer");
            assert_eq!(error_of(&body).0, "UNAUTHORIZED");
        }
    }
}

#[tokio::test]
async fn a_panicking_handler_is_answered() {
    let bad = Router::new().route("/bad", get(async || -> StatusCode { panic!("on purpose") }));
    let router = guard(bad, Arc::new(options(Readiness::Ready, None)));
    let (status, headers, body) = ask(router, "GET", "/bad", &[]).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(headers[X_REQUEST_ID], "made-here");
    assert_eq!(error_of(&body), ("INTERNAL_ERROR".into(), "made-here".into()));
    assert!(!body.contains("on purpose"));
}
