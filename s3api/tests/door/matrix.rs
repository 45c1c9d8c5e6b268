//! Auth state × operation, and body mode × auth state: every cell has its answer, every refused one has left nothing
//! behind, and those refused before the store is asked have not reached it. Then the same without the guard, to show
//! what the guard is for.

use time::{Duration, OffsetDateTime};

use crate::support::form::Form;
use crate::support::server::{Person, World};
use crate::support::sign::{self, Signer};
use crate::support::wire::Call;

const OPERATIONS: [&str; 10] =
    ["put", "get", "head", "delete", "list", "copy", "part", "part copy", "delete many", "policy"];
const DAY: i64 = 24 * 60 * 60;

/// Alice's bucket with two objects and an upload, bob's with one.
struct Stage {
    world: World,
    upload: String,
}

impl Stage {
    async fn new() -> Self {
        let world = World::new().await;
        world.ok(Call::new("PUT", "/alpha")).await;
        world.ok(Call::new("PUT", "/alpha/kept").body("kept")).await;
        world.ok(Call::new("PUT", "/alpha/other").body("other")).await;
        let created = world.ok(Call::new("POST", "/alpha/up").query("uploads", "")).await;
        let upload = created.xml("UploadId").unwrap();
        assert_eq!(world.bob(Call::new("PUT", "/beta")).await.status, 200);
        assert_eq!(world.bob(Call::new("PUT", "/beta/private").body("private")).await.status, 200);
        Self { world, upload }
    }

    /// The operation, unsigned.
    fn call(&self, operation: &str) -> Call {
        let part = |path| Call::new("PUT", path).query("partNumber", "1").query("uploadId", &self.upload);
        match operation {
            "put" => Call::new("PUT", "/alpha/new").body("new"),
            "get" => Call::new("GET", "/alpha/kept"),
            "head" => Call::new("HEAD", "/alpha/kept"),
            "delete" => Call::new("DELETE", "/alpha/kept"),
            "list" => Call::new("GET", "/alpha").query("list-type", "2"),
            "copy" => Call::new("PUT", "/alpha/copied").header("x-amz-copy-source", "/alpha/other"),
            "part" => part("/alpha/up").body("part"),
            "part copy" => part("/alpha/up").header("x-amz-copy-source", "/alpha/other"),
            "delete many" => Call::new("POST", "/alpha")
                .query("delete", "")
                .body("<Delete><Object><Key>kept</Key></Object></Delete>"),
            "policy" => Call::new("PUT", "/alpha").query("policy", "").body(PUBLIC_READ),
            _ => unreachable!("{operation}"),
        }
    }

    fn alice(&self) -> Signer {
        self.world.signer(&self.world.alice)
    }

    fn later(&self, minutes: i64) -> Signer {
        let signer = self.alice();
        Signer { at: signer.at + Duration::minutes(minutes), ..signer }
    }
}

