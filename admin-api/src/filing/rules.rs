//! What callers may ask for, and what is said when they may not (contract §5.4, D3, D24, D25): pure.
#![expect(clippy::option_option, reason = "a field that is not given is another thing than one that is null")]

use coffre_store::filing::{FileChange, Filter, Query, SortBy};
use coffre_store::object::Principal;
use coffre_store::scheme::{Category, NO_SUBCATEGORY, slug};

use super::input::{Given, Input};
use super::name::{Zone, date};
use super::words::{self, Bag};

/// The document's limits, and ours where it has none.
const DESCRIPTION_CHARS_MAX: usize = 500;
const TAGS_MAX: usize = 10;
const TAG_CHARS_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 255;
const SUBCATEGORY_CHARS_MAX: usize = 100;
const SEARCH_CHARS_MAX: usize = 255;
const MIME_CHARS_MAX: usize = 255;
/// A client is one segment of a key.
const CLIENT_BYTES_MAX: usize = 128;
const PER_PAGE_MAX: u64 = 100;
const PER_PAGE_DEFAULT: usize = 15;

/// What is said of a file beside its bytes. What is `None` was not given; `Some(None)` was given as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) file_name: Option<Option<String>>,
    pub(crate) category: Option<Category>,
    pub(crate) client: Option<Option<String>>,
    pub(crate) subcategory: Option<Option<String>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) is_public: Option<bool>,
}

/// A page as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) page: u64,
    /// `uploaded_by`, a user's number: who that is, is not known here.
    pub(crate) uploader: Option<u64>,
}

/// Reads what is said of a file. Every fault is noted, in the document's order of fields.
pub(crate) fn about(input: &Input, principal: &Principal, bag: &mut Bag) -> About {
    let file_name =
        text(input, "file_name", NAME_CHARS_MAX, (words::FILE_NAME_INVALID, words::FILE_NAME_TOO_LONG), bag);
    if let Some(Some(name)) = &file_name
        && name.chars().any(char::is_control)
    {
        bag.add("file_name", words::FILE_NAME_INVALID);
    }
    let category = category(input.get("category"), bag);
    let client = client(input.get("client_id"), principal, bag);
    let subcategory = text(
        input,
        "subcategory",
        SUBCATEGORY_CHARS_MAX,
        (words::SUBCATEGORY_INVALID, words::SUBCATEGORY_TOO_LONG),
        bag,
    );
    let subcategory =
        subcategory.map(|given| given.as_deref().map(slug).filter(|slug| slug != NO_SUBCATEGORY));
    let description = text(
        input,
        "description",
        DESCRIPTION_CHARS_MAX,
        (words::DESCRIPTION_INVALID, words::DESCRIPTION_TOO_LONG),
        bag,
    );
    let tags = tags(input.get("tags"), bag);
    let is_public = is_public(input.get("is_public"), bag);
    About { file_name, category, client, subcategory, description, tags, is_public }
}

impl About {
    /// As a change of a file that is there. A tag that is there already stays as it is: another door may have given it a
    /// value.
    pub(crate) fn change(self, there: &[(String, String)]) -> FileChange {
        let pair = |tag: String| {
            let known = there.iter().find(|(name, value)| shown_tag(name, value) == tag);
            known.cloned().unwrap_or((tag, String::new()))
        };
        FileChange {
            // an empty name is the stored one
            label: self.file_name.map(Option::unwrap_or_default),
            description: self.description,
            tags: self.tags.map(|tags| tags.into_iter().map(pair).collect()),
            is_public: self.is_public,
            client: self.client,
            category: self.category,
            subcategory: self.subcategory,
        }
    }
}

/// A tag as filing shows it.
pub(crate) fn shown_tag(name: &str, value: &str) -> String {
    if value.is_empty() { name.to_owned() } else { format!("{name}={value}") }
}

/// Reads the page that a query asks for. `fixed` is what the path says.
pub(crate) fn asked(input: &Input, fixed: Fixed<'_>, zone: &Zone, bag: &mut Bag) -> Asked {
    let per_page = number(input, "per_page").map_or(Some(PER_PAGE_DEFAULT), |n| {
        n.filter(|n| (1..=PER_PAGE_MAX).contains(n)).and_then(|n| usize::try_from(n).ok())
    });
    if per_page.is_none() {
        bag.add_with("per_page", words::PER_PAGE_RANGE, &PER_PAGE_MAX.to_string());
    }
    let page = number(input, "page").map_or(Some(1), |n| n.filter(|n| *n >= 1));
    if page.is_none() {
        bag.add("page", words::PAGE_INVALID);
    }
    let (filter, uploader) = filter(input, fixed, zone, bag);
    let by = match input.text("sort_by").unwrap_or("uploaded_at") {
        "file_name" => SortBy::FileName,
        "size_bytes" => SortBy::SizeBytes,
        "mime_type" => SortBy::MimeType,
        "category" => SortBy::Category,
        "uploaded_at" => SortBy::UploadedAt,
        _ => {
            bag.add("sort_by", words::SORT_UNKNOWN);
            SortBy::UploadedAt
        }
    };
    let direction = input.text("sort_direction").unwrap_or("desc").to_ascii_lowercase();
    if !matches!(direction.as_str(), "asc" | "desc") {
        bag.add("sort_direction", words::DIRECTION_UNKNOWN);
    }
    let (limit, page) = (per_page.unwrap_or(PER_PAGE_DEFAULT), page.unwrap_or(1));
    let offset = (page - 1).saturating_mul(limit as u64);
    let query = Query { filter, by, is_descending: direction == "desc", offset, limit };
    Asked { query, page, uploader }
}

