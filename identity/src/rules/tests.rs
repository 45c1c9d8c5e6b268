//! Who may do what, as tables: roles × places × ownership × doors.

use std::sync::Arc;

use coffre_store::digest::{ETag, Sha256};
use coffre_store::object::{
    Attributes, Bucket, BuiltIn, Digest, Door, Manifest, ObjectIds, Principal, Version, Versioning, Who,
};
use coffre_store::{Action, Ask, Authority as _, BucketId, Cx, Decision, OrgId, UserId, VersionId};
use uuid::Uuid;

use super::*;
use crate::authority::Rules;
use crate::sample;

pub(crate) fn user_id(n: u8) -> UserId {
    UserId(Uuid::from_bytes([n; 16]))
}

fn org_id(n: u8) -> OrgId {
    OrgId(Uuid::from_bytes([n; 16]))
}

pub(crate) fn user(n: u8) -> Principal {
    Principal { who: Who::User(user_id(n)), name: Some(format!("user{n}")), ..Principal::anonymous() }
}

fn admin(n: u8) -> Principal {
    Principal { is_admin: true, ..user(n) }
}

pub(crate) fn bucket(owner: Option<u8>) -> Bucket {
    Bucket {
        name: "bucket".parse().unwrap(),
        id: BucketId(1),
        place: None,
        owner: owner.map(user_id),
        created_ms: 0,
        versioning: Versioning::Off,
        tags: vec![],
        policy: None,
        blocks_public: false,
        unknown: vec![],
    }
}

fn built_in(place: BuiltIn) -> Bucket {
    Bucket { place: Some(place), ..bucket(None) }
}

pub(crate) fn version(owner: Option<u8>) -> Version {
    Version {
        id: VersionId([7; 16]),
        is_null: true,
        sequence: 1,
        ino: 2,
        ids: ObjectIds::default(),
        owner: owner.map(user_id),
        organisation: None,
        writer: None,
        size_bytes: 0,
        modified_ms: 0,
        etag: ETag::parse("d41d8cd98f00b204e9800998ecf8427e"),
        sha256: Digest::Known(Sha256([0; 32])),
        crc64nvme: None,
        checksums: vec![],
        sniffed_type: None,
        attributes: Attributes::default(),
        manifest: Manifest::Inline(vec![]),
        parts: None,
        unknown: vec![],
    }
}

pub(crate) fn cx(principal: &Principal, door: Door) -> Cx {
    Cx { principal: Arc::new(principal.clone()), ..sample::cx(Principal::anonymous(), door) }
}

/// Asks at the S3 door; through the authority, so that its cache takes part.
fn s3(who: &Principal, action: Action, bucket: &Bucket, key: &str, existing: Option<&Version>) -> Decision {
    ask(Door::S3, who, action, bucket, key, existing)
}

fn ask(
    door: Door,
    who: &Principal,
    action: Action,
    bucket: &Bucket,
    key: &str,
    existing: Option<&Version>,
) -> Decision {
    let cx = cx(who, door);
    Rules::default().decide(&Ask {
        cx: &cx,
        action,
        bucket: Some(bucket),
        key: Some(key),
        existing,
        initiator: None,
    })
}

const OF_OBJECTS: [Action; 13] = [
    Action::GetObject,
    Action::GetObjectVersion,
    Action::GetObjectTagging,
    Action::GetObjectVersionTagging,
    Action::GetObjectAttributes,
    Action::PutObject,
    Action::PutObjectTagging,
    Action::PutObjectVersionTagging,
    Action::DeleteObject,
    Action::DeleteObjectVersion,
    Action::DeleteObjectTagging,
    Action::AbortMultipartUpload,
    Action::ListMultipartUploadParts,
];

const OF_BUCKETS: [Action; 14] = [
    Action::DeleteBucket,
    Action::ListBucket,
    Action::ListBucketVersions,
    Action::ListBucketMultipartUploads,
    Action::GetBucketLocation,
    Action::GetBucketVersioning,
    Action::PutBucketVersioning,
    Action::GetBucketTagging,
    Action::PutBucketTagging,
    Action::GetBucketPolicy,
    Action::PutBucketPolicy,
    Action::DeleteBucketPolicy,
    Action::GetBucketPublicAccessBlock,
    Action::PutBucketPublicAccessBlock,
];