const PUBLIC_READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::alpha/*"}]}"#;

/// Who refuses: the door, before the store is asked, or the store, who asks identity.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Door,
    Store,
}

type Make = fn(&Stage, Call) -> Call;

/// Signed for one method, sent with another.
fn with_method(call: Call, sign: impl FnOnce(Call) -> Call) -> Call {
    let method = call.method;
    let signed = sign(Call { method: if method == "GET" { "PUT" } else { "GET" }, ..call });
    Call { method, ..signed }
}

/// Signed for one path, sent to another.
fn with_path(call: Call, sign: impl FnOnce(Call) -> Call) -> Call {
    let path = call.path.clone();
    let signed = sign(Call { path: "/alpha/elsewhere".to_owned(), ..call });
    Call { path, ..signed }
}

fn elsewhere(signer: Signer) -> Signer {
    Signer { host: "elsewhere.test".to_owned(), ..signer }
}

fn wrong_secret(mut signer: Signer) -> Signer {
    signer.key.secret = signer.key.secret.chars().rev().collect();
    signer
}

fn wrong_key(mut signer: Signer) -> Signer {
    "AKIAAAAAAAAAAAAAAAAA".clone_into(&mut signer.key.id);
    signer
}

/// The auth states that are refused, with the answer for every operation. A HEAD has no body to name a code.
const REFUSED: &[(&str, Make, By, &str)] = &[
    ("anonymous", |_, call| call, By::Store, "403 AccessDenied"),
    ("somebody else", |s, call| s.world.signer(&s.world.bob).header(call), By::Store, "403 AccessDenied"),
    ("unknown key", |s, call| wrong_key(s.alice()).header(call), By::Door, "403 InvalidAccessKeyId"),
    ("wrong secret", |s, call| wrong_secret(s.alice()).header(call), By::Door, "403 SignatureDoesNotMatch"),
    ("20 min slow", |s, call| s.later(-20).header(call), By::Door, "403 RequestTimeTooSkewed"),
    ("20 min fast", |s, call| s.later(20).header(call), By::Door, "403 RequestTimeTooSkewed"),
    ("other method", |s, c| with_method(c, |c| s.alice().header(c)), By::Door, "403 SignatureDoesNotMatch"),
    ("other path", |s, c| with_path(c, |c| s.alice().header(c)), By::Door, "403 SignatureDoesNotMatch"),
    ("other host", |s, call| elsewhere(s.alice()).header(call), By::Door, "403 SignatureDoesNotMatch"),
    (
        "more query than signed",
        |s, call| s.alice().header(call).query("versionId", "null"),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "unsigned x-amz header",
        |s, call| s.alice().header(call).header("x-amz-meta-a", "1"),
        By::Door,
        "403 AccessDenied",
    ),
    (
        "unsigned copy source",
        |s, call| s.alice().header(sourceless(call)).header("x-amz-copy-source", "/beta/private"),
        By::Door,
        "403 AccessDenied",
    ),
    ("two Authorization headers", |s, call| twice(s, call), By::Door, "400 InvalidArgument"),
    ("header and query", |s, c| s.alice().header(s.alice().presign(c, 60)), By::Door, "400 InvalidArgument"),
    ("bearer", |_, call| call.header("authorization", "Bearer abc"), By::Door, "403 AccessDenied"),
    ("SigV2 header", |s, call| v2(s, call, sign::v2_header), By::Door, "403 AccessDenied"),
    ("SigV2 query", |s, call| v2(s, call, sign::v2_query), By::Door, "403 AccessDenied"),
    ("presigned, expired", |s, call| s.later(-2).presign(call, 60), By::Door, "403 AccessDenied"),
    ("presigned, not yet", |s, call| s.later(20).presign(call, 60), By::Door, "403 RequestTimeTooSkewed"),
    (
        "presigned, 8 days",
        |s, call| s.alice().presign(call, 8 * DAY),
        By::Door,
        "400 AuthorizationQueryParametersError",
    ),
    (
        "presigned, 0 s",
        |s, call| s.alice().presign(call, 0),
        By::Door,
        "400 AuthorizationQueryParametersError",
    ),
    (
        "presigned, a year",
        |s, call| s.alice().presign(call, 365 * DAY),
        By::Door,
        "400 AuthorizationQueryParametersError",
    ),
    (
        "presigned, unknown key",
        |s, call| wrong_key(s.alice()).presign(call, 60),
        By::Door,
        "403 InvalidAccessKeyId",
    ),
    (
        "presigned, wrong secret",
        |s, call| wrong_secret(s.alice()).presign(call, 60),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, other method",
        |s, c| with_method(c, |c| s.alice().presign(c, 60)),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, other path",
        |s, c| with_path(c, |c| s.alice().presign(c, 60)),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, other host",
        |s, call| elsewhere(s.alice()).presign(call, 60),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, more query",
        |s, call| s.alice().presign(call, 60).query("x-amz-meta-a", "1"),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, longer than signed",
        |s, call| relived(s.alice().presign(call, 60)),
        By::Door,
        "403 SignatureDoesNotMatch",
    ),
    (
        "presigned, unsigned header",
        |s, call| s.alice().presign(call, 60).header("x-amz-meta-a", "1"),
        By::Door,
        "403 AccessDenied",
    ),
    (
        "presigned, unsigned copy source",
        |s, call| s.alice().presign(sourceless(call), 60).header("x-amz-copy-source", "/beta/private"),
        By::Door,
        "403 AccessDenied",
    ),
    ("presigned, host unsigned", |s, call| hostless(s, call), By::Door, "403 AccessDenied"),
    (
        "presigned by half",
        |s, call| call.query("X-Amz-Credential", &s.world.alice.key.id),
        By::Door,
        "400 AuthorizationQueryParametersError",
    ),
];

/// Without the copy source it has by itself.
fn sourceless(mut call: Call) -> Call {
    call.set("x-amz-copy-source", None);
    call
}

fn twice(stage: &Stage, call: Call) -> Call {
    let signed = stage.alice().header(call);
    let value = signed.headers.iter().find(|(name, _)| name == "authorization").unwrap().1.clone();
    signed.header("authorization", &value)
}

fn v2(stage: &Stage, call: Call, sign: fn(Call, &sign::Key, OffsetDateTime) -> Call) -> Call {
    sign(call, &stage.world.alice.key, OffsetDateTime::now_utc())
}

/// A presigned URL whose life was lengthened by hand.
fn relived(mut call: Call) -> Call {
    for (name, value) in &mut call.query {
        if name == "X-Amz-Expires" {
            "600".clone_into(value);
        }
    }
    call
}

/// Presigned over the headers there are, the host left out.
fn hostless(stage: &Stage, call: Call) -> Call {
    let mut headers: Vec<_> = call.headers.clone();
    headers.push(("accept".to_owned(), "*/*".to_owned()));
    headers.sort();
    let call = call.header("accept", "*/*");
    stage.alice().presign_with(call, 60, &headers)
}

