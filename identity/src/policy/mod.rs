//! Bucket policies: parsed strictly, then judged purely (S3 "Bucket policies", IAM "Policy grammar", contract D36).
//!
//! A document that says something this server cannot judge (an unknown condition, operator, kind of principal,
//! action or field; a field twice) is refused with the reason when it is put. Nothing is ever skipped: a condition
//! that were overlooked would open or shut what its author did not mean.

pub(crate) mod action;
mod condition;
mod json;
mod pattern;

use coffre_store::object::{Principal, Who};
use coffre_store::{Ask, BucketName, UserId};
use uuid::Uuid;

use condition::Condition;
use json::Json;
use pattern::{Pattern, Syntax};

/// Largest document, in bytes (S3).
pub const POLICY_BYTES_MAX: usize = 20 * 1024;
const RESOURCE_PREFIX: &str = "arn:aws:s3:::";
/// Longest part of a document that an error repeats.
const REASON_CHARS_MAX: usize = 300;

/// Why a document is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Over [`POLICY_BYTES_MAX`].
    #[error("the policy is larger than 20 KiB")]
    TooLarge,
    /// Not JSON, not a policy, or one that says what cannot be judged here.
    #[error("{reason}")]
    Malformed {
        /// What is wrong, for the author.
        reason: String,
    },
}

impl PolicyError {
    fn malformed(reason: impl std::fmt::Display) -> Self {
        Self::Malformed { reason: reason.to_string().chars().take(REASON_CHARS_MAX).collect() }
    }
}

/// What the policies say about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A statement forbids it.
    Denied,
    /// A statement allows it and none forbids it.
    Allowed,
    /// None speaks of it.
    Silent,
}

/// A bucket's policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq)]
struct Statement {
    effect: Effect,
    principals: Choice<People>,
    actions: Choice<Vec<Pattern>>,
    resources: Choice<Vec<Pattern>>,
    conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, and so on.
#[derive(Clone, Debug, PartialEq)]
enum Choice<T> {
    Of(T),
    AllBut(T),
}

impl<T> Choice<T> {
    fn has(&self, is_in: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Self::Of(set) => is_in(set),
            Self::AllBut(set) => !is_in(set),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct People {
    everyone: bool,
    users: Vec<UserId>,
}

impl People {
    fn contains(&self, principal: &Principal) -> bool {
        self.everyone
            || match principal.who {
                Who::User(id) => self.users.contains(&id),
                Who::Anonymous | Who::System => false,
            }
    }
}

/// Parses a document for this bucket.
///
/// # Errors
/// [`PolicyError`] with the reason, for the author.
pub fn parse(text: &str, bucket: &BucketName) -> Result<Policy, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLarge);
    }
    let document = serde_json::from_str(text).map_err(PolicyError::malformed)?;
    let fields = fields("the policy", document, &["Version", "Id", "Statement"])?;
    let variables = match fields.text("Version")? {
        // Before 2012 there were no variables: ${…} is plain text.
        None | Some("2008-10-17") => false,
        Some("2012-10-17") => true,
        Some(other) => return Err(PolicyError::malformed(format_args!("the version {other} is not known"))),
    };
    fields.text("Id")?;
    let statements = match fields.get("Statement") {
        None => return Err(PolicyError::malformed("a policy without Statement")),
        Some(Json::List(list)) => list.clone(),
        Some(one) => vec![one.clone()],
    };
    if statements.is_empty() {
        return Err(PolicyError::malformed("a policy without statements"));
    }
    let statements = statements.into_iter().map(|one| Statement::parse(one, bucket, variables));
    Ok(Policy { statements: statements.collect::<Result<_, _>>()? })
}

impl Policy {
    /// Whether it lets everyone in: an Allow for everybody that no condition narrows to certain users or addresses.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }

    /// What it says. With `blocks_public` its public statements do not count (contract D36).
    pub(crate) fn judge(&self, ask: &Ask<'_>, blocks_public: bool) -> Verdict {
        let resource = resource_of(ask);
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|s| s.applies(ask, &resource)) {
            match statement.effect {
                Effect::Deny => return Verdict::Denied,
                Effect::Allow if blocks_public && statement.is_public() => {}
                Effect::Allow => verdict = Verdict::Allowed,
            }
        }
        verdict
    }
}

/// The ARN of what is asked about.
fn resource_of(ask: &Ask<'_>) -> String {
    let bucket = ask.bucket.map_or("", |bucket| bucket.name.as_str());
    if action::is_of_object(ask.action) {
        format!("{RESOURCE_PREFIX}{bucket}/{}", ask.key.unwrap_or_default())
    } else {
        format!("{RESOURCE_PREFIX}{bucket}")
    }
}

impl Statement {
    fn parse(json: Json, bucket: &BucketName, variables: bool) -> Result<Self, PolicyError> {
        const FIELDS: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        let fields = fields("a statement", json, &FIELDS)?;
        fields.text("Sid")?;
        let effect = match fields.text("Effect")? {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(PolicyError::malformed("Effect is neither Allow nor Deny")),
        };
        let conditions = match fields.get("Condition") {
            None => Vec::new(),
            Some(json) => conditions(json, variables)?,
        };
        Ok(Self {
            effect,
            principals: fields.choice("Principal", "NotPrincipal", people)?,
            actions: fields.choice("Action", "NotAction", |json| list("Action", json, action::parse))?,
            resources: fields.choice("Resource", "NotResource", |json| {
                list("Resource", json, |text| resource(text, bucket, variables))
            })?,
            conditions,
        })
    }