fn all() -> impl Iterator<Item = Action> {
    OF_OBJECTS.into_iter().chain(OF_BUCKETS)
}

#[test]
fn a_users_bucket_is_its_owners_and_the_admins_and_nobody_elses() {
    let bucket = bucket(Some(1));
    let theirs = version(Some(1));
    for action in all() {
        for existing in [None, Some(&theirs)] {
            for yes in [user(1), admin(9), Principal::system()] {
                assert_eq!(s3(&yes, action, &bucket, "k", existing), Decision::Allow, "{action:?} {yes:?}");
            }
            for no in [user(2), Principal::anonymous()] {
                assert_eq!(s3(&no, action, &bucket, "k", existing), Decision::Deny, "{action:?} {no:?}");
                let hidden = ask(Door::Rest, &no, action, &bucket, "k", existing);
                assert_eq!(hidden, Decision::Hide, "{action:?} {no:?}");
            }
        }
    }
}

#[test]
fn a_bucket_without_owner_belongs_to_no_user() {
    for action in all() {
        for no in [user(1), Principal::anonymous()] {
            assert_eq!(s3(&no, action, &bucket(None), "k", None), Decision::Deny, "{action:?} {no:?}");
        }
    }
}

#[test]
fn users_make_buckets_and_anonymous_does_not() {
    for action in [Action::CreateBucket, Action::ListAllMyBuckets] {
        for (who, expected) in [
            (user(1), Decision::Allow),
            (admin(1), Decision::Allow),
            (Principal::system(), Decision::Allow),
            (Principal::anonymous(), Decision::Deny),
        ] {
            let cx = cx(&who, Door::S3);
            let asked = Ask { cx: &cx, action, bucket: None, key: None, existing: None, initiator: None };
            assert_eq!(Rules::default().decide(&asked), expected, "{action:?} {who:?}");
        }
    }
}

#[test]
fn an_object_is_also_its_owners_and_its_organisations() {
    let bucket = bucket(Some(1));
    let of_user = version(Some(2));
    let of_org = Version { organisation: Some(org_id(5)), ..version(Some(3)) };
    let member = Principal { organisations: vec![org_id(5)], ..user(4) };
    for action in OF_OBJECTS {
        assert_eq!(s3(&user(2), action, &bucket, "k", Some(&of_user)), Decision::Allow, "{action:?}");
        assert_eq!(s3(&user(2), action, &bucket, "k", Some(&of_org)), Decision::Deny, "{action:?}");
        assert_eq!(s3(&user(2), action, &bucket, "k", None), Decision::Deny, "{action:?}");
        assert_eq!(s3(&member, action, &bucket, "k", Some(&of_org)), Decision::Allow, "{action:?}");
        assert_eq!(s3(&member, action, &bucket, "k", Some(&of_user)), Decision::Deny, "{action:?}");
    }
    for action in OF_BUCKETS {
        assert_eq!(s3(&user(2), action, &bucket, "k", Some(&of_user)), Decision::Deny, "{action:?}");
    }
}

/// What is at a key.
#[derive(Clone, Copy)]
enum There {
    Nothing,
    Of(u8),
    OfNobody,
}

/// One row: place, key, who put what is there, and which of the callers may use it.
fn check(place: BuiltIn, key: &str, there: There, expected: &[(&str, bool)]) {
    let mut client = user(1);
    client.clients = vec!["42".into()];
    let mut member = user(2);
    member.organisations = vec![org_id(5)];
    let mut token = user(3);
    token.gateway_prefix = Some("app/team".into());
    let existing = match there {
        There::Nothing => None,
        There::Of(owner) => Some(version(Some(owner))),
        There::OfNobody => Some(version(None)),
    };
    let bucket = built_in(place);
    let callers = [
        ("client", client),
        ("member", member),
        ("token", token),
        ("four", user(4)),
        ("anonymous", Principal::anonymous()),
        ("admin", admin(9)),
    ];
    for (name, caller) in callers {
        let yes = name == "admin" || expected.contains(&(name, true));
        for action in OF_OBJECTS {
            let got = s3(&caller, action, &bucket, key, existing.as_ref());
            let expected = if yes { Decision::Allow } else { Decision::Deny };
            assert_eq!(got, expected, "{place:?} {key} {name} {action:?}");
        }
    }
}