/// What a cell is expected to answer: a HEAD has no body, and DeleteObjects tells of each key in a 200.
fn cell(operation: &str, by: By, answer: &'static str) -> &'static str {
    match (operation, by) {
        ("head", _) => answer.split(' ').next().unwrap(),
        ("delete many", By::Store) => "200 AccessDenied",
        _ => answer,
    }
}

#[tokio::test]
async fn every_refused_auth_state_is_refused_for_every_operation() {
    let stage = Stage::new().await;
    let before = stage.world.stored().await;
    for (state, make, by, answer) in REFUSED {
        for operation in OPERATIONS {
            let asked = stage.world.asked();
            let call = make(&stage, stage.call(operation));
            let found = call.send(stage.world.address).await;
            assert_eq!(
                found.verdict(),
                cell(operation, *by, answer),
                "{state} × {operation}: {}",
                found.text()
            );
            assert!(found.header("x-amz-request-id").is_some(), "{state} × {operation}");
            let reached = stage.world.asked() != asked;
            assert_eq!(reached, *by == By::Store, "{state} × {operation}: reached the store");
        }
        assert_eq!(stage.world.stored().await, before, "{state} has changed something");
    }
}

/// The auth states that are right, with the answer of each operation: what is refused above is refused for its state.
#[tokio::test]
async fn every_right_auth_state_is_let_in_for_every_operation() {
    let states: [(&str, Make); 4] = [
        ("header", |s, call| s.alice().header(call)),
        ("header, unsigned payload", |s, call| s.alice().header_unsigned(call)),
        ("presigned", |s, call| s.alice().presign(call, 60)),
        ("presigned for a week, by a clock 14 min fast", |s, call| s.later(14).presign(call, 7 * DAY)),
    ];
    let expected = ["200", "200", "200", "204", "200", "200", "200", "200", "200", "200"];
    for (state, make) in states {
        let stage = Stage::new().await;
        for (operation, expected) in OPERATIONS.into_iter().zip(expected) {
            let found = make(&stage, stage.call(operation)).send(stage.world.address).await;
            let is_policy = operation == "policy" && found.status == 204;
            assert!(
                found.status.to_string() == expected || is_policy,
                "{state} × {operation}: {}",
                found.text()
            );
        }
    }
}

/// Ways a body travels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Hashed,
    Unsigned,
    SignedChunks,
    SignedTrailer,
    UnsignedTrailer,
    Presigned,
}

