//! Key ↔ place in the built-in buckets (contract §1, D6, D24): pure.
//!
//! In these buckets the key is the metadata: whose a thing is and where it belongs is read from it, never stored
//! beside it. Promises: [`Place::key`] of what [`Place::parse`] gave is the same key (but for a literal `general`,
//! which is the short form's other spelling), and a key that is not exactly of the scheme has no place. Leaves out:
//! who may use a place (`identity`), the rows that index it (`views`).

use std::fmt::Write as _;

use uuid::Uuid;

use crate::name::{ObjectKey, OrgId, UserId};
use crate::object::BuiltIn;

/// Longest slug in bytes (contract D24).
pub const SLUG_BYTES_MAX: usize = 80;
/// How an absent subcategory reads, and what a caller may say for none.
pub const NO_SUBCATEGORY: &str = "general";
/// Longest extension that a gateway name keeps apart from its stem, bytes without the dot. Ours: beyond it a dot is
/// punctuation.
const EXTENSION_BYTES_MAX: usize = 16;

/// Where an object of a built-in bucket belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of filing.
    Filing(Filing),
    /// An upload of the gateway.
    Gateway(Gateway),
    /// A file of t2m.
    Media(Media),
    /// A file of a company.
    Company(Company),
}

/// `client/{client_id}/{category}/{subcategory}/{name}` or `general/{category}/{subcategory}/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filing {
    /// Whose; `None`: `general/…`.
    pub client: Option<String>,
    /// Its category.
    pub category: Category,
    /// Its subcategory; `None`: the short form, shown as `general`.
    pub subcategory: Option<String>,
    /// The last segment.
    pub name: String,
}

/// The categories of filing's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// `devis`: quotes.
    Devis,
    /// `facture`: invoices.
    Facture,
    /// `contrat`: contracts.
    Contrat,
    /// `document`: general documents.
    Document,
    /// `image`: images.
    Image,
    /// `autre`: other files.
    Autre,
}

/// `{application}/{grant}/{path}/{stem}_{epoch_ms}_{8 hex|UUID}{.ext}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The token's application.
    pub application: String,
    /// The token's grant (default: the user's id).
    pub grant: String,
    /// One segment or more, without slashes at its ends.
    pub path: String,
    /// What the name began with.
    pub stem: String,
    /// When it was uploaded, ms since 1970.
    pub epoch_ms: u64,
    /// What keeps two uploads of one name and instant apart.
    pub unique: Unique,
    /// Without its dot: ASCII letters and digits; `None`: the name has none.
    pub extension: Option<String>,
}

/// The random part of a gateway name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// 8 hex digits: direct and TUS uploads.
    Short(u32),
    /// Presigned uploads.
    Uuid(Uuid),
}

/// `{user_id}/{subdirectory}/{file_id}/{filename}`; the subdirectory may have several segments (`uploads/2024`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Whose.
    pub user: UserId,
    /// One segment or more.
    pub subdirectory: String,
    /// t2m's file id, without its `file_` prefix.
    pub file_id: Uuid,
    /// The last segment.
    pub filename: String,
}

/// `{company_id}/{file_id}/{filename}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Whose.
    pub company: OrgId,
    /// The file's id.
    pub file_id: Uuid,
    /// The last segment.
    pub filename: String,
}

impl Category {
    /// All of them, in the document's order.
    pub const ALL: [Self; 6] =
        [Self::Devis, Self::Facture, Self::Contrat, Self::Document, Self::Image, Self::Autre];

    /// As it stands in keys and requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Devis => "devis",
            Self::Facture => "facture",
            Self::Contrat => "contrat",
            Self::Document => "document",
            Self::Image => "image",
            Self::Autre => "autre",
        }
    }

    /// Reads a category; the spelling is exact.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == text)
    }
}

impl Filing {
    /// The subcategory as it is shown.
    pub fn shown_subcategory(&self) -> &str {
        self.subcategory.as_deref().unwrap_or(NO_SUBCATEGORY)
    }