#[test]
fn the_right_to_a_built_in_key_is_derived_from_it() {
    use BuiltIn::{Companies, Filing, Gateway, Media};
    use There::{Nothing, Of, OfNobody};
    let nobody: &[(&str, bool)] = &[];
    let users: &[(&str, bool)] = &[("client", true), ("member", true), ("token", true), ("four", true)];
    let id = |n: u8| Uuid::from_bytes([n; 16]).to_string();

    check(Filing, "client/42/devis/a.pdf", Nothing, &[("client", true)]);
    // The grant decides, not who put it there: a grant taken back takes the files back.
    check(Filing, "client/42/devis/a.pdf", Of(4), &[("client", true)]);
    check(Filing, "client/42/any/depth/of/keys/a", Nothing, &[("client", true)]);
    check(Filing, "client/42/", Nothing, &[("client", true)]);
    check(Filing, "client/420/devis/a.pdf", Nothing, nobody);
    check(Filing, "client/4/devis/a.pdf", Nothing, nobody);
    check(Filing, "client//devis/a.pdf", Nothing, nobody);
    check(Filing, "client/", Nothing, nobody);
    check(Filing, "client", Nothing, nobody);
    check(Filing, "client2/42/a", Nothing, users);
    check(Filing, "general/devis/a.pdf", Nothing, users);
    check(Filing, "general/devis/a.pdf", Of(4), &[("four", true)]);
    check(Filing, "general/devis/a.pdf", OfNobody, nobody);
    check(Filing, "elsewhere", Of(2), &[("member", true)]);

    check(Media, &format!("{}/videos/f/a.mp4", id(4)), Nothing, &[("four", true)]);
    check(Media, &format!("{}/videos/f/a.mp4", id(4)), Of(2), &[("four", true)]);
    check(Media, &format!("{}x/videos", id(4)), Nothing, nobody);
    check(Media, &format!("/{}/videos", id(4)), Nothing, nobody);
    check(Media, "videos", Of(4), nobody);

    check(Gateway, "app/team/uploads/a", Nothing, &[("token", true)]);
    check(Gateway, "app/team/uploads/a", Of(4), &[("token", true), ("four", true)]);
    check(Gateway, "app/teams/uploads/a", Nothing, nobody);
    check(Gateway, "app2/team/uploads/a", Nothing, nobody);
    check(Gateway, &format!("any/{}/uploads/a", id(4)), Nothing, &[("four", true)]);
    check(Gateway, "app", Nothing, nobody);

    check(Companies, &format!("{}/f/a", id(5)), Nothing, &[("member", true)]);
    check(Companies, &format!("{}/f/a", id(5)), Of(4), &[("member", true)]);
    check(Companies, &format!("{}/f/a", id(6)), Nothing, nobody);
    check(Companies, "", Nothing, nobody);
}

#[test]
fn an_upload_is_its_initiators_where_the_key_is_of_who_comes_first() {
    let id = user_id(4).to_string();
    let media = format!("{id}/a.mp4");
    let upload = [Action::AbortMultipartUpload, Action::ListMultipartUploadParts, Action::PutObject];
    for (place, key, initiator, caller, expected) in [
        (BuiltIn::Filing, "general/devis/a", Some(4), user(4), Decision::Allow),
        (BuiltIn::Filing, "general/devis/a", Some(4), user(5), Decision::Deny),
        (BuiltIn::Filing, "general/devis/a", Some(4), admin(9), Decision::Allow),
        (BuiltIn::Filing, "general/devis/a", Some(4), Principal::anonymous(), Decision::Deny),
        // Here the key says whose it is.
        (BuiltIn::Media, media.as_str(), Some(5), user(4), Decision::Allow),
        (BuiltIn::Media, media.as_str(), Some(5), user(5), Decision::Deny),
    ] {
        for action in upload {
            let (cx, bucket) = (cx(&caller, Door::S3), built_in(place));
            let initiator = initiator.map(user_id);
            let ask =
                Ask { cx: &cx, action, bucket: Some(&bucket), key: Some(key), existing: None, initiator };
            assert_eq!(Rules::default().decide(&ask), expected, "{place:?} {action:?} {caller:?}");
        }
    }
}