const MODES: [Mode; 6] = [
    Mode::Hashed,
    Mode::Unsigned,
    Mode::SignedChunks,
    Mode::SignedTrailer,
    Mode::UnsignedTrailer,
    Mode::Presigned,
];

/// 200 KiB that do not repeat, over several chunks and the inline limit.
fn payload() -> Vec<u8> {
    (0..200 * 1024_u32)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_be_bytes().into_iter().take(1))
        .collect()
}

fn crc32(data: &[u8]) -> String {
    use base64::Engine as _;
    let value = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, data);
    base64::engine::general_purpose::STANDARD.encode(u32::try_from(value).unwrap().to_be_bytes())
}

impl Mode {
    fn sign(self, signer: &Signer, call: Call) -> Call {
        let sum = crc32(&call.body);
        match self {
            Self::Hashed => signer.header(call),
            Self::Unsigned => signer.header_unsigned(call),
            Self::SignedChunks => signer.chunks(call, 64 * 1024, None),
            Self::SignedTrailer => signer.chunks(call, 64 * 1024, Some(("x-amz-checksum-crc32", &sum))),
            Self::UnsignedTrailer => signer.unsigned_chunks(call, ("x-amz-checksum-crc32", &sum)),
            Self::Presigned => signer.presign(call, 60),
        }
    }

    fn is_framed(self) -> bool {
        matches!(self, Self::SignedChunks | Self::SignedTrailer | Self::UnsignedTrailer)
    }
}

#[tokio::test]
async fn bodies_of_every_mode_arrive_whole_or_not_at_all() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let target = |operation: &str| Call { body: payload(), ..stage.call(operation) };
    for operation in ["put", "part"] {
        for mode in MODES {
            let before = world.stored().await;
            let refuse = async |state: &str, call: Call, expected: &str| {
                let found = call.send(world.address).await;
                assert_eq!(found.verdict(), expected, "{operation} × {mode:?} × {state}: {}", found.text());
                assert_eq!(
                    world.stored().await,
                    before,
                    "{operation} × {mode:?} × {state}: something is stored"
                );
            };
            refuse(
                "unknown key",
                mode.sign(&wrong_key(stage.alice()), target(operation)),
                "403 InvalidAccessKeyId",
            )
            .await;
            let wrong = wrong_secret(stage.alice());
            refuse("wrong secret", mode.sign(&wrong, target(operation)), "403 SignatureDoesNotMatch").await;
            refuse(
                "somebody else",
                mode.sign(&world.signer(&world.bob), target(operation)),
                "403 AccessDenied",
            )
            .await;
            let late = if mode == Mode::Presigned { "403 AccessDenied" } else { "403 RequestTimeTooSkewed" };
            refuse("20 min slow", mode.sign(&stage.later(-20), target(operation)), late).await;
            let header = mode.sign(&stage.alice(), target(operation)).header("x-amz-meta-a", "1");
            refuse("unsigned header", header, "403 AccessDenied").await;
            // the signature taken away, the way of sending kept
            let mut bare = mode.sign(&stage.alice(), target(operation));
            bare.set("authorization", None);
            bare.query.retain(|(name, _)| !name.starts_with("X-Amz-"));
            let without = if mode.is_framed() { "501 NotImplemented" } else { "403 AccessDenied" };
            refuse("anonymous", bare, without).await;
            // half of the body
            let mut short = mode.sign(&stage.alice(), target(operation));
            if mode.is_framed() {
                short.body.truncate(100_000);
                refuse("half a body", short, "400 IncompleteBody").await;
            }
            let good = mode.sign(&stage.alice(), target(operation)).send(world.address).await;
            assert_eq!(good.verdict(), "200", "{operation} × {mode:?}: {}", good.text());
            if operation == "put" {
                let read = world.ok(Call::new("GET", "/alpha/new")).await;
                assert_eq!(read.body, payload(), "{mode:?}");
                assert_eq!(
                    read.header("content-encoding"),
                    None,
                    "{mode:?}: a way of sending is no encoding"
                );
                world.ok(Call::new("DELETE", "/alpha/new")).await;
            }
        }
    }
}

