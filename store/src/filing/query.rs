//! What is asked of filing's lists, and which of them hold the answer (contract §5.4, D2, D42): pure.

use std::collections::BTreeSet;

use crate::name::UserId;
use crate::object::Principal;
use crate::scheme::{Category, fold};
use crate::views::{Scope, Shown};

/// Which files are meant. What is `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this category.
    pub category: Option<Category>,
    /// Of this client. One that is not granted has none (contract D43).
    pub client: Option<String>,
    /// Of this MIME type, without parameters, in any case.
    pub mime: Option<String>,
    /// Written by this user.
    pub uploaded_by: Option<UserId>,
    /// From then on, ms since 1970.
    pub from_ms: Option<u64>,
    /// Before then, ms since 1970.
    pub until_ms: Option<u64>,
    /// With this in their name, whatever the case and the accents.
    pub search: Option<String>,
}

/// What a list is ordered by. What is equal there stands newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// The time of the upload.
    #[default]
    UploadedAt,
    /// The name shown, whatever the case and the accents.
    FileName,
    /// The size.
    SizeBytes,
    /// The MIME type.
    MimeType,
    /// The category's name.
    Category,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which files.
    pub filter: Filter,
    /// By what.
    pub by: SortBy,
    /// The last first.
    pub is_descending: bool,
    /// How many come before the page.
    pub offset: u64,
    /// How many it has.
    pub limit: usize,
}

/// A list that part of the answer is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) only: Only,
}

/// What of a list is meant, where that is not all. Seen in the rows, not in their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Only {
    /// What this user wrote.
    pub(super) writer: Option<UserId>,
    /// What belongs to one of these clients.
    pub(super) clients: Option<BTreeSet<String>>,
}

impl Only {
    /// All of it.
    pub(super) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is meant.
    pub(super) fn holds(&self, row: &Shown<'_>) -> bool {
        let is_written = self.writer.is_none_or(|writer| row.writer == Some(writer));
        let is_theirs = |clients: &BTreeSet<String>| row.client().is_some_and(|c| clients.contains(c));
        is_written && self.clients.as_ref().is_none_or(is_theirs)
    }
}

/// Which lists hold what the caller may see of what the filter names: alternatives, of which the shortest is the one
/// to take. The lists of an alternative have no file in common.
pub(super) fn sources<'a>(principal: &'a Principal, filter: &'a Filter) -> Vec<Vec<Source<'a>>> {
    let whole = |scope| Source { scope, only: Only::default() };
    let granted: BTreeSet<&str> = principal.clients.iter().map(String::as_str).collect();
    let is_granted = |client: &str| principal.is_admin || granted.contains(client);
    match (filter.client.as_deref(), filter.uploaded_by) {
        (Some(client), _) if !is_granted(client) => vec![Vec::new()],
        (Some(client), None) => vec![vec![whole(Scope::Client(client))]],
        (Some(client), Some(writer)) => vec![
            vec![of_writer(Scope::Client(client), writer)],
            vec![of_clients(writer, BTreeSet::from([client]))],
        ],
        (None, Some(writer)) if principal.is_admin => {
            let scopes = [Scope::Own(writer), Scope::ForClients(writer), Scope::ForOthers(writer)];
            vec![scopes.map(whole).to_vec()]
        }
        (None, None) if principal.is_admin => vec![vec![whole(Scope::All)]],
        (None, writer) => {
            let Some(user) = principal.user() else { return vec![Vec::new()] };
            visible(user, &granted, writer)
        }
    }
}

/// What a user sees, of one writer or of all.
fn visible<'a>(user: UserId, granted: &BTreeSet<&'a str>, writer: Option<UserId>) -> Vec<Vec<Source<'a>>> {
    let whole = |scope| Source { scope, only: Only::default() };
    let clients = granted.iter().map(|client| Scope::Client(client));
    match writer {
        None => {
            vec![[Scope::Own(user), Scope::ByOthers(user)].into_iter().chain(clients).map(whole).collect()]
        }
        Some(writer) => {
            let general = if writer == user {
                whole(Scope::Own(user))
            } else {
                of_writer(Scope::ByOthers(user), writer)
            };
            if granted.is_empty() {
                return vec![vec![general]];
            }
            let by_client = clients.map(|client| of_writer(client, writer));
            vec![
                vec![general.clone(), of_clients(writer, granted.clone())],
                std::iter::once(general).chain(by_client).collect(),
            ]
        }
    }
}