#[test]
fn built_in_buckets_are_listed_by_users_and_changed_by_admins() {
    let open = [
        Action::ListBucket,
        Action::ListBucketVersions,
        Action::ListBucketMultipartUploads,
        Action::GetBucketLocation,
        Action::GetBucketVersioning,
    ];
    for place in [BuiltIn::Filing, BuiltIn::Gateway, BuiltIn::Media, BuiltIn::Companies] {
        for action in OF_BUCKETS {
            let expected = if open.contains(&action) { Decision::Allow } else { Decision::Deny };
            assert_eq!(s3(&user(1), action, &built_in(place), "", None), expected, "{place:?} {action:?}");
            assert_eq!(s3(&admin(1), action, &built_in(place), "", None), Decision::Allow);
            assert_eq!(s3(&Principal::anonymous(), action, &built_in(place), "", None), Decision::Deny);
        }
    }
}

#[test]
fn is_public_opens_the_object_and_nothing_else() {
    let mut open = version(Some(1));
    open.attributes.is_public = true;
    let files = Bucket { blocks_public: true, ..built_in(BuiltIn::Filing) };
    for bucket in [files, bucket(Some(1))] {
        for who in [Principal::anonymous(), user(2)] {
            for action in OF_OBJECTS {
                let reads = matches!(action, Action::GetObject | Action::GetObjectVersion);
                let expected = if reads { Decision::Allow } else { Decision::Deny };
                for door in [Door::S3, Door::Rest, Door::Mount] {
                    // Seen but not to be changed: never hidden.
                    let got = ask(door, &who, action, &bucket, "general/devis/a", Some(&open));
                    assert_eq!(got, expected, "{action:?} {who:?} {door:?}");
                }
            }
        }
        let list = s3(&Principal::anonymous(), Action::ListBucket, &bucket, "", None);
        assert_eq!(list, Decision::Deny);
    }
}