#[tokio::test]
async fn bytes_changed_on_the_way_are_not_stored() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let put = || Call { body: payload(), ..stage.call("put") };
    let flip = |mut call: Call, at: usize| {
        call.body[at] ^= 1;
        call
    };
    let alice = stage.alice();
    let sum = crc32(&payload());
    let wrong = crc32(b"else");
    let trailer = |call: Call, from: &str, to: &str| {
        let text = String::from_utf8_lossy(&call.body).into_owned();
        let at = text
            .rfind(from)
            .map(|_| call.body.windows(from.len()).rposition(|w| w == from.as_bytes()).unwrap());
        let at = at.unwrap();
        let mut call = call;
        call.body.splice(at..at + from.len(), to.bytes());
        call
    };
    let cells: Vec<(&str, Call, &str)> = vec![
        ("hash", flip(alice.header(put()), 5), "400 XAmzContentSHA256Mismatch"),
        ("signed chunk", flip(alice.chunks(put(), 65_536, None), 500), "403 SignatureDoesNotMatch"),
        ("second signed chunk", flip(alice.chunks(put(), 65_536, None), 70_000), "403 SignatureDoesNotMatch"),
        (
            "signed trailer",
            trailer(alice.chunks(put(), 65_536, Some(("x-amz-checksum-crc32", &sum))), &sum, &wrong),
            "403 SignatureDoesNotMatch",
        ),
        (
            "wrong checksum in a signed trailer",
            alice.chunks(put(), 65_536, Some(("x-amz-checksum-crc32", &wrong))),
            "400 BadDigest",
        ),
        (
            "unsigned chunk",
            flip(alice.unsigned_chunks(put(), ("x-amz-checksum-crc32", &sum)), 500),
            "400 BadDigest",
        ),
        (
            "wrong checksum in an unsigned trailer",
            alice.unsigned_chunks(put(), ("x-amz-checksum-crc32", &wrong)),
            "400 BadDigest",
        ),
        (
            "another trailer than announced",
            trailer(
                alice.unsigned_chunks(put(), ("x-amz-checksum-crc32", &sum)),
                "x-amz-checksum-crc32",
                "x-amz-checksum-crc3x",
            ),
            "400 MalformedTrailerError",
        ),
        (
            "Content-MD5",
            alice.header(put().header("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")),
            "400 BadDigest",
        ),
        ("Content-MD5 that is none", alice.header(put().header("content-md5", "x")), "400 InvalidDigest"),
        ("checksum header", alice.header(put().header("x-amz-checksum-crc32", &wrong)), "400 BadDigest"),
        (
            "checksum that is none",
            alice.header(put().header("x-amz-checksum-crc32", "x")),
            "400 InvalidRequest",
        ),
        (
            "two checksums",
            alice.header(put().header("x-amz-checksum-crc32", &sum).header("x-amz-checksum-crc32c", &sum)),
            "400 InvalidRequest",
        ),
        (
            "unknown algorithm",
            alice.header(put().header("x-amz-checksum-xxhash3", "AAAAAAAAAAA=")),
            "501 NotImplemented",
        ),
        (
            "a signed chunk over the limit",
            alice.chunks(Call { body: vec![0; 3 << 20], ..put() }, 3 << 20, None),
            "400 EntityTooLarge",
        ),
        (
            "presigned, streaming payload",
            alice.presign(put().header("x-amz-content-sha256", sign::SIGNED_CHUNKS), 60),
            "501 NotImplemented",
        ),
        (
            "presigned, wrong hash in the header",
            alice.presign(put().header("x-amz-content-sha256", &sign::sha256_hex(b"else")), 60),
            "400 XAmzContentSHA256Mismatch",
        ),
    ];
    let before = world.stored().await;
    for (what, call, expected) in cells {
        let found = call.send(world.address).await;
        assert_eq!(found.verdict(), expected, "{what}: {}", found.text());
        assert_eq!(world.stored().await, before, "{what}: something is stored");
    }
}

