//! Documents as tables: what they let through, what is refused at parse, what is public; and properties.

use coffre_store::Action;
use coffre_store::object::{Bucket, Circumstances, Door, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rules::tests::{bucket, cx, user, user_id, version};

fn name() -> BucketName {
    "bucket".parse().unwrap()
}

fn parsed(document: &Value) -> Policy {
    parse(&document.to_string(), &name()).unwrap_or_else(|e| panic!("{e}: {document}"))
}

/// A document of one statement; `with` replaces or adds fields, null removes.
fn statement(with: Value) -> Value {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
    });
    let Value::Object(with) = with else { panic!("fields expected") };
    for (field, value) in with {
        if value.is_null() {
            statement.as_object_mut().unwrap().remove(&field);
        } else {
            statement[field] = value;
        }
    }
    json!({"Version": "2012-10-17", "Statement": [statement]})
}

fn refusal(document: &Value) -> String {
    match parse(&document.to_string(), &name()) {
        Ok(_) => panic!("accepted: {document}"),
        Err(error) => error.to_string(),
    }
}

/// One question; tests change what they ask about.
#[derive(Clone)]
struct Question {
    who: Principal,
    action: Action,
    key: &'static str,
    existing: Option<Version>,
    facts: Circumstances,
    now_ms: u64,
}

impl Question {
    fn new(who: Principal, action: Action, key: &'static str) -> Self {
        let facts = Circumstances {
            client_address: Some("203.0.113.7".parse().unwrap()),
            ..Circumstances::default()
        };
        Self { who, action, key, existing: None, facts, now_ms: 1_700_000_000_000 }
    }

    fn put_to(&self, policy: &Policy) -> Verdict {
        let mut cx = cx(&self.who, Door::S3);
        cx.circumstances = self.facts.clone().into();
        cx.now_ms = self.now_ms;
        let bucket: Bucket = bucket(Some(1));
        let ask = Ask {
            cx: &cx,
            action: self.action,
            bucket: Some(&bucket),
            key: Some(self.key),
            existing: self.existing.as_ref(),
            initiator: None,
        };
        policy.judge(&ask, false)
    }
}

fn get(key: &'static str) -> Question {
    Question::new(Principal::anonymous(), Action::GetObject, key)
}

/// Whether a condition on an Allow for everybody holds.
#[expect(clippy::needless_pass_by_value, reason = "reads better in tables")]
fn holds(condition: Value, question: &Question) -> bool {
    question.put_to(&parsed(&statement(json!({"Condition": condition})))) == Verdict::Allowed
}

#[test]
fn principals() {
    let arn = |n| format!("arn:aws:iam::123456789012:user/{}", user_id(n));
    let canonical = |n: u8| json!({"CanonicalUser": user_id(n).to_string()});
    let nobody = Principal::anonymous();
    for (principal, who, expected) in [
        (json!({"Principal": "*"}), nobody.clone(), true),
        (json!({"Principal": {"AWS": "*"}}), nobody.clone(), true),
        (json!({"Principal": {"AWS": ["*"]}}), user(1), true),
        (json!({"Principal": {"AWS": arn(1)}}), user(1), true),
        (json!({"Principal": {"AWS": arn(1)}}), user(2), false),
        (json!({"Principal": {"AWS": arn(1)}}), nobody.clone(), false),
        (json!({"Principal": {"AWS": [arn(1), arn(2)]}}), user(2), true),
        (json!({"Principal": {"AWS": format!("arn:aws:iam:::user/{}", user_id(1))}}), user(1), true),
        (json!({"Principal": canonical(1)}), user(1), true),
        (json!({"Principal": canonical(1)}), user(2), false),
        (json!({"Principal": {"AWS": arn(1), "CanonicalUser": user_id(2).to_string()}}), user(2), true),
        (json!({"Principal": null, "NotPrincipal": {"AWS": arn(1)}}), user(1), false),
        (json!({"Principal": null, "NotPrincipal": {"AWS": arn(1)}}), user(2), true),
        (json!({"Principal": null, "NotPrincipal": {"AWS": arn(1)}}), nobody, true),
    ] {
        let policy = parsed(&statement(principal.clone()));
        let got = Question { who: who.clone(), ..get("k") }.put_to(&policy) == Verdict::Allowed;
        assert_eq!(got, expected, "{principal} {who:?}");
    }
}