    fn parse(key: &str) -> Option<Self> {
        let segments: Vec<&str> = key.split('/').collect();
        let (client, rest) = match segments.as_slice() {
            ["client", client, rest @ ..] => (Some(*client), rest),
            ["general", rest @ ..] => (None, rest),
            _ => return None,
        };
        let (category, subcategory, name) = match rest {
            [category, name] => (*category, None, *name),
            [category, subcategory, name] => (*category, Some(*subcategory), *name),
            _ => return None,
        };
        if client == Some("") || subcategory == Some("") || !is_entry(name) {
            return None;
        }
        Some(Self {
            client: client.map(str::to_owned),
            category: Category::parse(category)?,
            subcategory: subcategory.filter(|s| *s != NO_SUBCATEGORY).map(str::to_owned),
            name: name.to_owned(),
        })
    }

    /// The key up to the name, with the slash.
    pub fn folder(&self) -> String {
        let mut folder = match &self.client {
            Some(client) => format!("client/{client}/"),
            None => "general/".to_owned(),
        };
        folder.push_str(self.category.as_str());
        folder.push('/');
        if let Some(subcategory) = self.subcategory.as_deref().filter(|s| *s != NO_SUBCATEGORY) {
            folder.push_str(subcategory);
            folder.push('/');
        }
        folder
    }

    fn key(&self) -> String {
        self.folder() + &self.name
    }
}

/// The subcategory, as it is shown, of a key that is one of filing's.
pub(crate) fn subcategory_of(key: &str) -> &str {
    let behind_category = if key.starts_with("client/") { 3 } else { 2 };
    let mut rest = key.splitn(behind_category + 2, '/').skip(behind_category);
    match (rest.next(), rest.next()) {
        (Some(subcategory), Some(_)) => subcategory,
        _ => NO_SUBCATEGORY,
    }
}

/// Names that editors and tools make on their way to a file are objects, never filing entries (contract D6).
fn is_entry(name: &str) -> bool {
    let is_scratch = [".tmp", ".swp", "~"].iter().any(|ending| name.ends_with(ending));
    !name.is_empty() && !name.starts_with('.') && !is_scratch
}

impl Gateway {
    /// Divides a file's name into what a key keeps of it: stem and extension.
    pub fn divide(file_name: &str) -> (&str, Option<&str>) {
        match file_name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() && is_extension(extension) => (stem, Some(extension)),
            _ => (file_name, None),
        }
    }

    fn parse(key: &str) -> Option<Self> {
        let (directory, name) = key.rsplit_once('/')?;
        let mut segments = directory.splitn(3, '/');
        let (application, grant, path) = (segments.next()?, segments.next()?, segments.next()?);
        if [application, grant].contains(&"") || path.split('/').any(str::is_empty) {
            return None;
        }
        let (base, extension) = Self::divide(name);
        let (front, unique) = base.rsplit_once('_')?;
        let (stem, epoch_ms) = front.rsplit_once('_')?;
        Some(Self {
            application: application.to_owned(),
            grant: grant.to_owned(),
            path: path.to_owned(),
            stem: stem.to_owned(),
            epoch_ms: parse_canonical(epoch_ms)?,
            unique: Unique::parse(unique)?,
            extension: extension.map(str::to_owned),
        })
    }

    fn key(&self) -> String {
        let Self { application, grant, path, stem, epoch_ms, .. } = self;
        let mut key = format!("{application}/{grant}/{path}/{stem}_{epoch_ms}_");
        let written = match self.unique {
            Unique::Short(n) => write!(key, "{n:08x}"),
            Unique::Uuid(id) => write!(key, "{}", id.hyphenated()),
        };
        written.expect("writing to a String does not fail");
        if let Some(extension) = &self.extension {
            key.push('.');
            key.push_str(extension);
        }
        key
    }
}