fn form(key: &str, file: &[u8]) -> Form {
    Form::new("alpha", key, file)
}

#[tokio::test]
async fn forms() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (alice, hour) = (stage.alice(), Duration::hours(1));
    let wrong = wrong_secret(stage.alice());
    let bob = world.signer(&world.bob);
    let unfielded = form("posted", b"x").sign(&alice, hour, 9).field("x-amz-meta-a", "1");
    let mut renamed = form("posted", b"x").sign(&alice, hour, 9);
    "elsewhere".clone_into(&mut renamed.fields[0].1);
    let mut tampered = form("posted", b"x").sign(&alice, hour, 9);
    for (name, value) in &mut tampered.fields {
        if name == "policy" {
            // "expiration" one letter later: another policy than was signed
            value.replace_range(4..5, if &value[4..5] == "A" { "B" } else { "A" });
        }
    }
    let unlong = Call { is_chunked: true, ..form("posted", b"x").sign(&alice, hour, 9).call() };
    let mut beta = form("posted", b"x").sign(&alice, hour, 9).call();
    "/beta".clone_into(&mut beta.path);
    let cells: Vec<(&str, Call, &[&str])> = vec![
        ("unsigned", form("posted", b"x").call(), &["403 AccessDenied"]),
        ("wrong secret", form("posted", b"x").sign(&wrong, hour, 9).call(), &["403 SignatureDoesNotMatch"]),
        ("somebody else", form("posted", b"x").sign(&bob, hour, 9).call(), &["403 AccessDenied"]),
        ("expired", form("posted", b"x").sign(&alice, -hour, 9).call(), &["403 AccessDenied"]),
        ("too large", form("posted", b"0123456789").sign(&alice, hour, 9).call(), &["400 EntityTooLarge"]),
        ("a field not in the policy", unfielded.call(), &["403 AccessDenied"]),
        ("another key", renamed.call(), &["400 InvalidPolicyDocument", "403 AccessDenied"]),
        ("another policy", tampered.call(), &["403 SignatureDoesNotMatch", "400 InvalidPolicyDocument"]),
        ("another bucket", beta, &["400 InvalidPolicyDocument", "403 AccessDenied"]),
        ("no length", unlong, &["411 MissingContentLength"]),
    ];
    let before = world.stored().await;
    for (what, call, expected) in cells {
        let found = call.send(world.address).await;
        assert!(expected.contains(&found.verdict().as_str()), "{what}: {} {}", found.verdict(), found.text());
        assert_eq!(world.stored().await, before, "{what}: something is stored");
    }
    let good = form("posted", b"by form").field("x-amz-meta-a", "1").field("success_action_status", "201");
    let found = good.sign(&alice, hour, 9).call().send(world.address).await;
    assert_eq!(found.status, 201, "{}", found.text());
    let read = world.ok(Call::new("GET", "/alpha/posted")).await;
    assert_eq!((read.text().as_str(), read.header("x-amz-meta-a")), ("by form", Some("1")));
}