#[test]
fn actions_and_resources() {
    let all = "arn:aws:s3:::bucket/*";
    for (fields, action, key, expected) in [
        (json!({"Action": "s3:GetObject"}), Action::GetObject, "k", true),
        (json!({"Action": "S3:getobject"}), Action::GetObject, "k", true),
        (json!({"Action": "s3:GetObject"}), Action::GetObjectVersion, "k", false),
        (json!({"Action": "s3:GetObject*"}), Action::GetObjectTagging, "k", true),
        (json!({"Action": "s3:Get?bject"}), Action::GetObject, "k", true),
        (json!({"Action": ["s3:PutObject", "s3:List*"]}), Action::ListBucket, "k", true),
        (json!({"Action": null, "NotAction": "s3:Get*"}), Action::GetObject, "k", false),
        (json!({"Action": null, "NotAction": "s3:Get*"}), Action::PutObject, "k", true),
        (json!({"Resource": all}), Action::ListBucket, "", false),
        (json!({"Resource": "arn:aws:s3:::bucket"}), Action::ListBucket, "", true),
        (json!({"Resource": "arn:aws:s3:::bucket"}), Action::GetObject, "k", false),
        (json!({"Resource": "arn:aws:s3:::*"}), Action::GetObject, "k", true),
        (json!({"Resource": "*"}), Action::GetObject, "k", true),
        (json!({"Resource": "arn:aws:s3:::bucket/a/*"}), Action::GetObject, "a/b/c", true),
        (json!({"Resource": "arn:aws:s3:::bucket/a/*"}), Action::GetObject, "A/b", false),
        (json!({"Resource": "arn:aws:s3:::bucket/a/*"}), Action::GetObject, "ab", false),
        (json!({"Resource": "arn:aws:s3:::bucket/a?"}), Action::GetObject, "aé", true),
        (
            json!({"Resource": null, "NotResource": "arn:aws:s3:::bucket/a/*"}),
            Action::GetObject,
            "a/b",
            false,
        ),
        (json!({"Resource": null, "NotResource": "arn:aws:s3:::bucket/a/*"}), Action::GetObject, "b", true),
        (json!({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"}), Action::GetObject, "user1/a", true),
        (json!({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"}), Action::GetObject, "user2/a", false),
        (json!({"Resource": "arn:aws:s3:::bucket/${*}"}), Action::GetObject, "*", true),
        (json!({"Resource": "arn:aws:s3:::bucket/${*}"}), Action::GetObject, "k", false),
    ] {
        let policy = parsed(&statement(fields.clone()));
        let got = Question::new(user(1), action, key).put_to(&policy) == Verdict::Allowed;
        assert_eq!(got, expected, "{fields} {action:?} {key}");
    }
    let mut old = statement(json!({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"}));
    old["Version"] = "2008-10-17".into();
    let question = Question::new(user(1), Action::GetObject, "user1/a");
    assert_eq!(question.put_to(&parsed(&old)), Verdict::Silent, "no variables before 2012");
    assert_eq!(Question { key: "${aws:username}/a", ..question }.put_to(&parsed(&old)), Verdict::Allowed);
}

#[test]
fn conditions_on_text() {
    let agent = |text: &str| Question {
        facts: Circumstances { user_agent: Some(text.into()), ..get("k").facts },
        ..get("k")
    };
    let none = get("k");
    for (operator, value, with, without) in [
        ("StringEquals", "curl/8", [true, false], false),
        ("StringNotEquals", "curl/8", [false, true], true),
        ("StringEqualsIgnoreCase", "CURL/8", [true, false], false),
        ("StringNotEqualsIgnoreCase", "CURL/8", [false, true], true),
        ("StringLike", "cu*/?", [true, false], false),
        ("StringLike", "CU*", [false, false], false),
        ("StringNotLike", "cu*", [false, true], true),
        ("StringEquals", "cu*", [false, false], false),
        ("StringEqualsIfExists", "curl/8", [true, false], true),
        ("StringNotEqualsIfExists", "curl/8", [false, true], true),
        ("ForAnyValue:StringEquals", "curl/8", [true, false], false),
        ("ForAllValues:StringEquals", "curl/8", [true, false], true),
        ("ForAnyValue:StringNotEquals", "curl/8", [false, true], false),
        ("ForAllValues:StringLike", "curl*", [true, false], true),
    ] {
        for key in ["aws:UserAgent", "AWS:useragent"] {
            let condition = json!({operator: {key: value}});
            assert_eq!(holds(condition.clone(), &agent("curl/8")), with[0], "{condition}");
            assert_eq!(holds(condition.clone(), &agent("wget/1")), with[1], "{condition}");
            assert_eq!(holds(condition.clone(), &none), without, "{condition}");
        }
    }
    let many = json!({"StringEquals": {"aws:UserAgent": ["a", "b"]}});
    assert!(
        holds(many.clone(), &agent("a")) && holds(many.clone(), &agent("b")) && !holds(many, &agent("c"))
    );
    let not_many = json!({"StringNotEquals": {"aws:UserAgent": ["a", "b"]}});
    assert!(!holds(not_many.clone(), &agent("a")) && holds(not_many, &agent("c")));
    // All of several keys and operators have to hold.
    let both = json!({"StringLike": {"aws:UserAgent": "a*", "aws:Referer": "*"}});
    assert!(!holds(both.clone(), &agent("a")));
    let mut referred = agent("a");
    referred.facts.referer = Some("https://example.org/".into());
    assert!(holds(both, &referred));
    assert!(!holds(json!({"StringLike": {"aws:UserAgent": "a*"}, "Null": {"aws:Referer": true}}), &referred));
    assert!(holds(
        json!({"StringLike": {"aws:UserAgent": "a*"}, "Null": {"aws:Referer": "false"}}),
        &referred
    ));
}

#[test]
fn conditions_on_addresses() {
    let from = |address: &str| {
        let mut question = get("k");
        question.facts.client_address = Some(address.parse().unwrap());
        question
    };
    for (range, inside, outside) in [
        ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("0.0.0.0/0", "9.9.9.9", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("203.0.113.0/24", "::ffff:203.0.113.9", "::ffff:203.0.112.9"),
        ("::ffff:203.0.113.0/120", "203.0.113.9", "203.0.112.9"),
        ("::/0", "2001:db8::1", "9.9.9.9"),
    ] {
        let (is, not) =
            (json!({"IpAddress": {"aws:SourceIp": range}}), json!({"NotIpAddress": {"aws:SourceIp": range}}));
        assert!(holds(is.clone(), &from(inside)) && !holds(is, &from(outside)), "{range}");
        assert!(!holds(not.clone(), &from(inside)) && holds(not, &from(outside)), "{range}");
    }
    let mut unknown = get("k");
    unknown.facts.client_address = None;
    assert!(!holds(json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), &unknown));
    assert!(holds(json!({"NotIpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), &unknown));
    for bad in ["1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/+8", "::/129", "1.2.3.4/8/8", "", "example.org"] {
        let reason = refusal(&statement(json!({"Condition": {"IpAddress": {"aws:SourceIp": bad}}})));
        assert!(reason.contains("address"), "{bad}: {reason}");
    }
}

#[test]
fn conditions_on_time_numbers_and_truth() {
    // 2023-11-14T22:13:20Z.
    let now = get("k");
    for (condition, expected) in [
        (json!({"DateGreaterThan": {"aws:CurrentTime": "2023-11-14T22:13:19Z"}}), true),
        (json!({"DateGreaterThan": {"aws:CurrentTime": "2023-11-14T22:13:20Z"}}), false),
        (json!({"DateGreaterThanEquals": {"aws:CurrentTime": "2023-11-14T23:13:20+01:00"}}), true),
        (json!({"DateLessThan": {"aws:CurrentTime": "2023-11-15"}}), true),
        (json!({"DateLessThanEquals": {"aws:CurrentTime": "2023-11-14"}}), false),
        (json!({"DateEquals": {"aws:CurrentTime": "1700000000"}}), true),
        (json!({"DateNotEquals": {"aws:CurrentTime": "1700000000"}}), false),
        (json!({"DateLessThan": {"aws:EpochTime": "1700000001"}}), true),
        (json!({"NumericLessThan": {"aws:EpochTime": 1_700_000_001}}), true),
        (json!({"NumericGreaterThan": {"aws:EpochTime": "1700000000.5"}}), false),
        (json!({"Bool": {"aws:SecureTransport": false}}), true),
        (json!({"Bool": {"aws:SecureTransport": "true"}}), false),
        (json!({"BoolIfExists": {"aws:SecureTransport": "true"}}), false),
        (json!({"StringEquals": {"aws:SecureTransport": "false"}}), true),
        (json!({"Null": {"aws:SecureTransport": "false"}}), true),
    ] {
        assert_eq!(holds(condition.clone(), &now), expected, "{condition}");
    }
}

#[test]
fn conditions_on_listings_versions_and_tags() {
    let mut list = Question::new(user(1), Action::ListBucket, "home/user1/");
    list.facts.delimiter = Some("/".into());
    list.facts.max_keys = Some(10);
    let mut tagged = get("k");
    tagged.existing = Some(version(Some(1)));
    tagged.existing.as_mut().unwrap().attributes.tags = vec![("State".into(), "open".into())];
    let versioned = Question { action: Action::GetObjectVersion, ..tagged.clone() };
    let mut named = versioned.clone();
    named.existing.as_mut().unwrap().is_null = false;
    for (condition, question, expected) in [
        (json!({"StringLike": {"s3:prefix": "home/${aws:username}/*"}}), &list, true),
        (json!({"StringEquals": {"s3:prefix": ["", "home/"]}}), &list, false),
        (json!({"StringEquals": {"s3:delimiter": "/"}}), &list, true),
        (json!({"NumericLessThanEquals": {"s3:max-keys": 10}}), &list, true),
        (json!({"NumericLessThan": {"s3:max-keys": "10"}}), &list, false),
        (json!({"Null": {"s3:prefix": "true"}}), &tagged, true),
        (json!({"StringEquals": {"s3:ExistingObjectTag/State": "open"}}), &tagged, true),
        (json!({"StringEquals": {"s3:existingobjecttag/State": "shut"}}), &tagged, false),
        (json!({"StringEquals": {"s3:ExistingObjectTag/state": "open"}}), &tagged, false),
        (json!({"StringNotEquals": {"s3:ExistingObjectTag/Other": "x"}}), &tagged, true),
        (json!({"StringEquals": {"s3:VersionId": "null"}}), &versioned, true),
        (json!({"StringEquals": {"s3:VersionId": "07".repeat(16)}}), &named, true),
        (json!({"Null": {"s3:VersionId": "true"}}), &tagged, true),
        (json!({"StringEquals": {"aws:username": "user1"}}), &list, true),
        (json!({"StringEquals": {"aws:userid": user_id(1).to_string()}}), &list, true),
        (json!({"StringEquals": {"aws:username": "user1"}}), &tagged, false),
    ] {
        assert_eq!(holds(condition.clone(), question), expected, "{condition}");
    }
}

/// AWS's published examples of bucket policies, in our words and with our principals.
#[test]
fn examples_as_published() {
    let arn = format!("arn:aws:iam::111122223333:user/{}", user_id(1));
    // Only over TLS.
    let tls = parsed(&statement(
        json!({"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}),
    ));
    let mut secure = get("k");
    secure.facts.is_secure = true;
    assert_eq!((get("k").put_to(&tls), secure.put_to(&tls)), (Verdict::Denied, Verdict::Silent));

    // Only from certain addresses, but for a part of them.
    let document = json!({"Version": "2012-10-17", "Id": "S3PolicyId1", "Statement": [{
        "Sid": "IPAllow", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        "Condition": {"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}}]});
    let mut inside = get("k");
    inside.facts.client_address = Some("192.0.2.1".parse().unwrap());
    assert_eq!(get("k").put_to(&parsed(&document)), Verdict::Denied);
    assert_eq!(inside.put_to(&parsed(&document)), Verdict::Silent);

    // A site's own pages may show its pictures; nobody else's.
    let document = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "Allow only requests originating from our pages", "Effect": "Allow", "Principal": "*",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"], "Resource": "arn:aws:s3:::bucket/*",
        "Condition": {"StringLike": {"aws:Referer": ["http://www.example.com/*", "http://example.com/*"]}}}]});
    let mut referred = get("k");
    referred.facts.referer = Some("http://example.com/page".into());
    assert_eq!(referred.put_to(&parsed(&document)), Verdict::Allowed);
    assert_eq!(get("k").put_to(&parsed(&document)), Verdict::Silent);

    // A home folder of one's own: listing it, and everything in it.
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "AllowRootAndHomeListing", "Effect": "Allow", "Principal": {"AWS": arn}, "Action": ["s3:ListBucket"],
         "Resource": ["arn:aws:s3:::bucket"],
         "Condition": {"StringEquals": {"s3:prefix": ["", "home/", "home/user1"], "s3:delimiter": ["/"]}}},
        {"Sid": "AllowListingOfHome", "Effect": "Allow", "Principal": {"AWS": arn}, "Action": ["s3:ListBucket"],
         "Resource": ["arn:aws:s3:::bucket"], "Condition": {"StringLike": {"s3:prefix": ["home/user1/*"]}}},
        {"Sid": "AllowAllInHome", "Effect": "Allow", "Principal": {"AWS": arn}, "Action": ["s3:*"],
         "Resource": ["arn:aws:s3:::bucket/home/user1/*"]}]});
    let policy = parsed(&document);
    for (action, key, delimiter, expected) in [
        (Action::ListBucket, "", Some("/"), Verdict::Allowed),
        (Action::ListBucket, "", None, Verdict::Silent),
        (Action::ListBucket, "home/user1/x", None, Verdict::Allowed),
        (Action::ListBucket, "home/user2/", Some("/"), Verdict::Silent),
        (Action::PutObject, "home/user1/a", None, Verdict::Allowed),
        (Action::PutObject, "home/user2/a", None, Verdict::Silent),
    ] {
        let mut question = Question::new(user(1), action, key);
        question.facts.delimiter = delimiter.map(str::to_owned);
        assert_eq!(question.put_to(&policy), expected, "{action:?} {key}");
        question.who = user(2);
        assert_eq!(question.put_to(&policy), Verdict::Silent, "{action:?} {key}");
    }
    assert!(!policy.is_public());

    // Everything to everyone but one, who is denied.
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"},
        {"Effect": "Deny", "Principal": {"AWS": arn}, "Action": "s3:*", "Resource": "arn:aws:s3:::bucket/*"}]});
    let policy = parsed(&document);
    assert_eq!(Question { who: user(1), ..get("k") }.put_to(&policy), Verdict::Denied);
    assert_eq!(Question { who: user(2), ..get("k") }.put_to(&policy), Verdict::Allowed);
}

#[test]
fn public_or_not() {
    let arn = format!("arn:aws:iam::1:user/{}", user_id(1));
    for (fields, expected) in [
        (json!({}), true),
        (json!({"Principal": {"AWS": "*"}}), true),
        (json!({"Principal": {"AWS": [arn, "*"]}}), true),
        (json!({"Principal": {"AWS": arn}}), false),
        (json!({"Principal": null, "NotPrincipal": {"AWS": arn}}), true),
        (json!({"Effect": "Deny"}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "0.0.0.0/1"]}}}), true),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "2000::/3"}}}), true),
        (json!({"Condition": {"IpAddressIfExists": {"aws:SourceIp": "203.0.113.0/24"}}}), true),
        (json!({"Condition": {"ForAllValues:IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}), true),
        (json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:username": "anna"}}}), false),
        (json!({"Condition": {"StringLike": {"aws:username": "*"}}}), true),
        (json!({"Condition": {"StringNotEquals": {"aws:username": "anna"}}}), true),
        (json!({"Condition": {"StringLike": {"aws:Referer": "https://example.org/*"}}}), true),
        (json!({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}), true),
    ] {
        assert_eq!(parsed(&statement(fields.clone())).is_public(), expected, "{fields}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused_with_the_reason() {
    for (fields, reason) in [
        (json!({"Condition": {"ArnLike": {"aws:SourceArn": "x"}}}), "aws:SourceArn"),
        (json!({"Condition": {"ArnLike": {"aws:UserAgent": "x"}}}), "ArnLike"),
        (json!({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "x"}}}), "aws:PrincipalOrgID"),
        (json!({"Condition": {"StringEquals": {"s3:x-amz-acl": "x"}}}), "s3:x-amz-acl"),
        (json!({"Condition": {"StringEquals": {"s3:ExistingObjectTag/": "x"}}}), "ExistingObjectTag"),
        (json!({"Condition": {"StringLikes": {"aws:UserAgent": "x"}}}), "StringLikes"),
        (json!({"Condition": {"stringlike": {"aws:UserAgent": "x"}}}), "stringlike"),
        (json!({"Condition": {"ForSome:StringLike": {"aws:UserAgent": "x"}}}), "ForSome"),
        (json!({"Condition": {"NullIfExists": {"aws:UserAgent": "true"}}}), "NullIfExists"),
        (json!({"Condition": {"Null": {"aws:UserAgent": ["true", "false"]}}}), "Null"),
        (json!({"Condition": {"Null": {"aws:UserAgent": "yes"}}}), "yes"),
        (json!({"Condition": {"StringLike": {"aws:SourceIp": "203.*"}}}), "does not apply"),
        (json!({"Condition": {"IpAddress": {"aws:UserAgent": "1.2.3.4"}}}), "does not apply"),
        (json!({"Condition": {"Bool": {"aws:UserAgent": "true"}}}), "does not apply"),
        (json!({"Condition": {"NumericEquals": {"aws:UserAgent": "1"}}}), "does not apply"),
        (json!({"Condition": {"NumericEquals": {"s3:max-keys": "many"}}}), "many"),
        (json!({"Condition": {"NumericEquals": {"s3:max-keys": "inf"}}}), "inf"),
        (json!({"Condition": {"DateEquals": {"aws:CurrentTime": "yesterday"}}}), "yesterday"),
        (json!({"Condition": {"StringEquals": {"aws:UserAgent": []}}}), "without values"),
        (json!({"Condition": {"StringEquals": {"aws:UserAgent": {"a": "b"}}}}), "neither text"),
        (json!({"Condition": {"StringEquals": "x"}}), "not an object"),
        (json!({"Condition": []}), "Condition"),
        (json!({"Condition": {"StringEquals": {"aws:UserAgent": "${aws:nothing}"}}}), "aws:nothing"),
        (json!({"Effect": "allow"}), "Effect"),
        (json!({"Effect": null}), "Effect"),
        (json!({"Principal": null}), "Principal"),
        (json!({"Principal": "arn:aws:iam::1:user/x"}), "Principal"),
        (json!({"Principal": {}}), "Principal"),
        (json!({"Principal": {"AWS": []}}), "AWS"),
        (json!({"Principal": {"AWS": "arn:aws:iam::1:root"}}), "root"),
        (json!({"Principal": {"AWS": "123456789012"}}), "nobody here"),
        (json!({"Principal": {"AWS": "arn:aws:iam::1:user/anna"}}), "anna"),
        (json!({"Principal": {"AWS": "arn:aws:iam::1:user/*"}}), "nobody here"),
        (json!({"Principal": {"CanonicalUser": "*"}}), "nobody here"),
        (json!({"Principal": {"Service": "s3.amazonaws.com"}}), "Service"),
        (json!({"Principal": {"Federated": "*"}}), "Federated"),
        (json!({"NotPrincipal": "*"}), "one of Principal"),
        (json!({"Action": null}), "Action"),
        (json!({"Action": []}), "empty Action"),
        (json!({"Action": "s3:GetObjects"}), "s3:GetObjects"),
        (json!({"Action": "GetObject"}), "GetObject"),
        (json!({"Action": "ec2:*"}), "ec2"),
        (json!({"Action": {"s3": "x"}}), "Action"),
        (json!({"NotAction": "s3:*"}), "one of Action"),
        (json!({"Resource": null}), "Resource"),
        (json!({"Resource": "arn:aws:s3:::other/*"}), "not in the bucket"),
        (json!({"Resource": "arn:aws:s3:::bucket2"}), "not in the bucket"),
        (json!({"Resource": "bucket/*"}), "not in the bucket"),
        (json!({"Resource": ["arn:aws:s3:::bucket/*", "arn:aws:s3:::other/*"]}), "other"),
        (json!({"Resource": "arn:aws:s3:::bucket/${x}"}), "x"),
        (json!({"Resource": 7}), "Resource"),
        (json!({"Sid": 7}), "Sid"),
        (json!({"Conditions": {}}), "Conditions"),
        (json!({"effect": "Deny"}), "effect"),
    ] {
        let got = refusal(&statement(fields.clone()));
        assert!(got.contains(reason), "{fields}: {got}");
    }
    for (document, reason) in [
        (json!([]), "not an object"),
        (json!({}), "without Statement"),
        (json!({"Statement": []}), "without statements"),
        (json!({"Statement": [[]]}), "not an object"),
        (json!({"Statement": null}), "not an object"),
        (json!({"Version": "2024-01-01", "Statement": []}), "2024-01-01"),
        (json!({"Version": 2012, "Statement": []}), "Version"),
        (json!({"Statements": []}), "Statements"),
    ] {
        let got = refusal(&document);
        assert!(got.contains(reason), "{document}: {got}");
    }
}

#[test]
fn malformed_text_and_size() {
    let refused = |text: &str| parse(text, &name()).unwrap_err().to_string();
    let good = statement(json!({})).to_string();
    let twice = good.replacen("\"Effect\":\"Allow\"", "\"Effect\":\"Deny\",\"Effect\":\"Allow\"", 1);
    assert_ne!(twice, good);
    assert!(refused(&twice).contains("stands twice"), "{}", refused(&twice));
    for text in ["", "{", "\u{0}", "{}{}", &"[".repeat(10_000), &good[..good.len() - 1]] {
        refused(text);
    }
    let padding = POLICY_BYTES_MAX - good.len();
    assert!(parse(&format!("{good}{}", " ".repeat(padding)), &name()).is_ok());
    let over = parse(&format!("{good}{}", " ".repeat(padding + 1)), &name());
    assert_eq!(over, Err(PolicyError::TooLarge));
    let long = refused(&format!(r#"{{"{}":1}}"#, "x".repeat(10_000)));
    assert!(long.len() < 2_000, "an error does not repeat the document");
}

/// Statements that are valid, over a small world so that they meet.
fn any_statement() -> impl Strategy<Value = Value> {
    let pick = |values: &'static [&'static str]| proptest::sample::select(values).prop_map(String::from);
    let principal = prop_oneof![
        Just(json!("*")),
        (1u8..4).prop_map(|n| json!({"AWS": format!("arn:aws:iam::1:user/{}", user_id(n))})),
    ];
    let action = pick(&["s3:*", "s3:GetObject", "s3:Put*", "s3:List*", "s3:Delete*"]);
    let resource = pick(&["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a*", "*"]);
    let condition = prop_oneof![
        Just(json!({})),
        Just(json!({"Bool": {"aws:SecureTransport": "false"}})),
        Just(json!({"StringLike": {"aws:UserAgent": "c*"}})),
        Just(json!({"StringNotEquals": {"aws:Referer": "x"}})),
        Just(json!({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}})),
        Just(json!({"Null": {"aws:username": "true"}})),
    ];
    (any::<bool>(), principal, any::<[bool; 3]>(), action, resource, condition).prop_map(
        |(allow, principal, not, action, resource, condition)| {
            let field = |not: bool, name: &str| if not { format!("Not{name}") } else { name.to_owned() };
            json!({
                "Effect": if allow { "Allow" } else { "Deny" },
                field(not[0], "Principal"): principal,
                field(not[1], "Action"): action,
                field(not[2], "Resource"): resource,
                "Condition": condition,
            })
        },
    )
}

fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for who in [Principal::anonymous(), user(1), user(2)] {
        for action in [Action::GetObject, Action::PutObject, Action::DeleteObject, Action::ListBucket] {
            for key in ["a", "b"] {
                let plain = Question::new(who.clone(), action, key);
                let mut other = plain.clone();
                other.facts = Circumstances {
                    is_secure: true,
                    user_agent: Some("curl".into()),
                    referer: Some("x".into()),
                    ..Circumstances::default()
                };
                questions.extend([plain, other]);
            }
        }
    }
    questions
}

proptest! {
    #[test]
    fn any_text_is_an_answer(text in ".*") {
        if let Err(error) = parse(&text, &name()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_json_is_an_answer(
        mut statement in any_statement(),
        field in proptest::sample::select(&["Effect", "Principal", "Action", "Resource", "Condition", "Sid", "X"][..]),
        value in proptest::sample::select(vec![
            json!(null), json!(1e300), json!([]), json!({}), json!("${"), json!("${aws:username"), json!("s3:\u{0}"),
            json!([[["x"]]]), json!({"AWS": {"AWS": "*"}}), json!("arn:aws:s3:::bucket/${s3:prefix}"),
            json!({"StringLike": {"s3:prefix": "${s3:prefix}*"}}),
        ]),
    ) {
        statement[field] = value;
        let document = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
        if let Ok(policy) = parse(&document, &name()) {
            for question in questions() {
                question.put_to(&policy);
            }
        }
    }

    #[test]
    fn a_deny_more_never_lets_more_through(
        statements in proptest::collection::vec(any_statement(), 1..5),
        mut more in any_statement(),
        at in any::<proptest::sample::Index>(),
    ) {
        let before = parsed(&json!({"Statement": statements}));
        more["Effect"] = "Deny".into();
        let mut longer = statements;
        longer.insert(at.index(longer.len() + 1), more);
        let after = parsed(&json!({"Statement": longer}));
        prop_assert!(before.is_public() || !after.is_public());
        for question in questions() {
            let (before, after) = (question.put_to(&before), question.put_to(&after));
            prop_assert!(after == before || after == Verdict::Denied, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_order_of_statements_means_nothing(statements in proptest::collection::vec(any_statement(), 1..5)) {
        let forward = parsed(&json!({"Statement": statements}));
        let backward = parsed(&json!({"Statement": statements.into_iter().rev().collect::<Vec<_>>()}));
        for question in questions() {
            prop_assert_eq!(question.put_to(&forward), question.put_to(&backward));
        }
    }
}
