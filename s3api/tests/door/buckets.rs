//! Buckets and their settings as clients meet them.

use crate::support::server::World;
use crate::support::wire::Call;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::alpha/public/*"}]}"#;

async fn world() -> World {
    let world = World::new().await;
    let made = world.ok(Call::new("PUT", "/alpha")).await;
    assert_eq!(made.header("location"), Some("/alpha"));
    world
}

#[tokio::test]
async fn a_bucket_is_made_found_and_removed() {
    let world = world().await;
    let head = world.ok(Call::new("HEAD", "/alpha")).await;
    assert_eq!(head.header("x-amz-bucket-region"), Some("us-east-1"));
    let location = world.ok(Call::new("GET", "/alpha").query("location", "")).await;
    assert_eq!(location.xml("LocationConstraint").unwrap_or_default(), "", "us-east-1 has no name");
    let again = world.alice(Call::new("PUT", "/alpha")).await;
    assert_eq!(again.verdict(), "409 BucketAlreadyOwnedByYou");
    assert_eq!(world.bob(Call::new("PUT", "/alpha")).await.verdict(), "409 BucketAlreadyExists");
    assert_eq!(world.bob(Call::new("HEAD", "/alpha")).await.verdict(), "403");
    assert_eq!(world.alice(Call::new("HEAD", "/nowhere")).await.verdict(), "404");
    assert_eq!(world.alice(Call::new("GET", "/nowhere")).await.verdict(), "404 NoSuchBucket");
    for bad in ["ab", "Upper", "a..b", "192.168.0.1"] {
        let found = world.alice(Call::new("PUT", &format!("/{bad}"))).await;
        assert_eq!(found.verdict(), "400 InvalidBucketName", "{bad}");
    }
    world.ok(Call::new("PUT", "/alpha/a").body("1")).await;
    assert_eq!(world.alice(Call::new("DELETE", "/alpha")).await.verdict(), "409 BucketNotEmpty");
    world.ok(Call::new("DELETE", "/alpha/a")).await;
    assert_eq!(world.alice(Call::new("DELETE", "/alpha")).await.status, 204);
    assert_eq!(world.alice(Call::new("HEAD", "/alpha")).await.status, 404);
}

#[tokio::test]
async fn buckets_are_listed_in_pages() {
    let world = world().await;
    for name in ["alpha2", "beta1", "beta2"] {
        world.ok(Call::new("PUT", &format!("/{name}"))).await;
    }
    let all = world.ok(Call::new("GET", "/")).await;
    let built_in = ["companies", "files", "gateway", "media"];
    assert_eq!(all.xml_all("Name"), [&["alpha", "alpha2", "beta1", "beta2"][..], &built_in].concat());
    assert_eq!(all.xml("ID").unwrap(), world.alice.id.to_string());
    let first = world.ok(Call::new("GET", "/").query("max-buckets", "3")).await;
    assert_eq!(first.xml_all("Name"), ["alpha", "alpha2", "beta1"]);
    let token = first.xml("ContinuationToken").unwrap();
    let next =
        world.ok(Call::new("GET", "/").query("max-buckets", "3").query("continuation-token", &token)).await;
    assert_eq!(next.xml_all("Name"), ["beta2", "companies", "files"]);
    let token = next.xml("ContinuationToken").unwrap();
    let last = world.ok(Call::new("GET", "/").query("continuation-token", &token)).await;
    assert_eq!(
        (last.xml_all("Name"), last.xml("ContinuationToken")),
        (vec!["gateway".into(), "media".into()], None)
    );
    let prefix = world.ok(Call::new("GET", "/").query("prefix", "beta")).await;
    assert_eq!(prefix.xml_all("Name"), ["beta1", "beta2"]);
    assert_eq!(world.bob(Call::new("GET", "/")).await.xml_all("Name"), built_in, "not alice's");
    assert_eq!(
        world.alice(Call::new("GET", "/").query("max-buckets", "0")).await.verdict(),
        "400 InvalidArgument"
    );
    assert_eq!(world.anonymous(Call::new("GET", "/")).await.verdict(), "403 AccessDenied");
}

#[tokio::test]
async fn a_bucket_in_the_host() {
    let world = world().await;
    let host = |mut call: Call, host: &str| {
        call.host = Some(host.to_owned());
        call
    };
    let put = host(Call::new("PUT", "/in/host").body("1"), "alpha.s3.test");
    assert_eq!(world.alice(put).await.status, 200);
    let read = world.alice(host(Call::new("GET", "/in/host"), "alpha.s3.test:9000")).await;
    assert_eq!(read.text(), "1");
    assert_eq!(world.ok(Call::new("GET", "/alpha/in/host")).await.text(), "1", "the same object");
    let list = world.alice(host(Call::new("GET", "/"), "alpha.s3.test")).await;
    assert_eq!(list.xml_all("Key"), ["in/host"]);
    let path = world.alice(host(Call::new("GET", "/alpha/in/host"), "s3.test")).await;
    assert_eq!(path.text(), "1", "the domain itself is path style");
    let foreign = world.alice(host(Call::new("GET", "/alpha/in/host"), "localhost")).await;
    assert_eq!(foreign.text(), "1", "and so is every other host");
}

#[tokio::test]
async fn versioning() {
    let world = world().await;
    let status = async || world.ok(Call::new("GET", "/alpha").query("versioning", "")).await.xml("Status");
    let put = |status: &str| {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        Call::new("PUT", "/alpha").query("versioning", "").body(body)
    };
    assert_eq!(status().await, None);
    world.ok(put("Enabled")).await;
    assert_eq!(status().await.as_deref(), Some("Enabled"));
    world.ok(put("Suspended")).await;
    assert_eq!(status().await.as_deref(), Some("Suspended"));
    assert_eq!(world.alice(put("Off")).await.verdict(), "400 IllegalVersioningConfigurationException");
    assert_eq!(world.bob(put("Enabled")).await.verdict(), "403 AccessDenied");
}

#[tokio::test]
async fn tagging() {
    let world = world().await;
    let get = || Call::new("GET", "/alpha").query("tagging", "");
    assert_eq!(world.alice(get()).await.verdict(), "404 NoSuchTagSet");
    let body = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    world.ok(Call::new("PUT", "/alpha").query("tagging", "").body(body)).await;
    let found = world.ok(get()).await;
    assert_eq!((found.xml("Key").unwrap(), found.xml("Value").unwrap()), ("a".into(), "1".into()));
    world.ok(Call::new("DELETE", "/alpha").query("tagging", "")).await;
    assert_eq!(world.alice(get()).await.verdict(), "404 NoSuchTagSet");
}

#[tokio::test]
async fn a_policy_opens_what_it_names() {
    let world = world().await;
    world.ok(Call::new("PUT", "/alpha/public/a").body("open")).await;
    world.ok(Call::new("PUT", "/alpha/private").body("shut")).await;
    let policy = || Call::new("GET", "/alpha").query("policy", "");
    assert_eq!(world.alice(policy()).await.verdict(), "404 NoSuchBucketPolicy");
    let bad = Call::new("PUT", "/alpha").query("policy", "").body("{}");
    assert_eq!(world.alice(bad).await.verdict(), "400 MalformedPolicy");
    world.ok(Call::new("PUT", "/alpha").query("policy", "").body(POLICY)).await;
    assert_eq!(world.ok(policy()).await.text(), POLICY);
    let status = world.ok(Call::new("GET", "/alpha").query("policyStatus", "")).await;
    assert_eq!(status.xml("IsPublic").unwrap().to_lowercase(), "true");
    let get = async |key: &str| world.anonymous(Call::new("GET", &format!("/alpha/{key}"))).await.verdict();
    assert_eq!(get("public/a").await, "200");
    assert_eq!(get("private").await, "403 AccessDenied");
    assert_eq!(
        get("public/none").await,
        "403 AccessDenied",
        "no ListBucket, so not even that it is not there"
    );
    assert_eq!(world.anonymous(Call::new("GET", "/alpha")).await.verdict(), "403 AccessDenied");
    assert_eq!(
        world.anonymous(Call::new("PUT", "/alpha/public/b").body("x")).await.verdict(),
        "403 AccessDenied"
    );
    let overridden = Call::new("GET", "/alpha/public/a").query("response-content-type", "text/html");
    assert_eq!(world.anonymous(overridden).await.verdict(), "400 InvalidRequest");
    // blocked, it says the same and opens nothing
    let block = "<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy>\
                 <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    world.ok(Call::new("PUT", "/alpha").query("publicAccessBlock", "").body(block)).await;
    assert_eq!(get("public/a").await, "403 AccessDenied");
    let status = world.ok(Call::new("GET", "/alpha").query("policyStatus", "")).await;
    assert_eq!(status.xml("IsPublic").unwrap().to_lowercase(), "false");
    let again = Call::new("PUT", "/alpha").query("policy", "").body(POLICY);
    assert_eq!(world.alice(again).await.verdict(), "403 AccessDenied");
    let found = world.ok(Call::new("GET", "/alpha").query("publicAccessBlock", "")).await;
    assert_eq!(found.xml("BlockPublicPolicy").unwrap(), "true");
    world.ok(Call::new("DELETE", "/alpha").query("publicAccessBlock", "")).await;
    assert_eq!(get("public/a").await, "200");
    world.ok(Call::new("DELETE", "/alpha").query("policy", "")).await;
    assert_eq!(get("public/a").await, "403 AccessDenied");
}

/// What clients ask on their way gets a true answer, and what is not there says so.
#[tokio::test]
async fn settings_that_are_not_there_yet() {
    let world = world().await;
    world.ok(Call::new("PUT", "/alpha/a").body("1")).await;
    let owner = world.alice.id.to_string();
    for path in ["/alpha", "/alpha/a"] {
        let acl = world.ok(Call::new("GET", path).query("acl", "")).await;
        assert_eq!(acl.xml_all("ID"), [owner.clone(), owner.clone()], "{path}");
        assert_eq!(acl.xml("Permission").unwrap(), "FULL_CONTROL");
        let private = Call::new("PUT", path).query("acl", "").header("x-amz-acl", "private");
        world.ok(private).await;
        let public = Call::new("PUT", path).query("acl", "").header("x-amz-acl", "public-read");
        assert_eq!(world.alice(public).await.verdict(), "400 AccessControlListNotSupported");
        // what was read may be written back; nothing else, in a document as in a header
        let write = |document: &str| Call::new("PUT", path).query("acl", "").body(document);
        world.ok(write(&acl.text())).await;
        let others = [
            acl.text().replace(&owner, &world.bob.id.to_string()),
            acl.text().replace("FULL_CONTROL", "READ"),
            acl.text().replacen(&owner, &world.bob.id.to_string(), 1),
            "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>".to_owned(),
        ];
        for other in &others {
            let verdict = world.alice(write(other)).await.verdict();
            assert_eq!(verdict, "400 AccessControlListNotSupported", "{path} {other}");
        }
        assert_eq!(world.bob(write(&others[0])).await.status, 403);
    }
    let cells = [
        ("cors", "404 NoSuchCORSConfiguration"),
        ("lifecycle", "404 NoSuchLifecycleConfiguration"),
        ("website", "404 NoSuchWebsiteConfiguration"),
        ("encryption", "404 ServerSideEncryptionConfigurationNotFoundError"),
        ("replication", "404 ReplicationConfigurationNotFoundError"),
        ("object-lock", "404 ObjectLockConfigurationNotFoundError"),
        ("logging", "200"),
        ("notification", "200"),
        ("accelerate", "200"),
        ("requestPayment", "200"),
        ("ownershipControls", "200"),
        ("inventory", "501 NotImplemented"),
        ("analytics", "501 NotImplemented"),
    ];
    for (setting, expected) in cells {
        let mut call = Call::new("GET", "/alpha").query(setting, "");
        if matches!(setting, "inventory" | "analytics") {
            call = call.query("id", "1");
        }
        assert_eq!(world.alice(call).await.verdict(), expected, "{setting}");
        let found = world.anonymous(Call::new("GET", "/alpha").query(setting, "").query("id", "1")).await;
        assert!(matches!(found.status, 403 | 501), "{setting} for anyone: {}", found.verdict());
    }
    let put = Call::new("PUT", "/alpha").query("cors", "").body("<CORSConfiguration></CORSConfiguration>");
    assert!(world.alice(put).await.status >= 400, "a rule that is not kept is not acknowledged");
}

/// What is no region's name is answered with the one to sign for: s3cmd begins with `US` and signs again.
#[tokio::test]
async fn a_region_that_is_none_is_answered_with_the_right_one() {
    let world = World::new().await;
    for signed in [
        world.signer(&world.alice).header(Call::new("GET", "/")),
        world.signer(&world.alice).presign(Call::new("GET", "/"), 60),
    ] {
        let mut call = signed;
        for (_, value) in call.headers.iter_mut().chain(&mut call.query) {
            *value = value.replace("/us-east-1/", "/US/");
        }
        let answer = call.send(world.address).await;
        assert_eq!(answer.verdict(), "400 AuthorizationHeaderMalformed");
        assert_eq!(answer.xml("Region").as_deref(), Some("us-east-1"), "{}", answer.text());
        assert!(answer.xml("RequestId").is_some() && answer.text().ends_with("</Region></Error>"));
    }
}