/// What a path says of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed<'a> {
    Nothing,
    Category(&'a str),
    Client(&'a str),
}

fn filter(input: &Input, fixed: Fixed<'_>, zone: &Zone, bag: &mut Bag) -> (Filter, Option<u64>) {
    let within = |field: &str, chars_max: usize, words, bag: &mut Bag| {
        let text = input.text(field)?;
        if text.chars().count() > chars_max {
            bag.add_with(field, words, &chars_max.to_string());
            return None;
        }
        Some(text.to_owned())
    };
    let search = within("search", SEARCH_CHARS_MAX, words::SEARCH_TOO_LONG, bag);
    let mime = within("mime_type", MIME_CHARS_MAX, words::MIME_INVALID, bag);
    let uploader = number(input, "uploaded_by").and_then(|n| {
        if n.is_none() {
            bag.add("uploaded_by", words::UPLOADER_INVALID);
        }
        n
    });
    let category = match fixed {
        Fixed::Category(name) => category(Some(&Given::Text(name.to_owned())), bag),
        Fixed::Nothing | Fixed::Client(_) => match input.get("category") {
            None | Some(Given::Null) => None,
            given => category(given, bag),
        },
    };
    let client = match fixed {
        Fixed::Client(id) => Some(id.to_owned()),
        Fixed::Nothing | Fixed::Category(_) => input.text("client_id").map(str::to_owned),
    };
    let mut day = |field: &str, words| {
        let text = input.text(field)?;
        let day = date(text).and_then(|date| zone.day(date));
        if day.is_none() {
            bag.add(field, words);
        }
        day
    };
    let from_ms = day("date_from", words::FROM_INVALID).map(|(begin, _)| begin);
    let until_ms = day("date_to", words::TO_INVALID).map(|(_, end)| end);
    (Filter { category, client, mime, uploaded_by: None, from_ms, until_ms, search }, uploader)
}

/// A number; `Some(None)`: something else was given.
fn number(input: &Input, field: &str) -> Option<Option<u64>> {
    match input.get(field) {
        None | Some(Given::Null) => None,
        Some(Given::Text(text)) => Some(text.parse().ok()),
        Some(Given::List(_) | Given::Other) => Some(None),
    }
}

/// A text of so many characters at most; `Some(None)`: given as nothing.
fn text(
    input: &Input,
    field: &str,
    chars_max: usize,
    (no_text, too_long): (words::Words, words::Words),
    bag: &mut Bag,
) -> Option<Option<String>> {
    match input.get(field)? {
        Given::Null => Some(None),
        Given::Text(text) if text.chars().count() <= chars_max => Some(Some(text.clone())),
        Given::Text(_) => {
            bag.add_with(field, too_long, &chars_max.to_string());
            None
        }
        Given::List(_) | Given::Other => {
            bag.add(field, no_text);
            None
        }
    }
}

fn category(given: Option<&Given>, bag: &mut Bag) -> Option<Category> {
    let category = match given? {
        Given::Text(text) => Category::parse(text),
        Given::Null => {
            bag.add("category", words::CATEGORY_REQUIRED);
            return None;
        }
        Given::List(_) | Given::Other => None,
    };
    if category.is_none() {
        bag.add("category", words::CATEGORY_UNKNOWN);
    }
    category
}

/// A client that the caller may use (contract D3): a granted one; for an ADMIN any that a key can name.
fn client(given: Option<&Given>, principal: &Principal, bag: &mut Bag) -> Option<Option<String>> {
    let id = match given? {
        Given::Null => return Some(None),
        Given::Text(id) => Some(id),
        Given::List(_) | Given::Other => None,
    };
    let may_use = |id: &&String| {
        let is_segment = id.len() <= CLIENT_BYTES_MAX && !id.chars().any(|c| c == '/' || c.is_control());
        is_segment && (principal.is_admin || principal.clients.contains(id))
    };
    let id = id.filter(may_use);
    if id.is_none() {
        bag.add("client_id", words::CLIENT_UNKNOWN);
    }
    id.map(|id| Some(id.clone()))
}

/// Each one once, in the order given.
fn tags(given: Option<&Given>, bag: &mut Bag) -> Option<Vec<String>> {
    let list = match given? {
        Given::Null => return Some(Vec::new()),
        Given::List(list) => list,
        Given::Text(_) | Given::Other => {
            bag.add("tags", words::TAGS_NO_LIST);
            return None;
        }
    };
    let mut tags: Vec<String> = Vec::with_capacity(list.len().min(TAGS_MAX));
    if list.len() > TAGS_MAX {
        bag.add_with("tags", words::TAGS_TOO_MANY, &TAGS_MAX.to_string());
        return None;
    }
    for (n, tag) in list.iter().enumerate() {
        match tag {
            Given::Text(tag) if tag.chars().count() <= TAG_CHARS_MAX => {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
            Given::Text(_) => {
                bag.add_with(&format!("tags.{n}"), words::TAG_TOO_LONG, &TAG_CHARS_MAX.to_string());
            }
            Given::Null | Given::List(_) | Given::Other => bag.add(&format!("tags.{n}"), words::TAG_INVALID),
        }
    }
    Some(tags)
}

/// What forms and JSON say for true and false.
fn is_public(given: Option<&Given>, bag: &mut Bag) -> Option<bool> {
    let is = match given? {
        Given::Null => return None,
        Given::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Some(true),
            "false" | "0" | "off" | "no" => Some(false),
            _ => None,
        },
        Given::List(_) | Given::Other => None,
    };
    if is.is_none() {
        bag.add("is_public", words::PUBLIC_NO_BOOLEAN);
    }
    is
}

#[cfg(test)]
mod tests;