/// Letters and digits only: a `_` in it would make the name's end ambiguous.
fn is_extension(text: &str) -> bool {
    (1..=EXTENSION_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A decimal number as we write it: no sign, no leading zeros.
fn parse_canonical(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A UUID as we write it: hyphenated, lower case.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    let mut buffer = Uuid::encode_buffer();
    (id.hyphenated().encode_lower(&mut buffer) == text).then_some(id)
}

impl Unique {
    fn parse(text: &str) -> Option<Self> {
        let is_short = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_short {
            return u32::from_str_radix(text, 16).ok().map(Self::Short);
        }
        parse_uuid(text).map(Self::Uuid)
    }
}

impl Media {
    fn parse(key: &str) -> Option<Self> {
        let (directory, filename) = key.rsplit_once('/')?;
        let (directory, file_id) = directory.rsplit_once('/')?;
        let (user, subdirectory) = directory.split_once('/')?;
        if filename.is_empty() || subdirectory.split('/').any(str::is_empty) {
            return None;
        }
        Some(Self {
            user: UserId(parse_uuid(user)?),
            subdirectory: subdirectory.to_owned(),
            file_id: parse_uuid(file_id)?,
            filename: filename.to_owned(),
        })
    }
}

impl Company {
    fn parse(key: &str) -> Option<Self> {
        let segments: Vec<&str> = key.split('/').collect();
        let [company, file_id, filename] = segments.as_slice() else { return None };
        if filename.is_empty() {
            return None;
        }
        Some(Self {
            company: OrgId(parse_uuid(company)?),
            file_id: parse_uuid(file_id)?,
            filename: (*filename).to_owned(),
        })
    }
}

impl Place {
    /// Where a key of a built-in bucket belongs; `None`: outside the scheme, an ordinary object.
    pub fn parse(bucket: BuiltIn, key: &ObjectKey) -> Option<Self> {
        let key = key.as_str();
        match bucket {
            BuiltIn::Filing => Filing::parse(key).map(Self::Filing),
            BuiltIn::Gateway => Gateway::parse(key).map(Self::Gateway),
            BuiltIn::Media => Media::parse(key).map(Self::Media),
            BuiltIn::Companies => Company::parse(key).map(Self::Company),
        }
    }

    /// The key of a place. `None` when what it is made of does not fit the scheme (an empty segment, a slash inside
    /// one, a name that filing leaves out, over 1,024 bytes): such a place cannot be stored.
    pub fn key(&self) -> Option<ObjectKey> {
        let (bucket, key) = match self {
            Self::Filing(place) => (BuiltIn::Filing, place.key()),
            Self::Gateway(place) => (BuiltIn::Gateway, place.key()),
            Self::Media(Media { user, subdirectory, file_id, filename }) => {
                (BuiltIn::Media, format!("{user}/{subdirectory}/{file_id}/{filename}"))
            }
            Self::Company(Company { company, file_id, filename }) => {
                (BuiltIn::Companies, format!("{company}/{file_id}/{filename}"))
            }
        };
        let key: ObjectKey = key.parse().ok()?;
        (Self::parse(bucket, &key).as_ref() == Some(&self.normal())).then_some(key)
    }

    /// A literal `general` is the short form (contract D24).
    fn normal(&self) -> Self {
        let mut place = self.clone();
        if let Self::Filing(Filing { subcategory, .. }) = &mut place
            && subcategory.as_deref() == Some(NO_SUBCATEGORY)
        {
            *subcategory = None;
        }
        place
    }
}

/// A text as a slug (contract D24, D43): lower-case ASCII, `_` kept, every other run one `-`, none at the ends, at
/// most 80 characters; `fichier` when nothing is left. Letters with accents become their base letters.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => slug.push(c),
            'A'..='Z' => slug.push(c.to_ascii_lowercase()),
            // combining accents, as macOS writes names: the base letter stands already
            '\u{300}'..='\u{36f}' => {}
            _ => match base_letters(c) {
                "" if slug.is_empty() || slug.ends_with('-') => {}
                "" => slug.push('-'),
                letters => slug.push_str(letters),
            },
        }
    }
    slug.truncate(SLUG_BYTES_MAX);
    slug.truncate(slug.trim_end_matches('-').len());
    if slug.is_empty() { "fichier".to_owned() } else { slug }
}

/// A text as names are compared by people: without case and accents.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{300}'..='\u{36f}' => {}
            _ if c.is_ascii() => folded.push(c.to_ascii_lowercase()),
            _ => match base_letters(c) {
                "" => folded.extend(c.to_lowercase()),
                letters => folded.push_str(letters),
            },
        }
    }
    folded
}

/// What a Latin letter with an accent is without it; empty for anything else.
fn base_letters(c: char) -> &'static str {
    match c {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ð' | 'ð' | 'Ď'..='đ' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' => "e",
        'Ĝ'..='ģ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ'..='ĸ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ŉ' => "n",
        'Ò'..='Ö' | 'Ø' | 'ò'..='ö' | 'ø' | 'Ō'..='ő' => "o",
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' | 'ſ' | 'Ș' | 'ș' => "s",
        'ß' | 'ẞ' => "ss",
        'Ţ'..='ŧ' | 'Ț' | 'ț' => "t",
        'Þ' | 'þ' => "th",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' => "y",
        'Ź'..='ž' => "z",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