fn of_writer(scope: Scope<'_>, writer: UserId) -> Source<'_> {
    Source { scope, only: Only { writer: Some(writer), clients: None } }
}

fn of_clients<'a>(writer: UserId, clients: BTreeSet<&str>) -> Source<'a> {
    let clients = Some(clients.into_iter().map(str::to_owned).collect());
    Source { scope: Scope::ForClients(writer), only: Only { writer: None, clients } }
}

impl Filter {
    /// The first and the last tail (`runs.rs`) of the time asked for; `None`: there is no such time.
    pub(super) fn tails(&self) -> Option<(super::runs::Tail, super::runs::Tail)> {
        let newest = self.until_ms.map_or(Some(u64::MAX), |until| until.checked_sub(1))?;
        let oldest = self.from_ms.unwrap_or(0);
        (oldest <= newest).then(|| (super::runs::tail(newest, u64::MAX), super::runs::tail(oldest, 0)))
    }

    /// Neither from nor until.
    pub(super) fn is_of_all_times(&self) -> bool {
        self.from_ms.or(self.until_ms).is_none()
    }

    /// What names have to contain, as they are compared; `None`: nothing.
    pub(super) fn needle(&self) -> Option<String> {
        self.search.as_deref().map(fold).filter(|needle| !needle.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::object::Who;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn principal(clients: &[&str]) -> Principal {
        let clients = clients.iter().map(|client| (*client).to_owned()).collect();
        Principal { who: Who::User(user(1)), clients, ..Principal::anonymous() }
    }

    /// The scopes of the alternatives, `*` where only part of one is meant.
    fn said(principal: &Principal, client: Option<&str>, writer: Option<u128>) -> Vec<Vec<String>> {
        let filter =
            Filter { client: client.map(str::to_owned), uploaded_by: writer.map(user), ..Filter::default() };
        let name = |source: &Source<'_>| {
            let scope = match source.scope {
                Scope::All => "all".to_owned(),
                Scope::Client(client) => format!("client {client}"),
                Scope::Own(id) => format!("own {}", id.0.as_u128()),
                Scope::ForClients(id) => format!("for clients {}", id.0.as_u128()),
                Scope::ForOthers(id) => format!("for others {}", id.0.as_u128()),
                Scope::ByOthers(id) => format!("by others {}", id.0.as_u128()),
            };
            if source.only.is_all() { scope } else { scope + " *" }
        };
        sources(principal, &filter).iter().map(|sources| sources.iter().map(name).collect()).collect()
    }

    /// Who looks, for which client's, for whose, and where that is.
    type Row<'a> = (&'a Principal, Option<&'a str>, Option<u128>, &'a [&'a [&'a str]]);

    #[test]
    fn who_looks_where() {
        let (none, two, admin) = (principal(&[]), principal(&["8", "7", "7"]), Principal::system());
        let nobody = Principal::anonymous();
        let table: &[Row<'_>] = &[
            (&admin, None, None, &[&["all"]]),
            (&admin, Some("9"), None, &[&["client 9"]]),
            (&admin, None, Some(2), &[&["own 2", "for clients 2", "for others 2"]]),
            (&admin, Some("9"), Some(2), &[&["client 9 *"], &["for clients 2 *"]]),
            (&none, None, None, &[&["own 1", "by others 1"]]),
            (&none, Some("7"), None, &[&[]]),
            (&none, None, Some(1), &[&["own 1"]]),
            (&none, None, Some(2), &[&["by others 1 *"]]),
            (&two, None, None, &[&["own 1", "by others 1", "client 7", "client 8"]]),
            (&two, Some("7"), None, &[&["client 7"]]),
            (&two, Some("9"), Some(1), &[&[]]),
            (&two, None, Some(1), &[&["own 1", "for clients 1 *"], &["own 1", "client 7 *", "client 8 *"]]),
            (&nobody, None, None, &[&[]]),
            (&nobody, None, Some(1), &[&[]]),
        ];
        for (principal, client, writer, expected) in table {
            assert_eq!(said(principal, *client, *writer), *expected, "{client:?} {writer:?}");
        }
    }

    #[test]
    fn times() {
        let tails = |from_ms, until_ms| Filter { from_ms, until_ms, ..Filter::default() }.tails();
        assert_eq!(tails(None, None), Some(([0; 16], [0xFF; 16])));
        assert_eq!(tails(Some(5), Some(5)), None);
        assert_eq!(tails(None, Some(0)), None);
        let (first, last) = tails(Some(5), Some(6)).unwrap();
        assert!(first < super::super::runs::tail(5, 9) && super::super::runs::tail(5, 9) < last);
        assert!(super::super::runs::tail(6, 0) < first && super::super::runs::tail(4, 9) > last);
    }
}