#[test]
fn what_one_may_read_but_not_change_is_denied_and_the_rest_hidden() {
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/open/*"}}"#;
    let bucket = Bucket { policy: Some(policy.into()), ..bucket(Some(1)) };
    let theirs = version(Some(1));
    for (key, action, expected) in [
        ("open/a", Action::GetObject, Decision::Allow),
        ("open/a", Action::DeleteObject, Decision::Deny),
        ("shut/a", Action::GetObject, Decision::Hide),
        ("shut/a", Action::DeleteObject, Decision::Hide),
        ("", Action::DeleteBucket, Decision::Hide),
    ] {
        assert_eq!(
            ask(Door::Mount, &user(2), action, &bucket, key, Some(&theirs)),
            expected,
            "{key} {action:?}"
        );
    }
}

#[test]
fn an_explicit_deny_binds_all_but_the_policy_itself_stays_its_owners() {
    let policy = r#"{"Statement":[
        {"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]},
        {"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}]}"#;
    let bucket = Bucket { policy: Some(policy.into()), ..bucket(Some(1)) };
    let theirs = version(Some(2));
    for action in all() {
        let master = if is_of_policy(action) { Decision::Allow } else { Decision::Deny };
        assert_eq!(s3(&user(1), action, &bucket, "k", Some(&theirs)), master, "{action:?}");
        assert_eq!(s3(&admin(9), action, &bucket, "k", Some(&theirs)), master, "{action:?}");
        assert_eq!(s3(&Principal::system(), action, &bucket, "k", Some(&theirs)), Decision::Allow);
        for no in [user(2), user(3), Principal::anonymous()] {
            assert_eq!(s3(&no, action, &bucket, "k", Some(&theirs)), Decision::Deny, "{action:?}");
        }
    }
}

#[test]
fn no_policy_gives_its_own_changing_away() {
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}}"#;
    let bucket = Bucket { policy: Some(policy.into()), ..bucket(Some(1)) };
    for action in all() {
        let expected = if is_of_policy(action) { Decision::Deny } else { Decision::Allow };
        for who in [user(2), Principal::anonymous()] {
            assert_eq!(s3(&who, action, &bucket, "k", None), expected, "{action:?} {who:?}");
        }
    }
}

#[test]
fn blocked_public_access_shuts_public_statements_only() {
    let policy = format!(
        r#"{{"Statement":[
        {{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}},
        {{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::1:user/{}"}},"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}]}}"#,
        user_id(2)
    );
    for (blocks_public, anonymous) in [(false, Decision::Allow), (true, Decision::Deny)] {
        let bucket = Bucket { policy: Some(policy.clone()), blocks_public, ..bucket(Some(1)) };
        assert_eq!(s3(&user(2), Action::GetObject, &bucket, "k", None), Decision::Allow);
        assert_eq!(s3(&user(3), Action::GetObject, &bucket, "k", None), anonymous);
        assert_eq!(s3(&Principal::anonymous(), Action::GetObject, &bucket, "k", None), anonymous);
    }
}

#[test]
fn a_policy_that_cannot_be_read_shuts_the_bucket() {
    let bucket = Bucket { policy: Some(r#"{"Statement":"from the future"}"#.into()), ..bucket(Some(1)) };
    for action in all() {
        let expected = if is_of_policy(action) { Decision::Allow } else { Decision::Deny };
        assert_eq!(s3(&user(1), action, &bucket, "k", None), expected, "{action:?}");
        assert_eq!(s3(&user(2), action, &bucket, "k", None), Decision::Deny, "{action:?}");
    }
}

#[test]
fn a_policy_put_anew_counts_at_the_next_question() {
    let rules = Rules::default();
    let open = |key: &str| {
        format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/{key}"}}}}"#
        )
    };
    let cx = cx(&Principal::anonymous(), Door::S3);
    for (policy, expected) in
        [(None, Decision::Deny), (Some(open("k")), Decision::Allow), (Some(open("l")), Decision::Deny)]
    {
        let bucket = Bucket { policy, ..bucket(Some(1)) };
        let ask = Ask {
            cx: &cx,
            action: Action::GetObject,
            bucket: Some(&bucket),
            key: Some("k"),
            existing: None,
            initiator: None,
        };
        assert_eq!((rules.decide(&ask), rules.decide(&ask)), (expected, expected));
    }
}

#[test]
fn what_is_in_the_gateway_may_be_read_by_all_and_listed_by_nobody_unless_it_is_said_not_to() {
    let (nobody, there) = (cx(&Principal::anonymous(), Door::S3), version(Some(1)));
    let deny = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}"#;
    let gateway = Bucket { place: Some(BuiltIn::Gateway), ..bucket(None) };
    let buckets = [
        (gateway.clone(), true),
        (Bucket { blocks_public: true, ..gateway.clone() }, false),
        (Bucket { policy: Some(deny.into()), ..gateway.clone() }, false),
        (Bucket { policy: Some("unreadable".into()), ..gateway.clone() }, false),
        (Bucket { place: Some(BuiltIn::Media), ..gateway }, false),
    ];
    for (bucket, is_open) in &buckets {
        for (action, existing, may) in [
            (Action::GetObject, Some(&there), true),
            (Action::GetObject, None, false),
            (Action::GetObjectVersion, Some(&there), false),
            (Action::GetObjectTagging, Some(&there), false),
            (Action::PutObject, Some(&there), false),
            (Action::DeleteObject, Some(&there), false),
            (Action::ListBucket, None, false),
            (Action::ListBucketMultipartUploads, None, false),
        ] {
            for by_setting in [true, false] {
                let key = Some("app/team/uploads/x_1_00000000.txt");
                let ask = Ask { cx: &nobody, action, bucket: Some(bucket), key, existing, initiator: None };
                let expected = if may && *is_open && by_setting { Decision::Allow } else { Decision::Deny };
                assert_eq!(Rules::new(by_setting).decide(&ask), expected, "{action:?} {bucket:?}");
            }
        }
    }
}