/// The canary: the matrix above on a door without the guard. Where the answer is another, or comes from the store, the
/// guard alone holds the door; everywhere else s3s refuses as well, and one that no longer does shows here.
#[tokio::test]
async fn without_the_guard() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let mut differ = Vec::new();
    for (state, make, by, answer) in REFUSED {
        let asked = world.asked();
        let signed = make(&stage, stage.call("get"));
        let host = Some(world.address.to_string());
        let found = Call { host, ..signed }.send(world.unguarded).await.verdict();
        let reached = if world.asked() == asked { By::Door } else { By::Store };
        if (found.as_str(), reached) != (*answer, *by) {
            differ.push((*state, found, reached));
        }
    }
    let expected = [
        // taken for no header at all: who signs twice is anonymous
        ("two Authorization headers", "403 AccessDenied", By::Store),
        ("header and query", "403 AccessDenied", By::Door),
        ("bearer", "400 InvalidRequest", By::Door),
        ("presigned, 0 s", "403 AccessDenied", By::Door),
        // let in: in virtual-host style it could be aimed at another bucket
        ("presigned, host unsigned", "200", By::Store),
        // taken for no signature at all
        ("presigned by half", "403 AccessDenied", By::Store),
    ];
    assert_eq!(differ, expected.map(|(state, answer, by)| (state, answer.to_owned(), by)));
    // frames nobody takes off would be stored as content where a policy lets anonymous writers in
    let policy = PUBLIC_READ.replace("s3:GetObject", "s3:PutObject");
    world.ok(Call::new("PUT", "/alpha").query("policy", "").body(policy)).await;
    let mut framed = stage.call("put");
    let sum = crc32(&framed.body);
    sign::frame_unsigned(&mut framed, ("x-amz-checksum-crc32", &sum));
    framed.set("x-amz-content-sha256", Some(sign::UNSIGNED_TRAILER));
    assert_eq!(framed.send(world.address).await.verdict(), "501 NotImplemented");
    assert_eq!(framed.send(world.unguarded).await.verdict(), "200", "open without the guard");
    let read = world.ok(Call::new("GET", "/alpha/new")).await;
    assert_ne!(read.text(), "new", "that is what the guard is for");
    // a form of unknown length would be gathered in memory
    let unlong =
        Call { is_chunked: true, ..form("posted", b"x").sign(&stage.alice(), Duration::hours(1), 9).call() };
    assert_eq!(unlong.send(world.unguarded).await.status, 204, "open without the guard");
}

/// A key that is no longer one, and a person who is no longer let in.
#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let get = || Call::new("GET", "/alpha/kept");
    assert_eq!(world.alice(get()).await.status, 200);
    disable(world, &world.alice, true).await;
    assert_eq!(world.alice(get()).await.verdict(), "403 InvalidAccessKeyId");
    disable(world, &world.alice, false).await;
    assert_eq!(world.alice(get()).await.status, 200);
}

async fn disable(world: &World, person: &Person, is_disabled: bool) {
    world.identity.disable_user(&crate::support::server::system(), person.id, is_disabled).await.unwrap();
}

/// The owner a caller expects is compared, for the bucket and for the source of a copy.
#[tokio::test]
async fn expected_owners() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let (alice, bob) = (world.alice.id.to_string(), world.bob.id.to_string());
    let get = |owner: &str| Call::new("GET", "/alpha/kept").header("x-amz-expected-bucket-owner", owner);
    assert_eq!(world.alice(get(&alice)).await.verdict(), "200");
    assert_eq!(world.alice(get(&bob)).await.verdict(), "403 AccessDenied");
    let copy = |owner: &str| stage.call("copy").header("x-amz-source-expected-bucket-owner", owner);
    assert_eq!(world.alice(copy(&bob)).await.verdict(), "403 AccessDenied");
    assert_eq!(world.alice(copy(&alice)).await.verdict(), "200");
}

/// Copies ask for both ends: what one may not read one may not copy, in any of the ways to copy.
#[tokio::test]
async fn copies_of_what_is_not_ones_own() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let before = world.stored().await;
    for operation in ["copy", "part copy"] {
        for source in
            ["/beta/private", "beta/private", "/beta/private?versionId=null", "/alpha/../beta/private"]
        {
            let mut call = stage.call(operation);
            call.set("x-amz-copy-source", Some(source));
            let found = world.alice(call).await;
            assert!(matches!(found.status, 403 | 404), "{operation} of {source}: {}", found.verdict());
            assert_eq!(world.stored().await, before, "{operation} of {source}");
        }
        // and into somebody else's bucket
        let mut call = stage.call(operation);
        call.path = call.path.replace("/alpha", "/beta");
        let found = world.alice(call).await;
        assert_eq!(found.status, 403, "{operation} into beta: {}", found.verdict());
    }
}