    fn applies(&self, ask: &Ask<'_>, resource: &str) -> bool {
        let name = action::name(ask.action);
        self.principals.has(|people| people.contains(&ask.cx.principal))
            && self.actions.has(|patterns| patterns.iter().any(|p| action::matches(p, name)))
            && self
                .resources
                .has(|patterns| patterns.iter().any(|p| p.matches(resource, false, |key| key.value(ask))))
            && self.conditions.iter().all(|condition| condition.holds(ask))
    }

    fn is_public(&self) -> bool {
        let names_everyone = match &self.principals {
            Choice::Of(people) => people.everyone,
            // "All but these" is nearly everyone.
            Choice::AllBut(_) => true,
        };
        self.effect == Effect::Allow && names_everyone && !self.conditions.iter().any(Condition::narrows)
    }
}

/// An object's fields, all of them known.
struct Fields(Vec<(String, Json)>);

fn fields(what: &str, json: Json, known: &[&str]) -> Result<Fields, PolicyError> {
    let Json::Map(map) = json else {
        return Err(PolicyError::malformed(format_args!("{what} is not an object")));
    };
    match map.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(PolicyError::malformed(format_args!("{what} has an unknown field {name}"))),
        None => Ok(Fields(map)),
    }
}

impl Fields {
    fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<&str>, PolicyError> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(PolicyError::malformed(format_args!("{name} is not text"))),
        }
    }

    /// Exactly one of two fields.
    fn choice<T>(
        &self,
        of: &str,
        all_but: &str,
        parse: impl FnOnce(&Json) -> Result<T, PolicyError>,
    ) -> Result<Choice<T>, PolicyError> {
        match (self.get(of), self.get(all_but)) {
            (Some(json), None) => parse(json).map(Choice::Of),
            (None, Some(json)) => parse(json).map(Choice::AllBut),
            _ => Err(PolicyError::malformed(format_args!("a statement needs one of {of} and {all_but}"))),
        }
    }
}

/// One text or a list of them.
fn list<T>(
    what: &str,
    json: &Json,
    parse: impl Fn(&str) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    let one = |json: &Json| match json {
        Json::Text(text) => parse(text),
        _ => Err(PolicyError::malformed(format_args!("{what} is neither text nor a list of texts"))),
    };
    match json {
        Json::List(list) if list.is_empty() => Err(PolicyError::malformed(format_args!("an empty {what}"))),
        Json::List(list) => list.iter().map(one).collect(),
        json => Ok(vec![one(json)?]),
    }
}

/// `"*"`, `{"AWS": …}` and `{"CanonicalUser": …}`.
fn people(json: &Json) -> Result<People, PolicyError> {
    let map = match json {
        Json::Text(text) if text == "*" => return Ok(People { everyone: true, users: Vec::new() }),
        Json::Map(map) if !map.is_empty() => map,
        _ => return Err(PolicyError::malformed("Principal is neither * nor a non-empty object")),
    };
    let mut people = People::default();
    for (kind, ids) in map {
        if kind != "AWS" && kind != "CanonicalUser" {
            return Err(PolicyError::malformed(format_args!(
                "principals of the kind {kind} are not known here"
            )));
        }
        for id in list(kind, ids, |text| Ok(text.to_owned()))? {
            match user(kind, &id) {
                Some(user) => people.users.push(user),
                None if kind == "AWS" && id == "*" => people.everyone = true,
                None => {
                    return Err(PolicyError::malformed(format_args!("the principal {id} is nobody here")));
                }
            }
        }
    }
    Ok(people)
}

/// `arn:aws:iam::{anything}:user/{id}`, or the id alone as a canonical user.
fn user(kind: &str, id: &str) -> Option<UserId> {
    let id = if kind == "AWS" {
        let (account, id) = id.strip_prefix("arn:aws:iam::")?.split_once(":user/")?;
        if account.contains([':', '/']) {
            return None;
        }
        id
    } else {
        id
    };
    Uuid::try_parse(id).ok().map(UserId)
}

/// A resource: in this bucket, or it could never matter.
fn resource(text: &str, bucket: &BucketName, variables: bool) -> Result<Pattern, PolicyError> {
    let pattern = Pattern::parse(text, Syntax { wildcards: true, variables })?;
    let of_other =
        || PolicyError::malformed(format_args!("the resource {text} is not in the bucket {bucket}"));
    if text == "*" {
        return Ok(pattern);
    }
    let name = text.strip_prefix(RESOURCE_PREFIX).ok_or_else(of_other)?;
    let name = name.split_once('/').map_or(name, |(name, _)| name);
    let name = Pattern::parse(name, Syntax { wildcards: true, variables: false })?;
    if name.matches(bucket.as_str(), false, |_| None) { Ok(pattern) } else { Err(of_other()) }
}

fn conditions(json: &Json, variables: bool) -> Result<Vec<Condition>, PolicyError> {
    let Json::Map(operators) = json else { return Err(PolicyError::malformed("Condition is not an object")) };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Json::Map(keys) = keys else {
            return Err(PolicyError::malformed(format_args!("the condition {operator} is not an object")));
        };
        for (key, values) in keys {
            conditions.push(Condition::parse(operator, key, values, variables)?);
        }
    }
    Ok(conditions)
}

#[cfg(test)]
mod tests;
