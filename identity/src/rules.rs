//! Who may do what (contract §2, D2, D36): one pure function for all doors.
//!
//! In this order:
//! 1. The daemon itself may do everything. Without a bucket in question (making one, listing one's own), any user may.
//! 2. A bucket's policy and public-access block belong to its owner and to ADMINs, whatever the policy says: nobody
//!    can lock them out. No policy hands the changing of them to others.
//! 3. An explicit Deny of the bucket's policy binds everybody else, ADMINs and the owner included: it is how they
//!    guard against their own mistakes. They lift it by changing the policy.
//! 4. An Allow of the policy allows (not by a public statement where public access is blocked).
//! 5. ADMIN: all. The bucket's owner: all in it. In built-in buckets: what the key says. Elsewhere: a version's owner
//!    and its organisation's members may read and change that version.
//! 6. An object that `is_public` may be read by everyone (contract D26), and by setting whatever is in the gateway's
//!    bucket, whose links are public (contract §5.1), as long as nobody blocks public access to it.
//!
//! Listing a built-in bucket is open to every user: its rows are then decided one by one, as `GetObject`.

use coffre_store::object::{Bucket, BuiltIn, Door, Principal, Version, Who};
use coffre_store::{Action, Ask, Decision, UserId};

use crate::policy::action::{is_listing, is_of_object};
use crate::policy::{Policy, Verdict};

/// A bucket's policy, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Document<'a> {
    /// There is none.
    None,
    /// This one.
    Policy(&'a Policy),
    /// One that this version cannot read: what it forbids is not known.
    Unreadable,
}

/// Decides.
pub(crate) fn decide(ask: &Ask<'_>, document: &Document<'_>, gateway_public_read: bool) -> Decision {
    if may(ask, document) || (gateway_public_read && is_open_gateway(ask, document)) {
        Decision::Allow
    } else if ask.cx.door == Door::S3 || may_see(ask, document) {
        // S3 answers 403 whether or not the thing exists (contract D36), which hides it as well.
        Decision::Deny
    } else {
        Decision::Hide
    }
}

fn may(ask: &Ask<'_>, document: &Document<'_>) -> bool {
    let principal = &*ask.cx.principal;
    if principal.who == Who::System {
        return true;
    }
    let Some(bucket) = ask.bucket else { return principal.user().is_some() };
    let is_owner = bucket.owner.is_some() && bucket.owner == principal.user();
    let is_master = is_owner || principal.is_admin;
    if is_of_policy(ask.action) {
        return is_master;
    }
    let verdict = match document {
        Document::None => Verdict::Silent,
        Document::Policy(policy) => policy.judge(ask, bucket.blocks_public),
        Document::Unreadable => Verdict::Denied,
    };
    match verdict {
        Verdict::Denied => false,
        Verdict::Allowed => true,
        Verdict::Silent => is_master || by_place(ask, bucket, principal) || is_public(ask),
    }
}

/// Whether who may not do this may know of it: it could read it.
fn may_see(ask: &Ask<'_>, document: &Document<'_>) -> bool {
    let action = if is_of_object(ask.action) { Action::GetObject } else { Action::ListBucket };
    may(&Ask { action, ..*ask }, document)
}

/// The settings through which everything else could be taken or given away.
fn is_of_policy(action: Action) -> bool {
    matches!(
        action,
        Action::GetBucketPolicy
            | Action::PutBucketPolicy
            | Action::DeleteBucketPolicy
            | Action::GetBucketPublicAccessBlock
            | Action::PutBucketPublicAccessBlock
    )
}

fn is_public(ask: &Ask<'_>) -> bool {
    matches!(ask.action, Action::GetObject | Action::GetObjectVersion)
        && ask.existing.is_some_and(|version| version.attributes.is_public)
}

/// A current object of the gateway's bucket, which nothing forbids to read.
fn is_open_gateway(ask: &Ask<'_>, document: &Document<'_>) -> bool {
    let Some(bucket) = ask.bucket.filter(|bucket| bucket.place == Some(BuiltIn::Gateway)) else {
        return false;
    };
    let is_forbidden = match document {
        Document::None => false,
        Document::Policy(policy) => policy.judge(ask, bucket.blocks_public) == Verdict::Denied,
        Document::Unreadable => true,
    };
    ask.action == Action::GetObject && ask.existing.is_some() && !bucket.blocks_public && !is_forbidden
}

/// What being somebody gives, apart from owning the bucket.
fn by_place(ask: &Ask<'_>, bucket: &Bucket, principal: &Principal) -> bool {
    if principal.user().is_none() {
        return false;
    }
    match bucket.place {
        None => is_of_object(ask.action) && ask.existing.is_some_and(|version| is_own(version, principal)),
        Some(_) if is_listing(ask.action) => true,
        Some(_) if matches!(ask.action, Action::GetBucketLocation | Action::GetBucketVersioning) => true,
        Some(place) => is_of_object(ask.action) && by_key(ask, place, principal),
    }
}

fn is_own(version: &Version, principal: &Principal) -> bool {
    let is_owner = version.owner.is_some() && version.owner == principal.user();
    is_owner || version.organisation.is_some_and(|org| principal.organisations.contains(&org))
}

/// The right to a key of a built-in bucket, derived from the key (contract D2).
fn by_key(ask: &Ask<'_>, place: BuiltIn, principal: &Principal) -> bool {
    let key = ask.key.unwrap_or_default();
    let mut segments = key.split('/');
    let first = segments.next().unwrap_or_default();
    // Of nobody yet, or the caller's: the version there, and the upload asked about.
    let is_callers = |owner: Option<UserId>| owner.is_some() && owner == principal.user();
    let is_free_or_own = ask.existing.is_none_or(|version| is_callers(version.owner))
        && ask.initiator.is_none_or(|initiator| is_callers(Some(initiator)));
    match place {
        BuiltIn::Filing if first == "client" => {
            let client = segments.next().unwrap_or_default();
            principal.clients.iter().any(|granted| granted == client)
        }
        // `general/…`, and keys outside the scheme alike: who put it there.
        BuiltIn::Filing => is_free_or_own,
        BuiltIn::Media => is_user(first, principal),
        BuiltIn::Gateway => {
            let grant = segments.next().unwrap_or_default();
            let by_token = principal.gateway_prefix.as_deref().and_then(|prefix| prefix.split_once('/'));
            let is_own = ask.existing.is_some() && is_free_or_own;
            by_token == Some((first, grant)) || is_user(grant, principal) || is_own
        }
        BuiltIn::Companies => principal.organisations.iter().any(|org| org.to_string() == first),
    }
}

/// Whether the segment is the user's id. Keys spell ids in one way (contract D43).
fn is_user(segment: &str, principal: &Principal) -> bool {
    principal.user().is_some_and(|id| id.to_string() == segment)
}

#[cfg(test)]
pub(crate) mod tests;
