//! The change feed in the store's words: what a commit's note says, for audit, mount invalidation and webhooks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Cx;
use crate::codec::keys;
use crate::object::{Door, Who};

/// Format byte of a note.
const FORMAT: u8 = 1;
/// Format byte of several lines in one note.
const FORMAT_MANY: u8 = 2;
/// Most bytes of several lines: a note's, with room for what a newer format may put before them.
const MANY_BYTES_MAX: usize = coffre_kv::NOTE_BYTES_MAX - 96;

/// One line of the audit log (contract §2, D43), and what else a commit tells its followers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When, ms since 1970.
    pub time_ms: u64,
    /// Who: a user's UUID, `anonymous` or `system`.
    pub principal: String,
    /// Through which door: `s3`, `mount`, `rest`, `control`.
    pub door: String,
    /// From where.
    pub client_address: Option<IpAddr>,
    /// Doing what: an S3 action's name, or a word of the admin API (`CreateUser`).
    pub action: String,
    /// To which bucket.
    pub bucket: Option<String>,
    /// To which key.
    pub key: Option<String>,
    /// `ok`, or why not.
    pub outcome: String,
    /// The request's id.
    pub request_id: String,
}

impl Note {
    /// A line about a change that is committed with it.
    pub fn of(cx: &Cx, action: &str, bucket: Option<&str>, key: Option<&str>) -> Self {
        Self {
            time_ms: cx.now_ms,
            principal: match cx.principal.who {
                Who::User(id) => id.to_string(),
                Who::Anonymous => "anonymous".into(),
                Who::System => "system".into(),
            },
            door: match cx.door {
                Door::S3 => "s3",
                Door::Mount => "mount",
                Door::Rest => "rest",
                Door::Control => "control",
            }
            .into(),
            client_address: cx.circumstances.client_address,
            action: action.to_owned(),
            bucket: bucket.map(str::to_owned),
            key: key.map(str::to_owned),
            outcome: "ok".into(),
            request_id: cx.request_id.to_string(),
        }
    }

    /// Through which door it came.
    pub(crate) fn came_by(&self) -> Door {
        match self.door.as_str() {
            "s3" => Door::S3,
            "mount" => Door::Mount,
            "rest" => Door::Rest,
            _ => Door::Control,
        }
    }

    /// A line about what the daemon does by itself.
    pub(crate) fn own(time_ms: u64, action: &str) -> Self {
        Self {
            time_ms,
            principal: "system".into(),
            door: "control".into(),
            client_address: None,
            action: action.to_owned(),
            bucket: None,
            key: None,
            outcome: "ok".into(),
            request_id: String::new(),
        }
    }

    /// The audit lines of a commit: its note, or the several it holds ([`Self::encode_many`]); for a batch
    /// (`DeleteObjects`, whose keys would not fit a note) one line for each object key it wrote.
    pub fn lines(change: &coffre_kv::Change) -> Vec<Self> {
        if let Some((&FORMAT_MANY, body)) = change.note.split_first() {
            return postcard::from_bytes(body).unwrap_or_default();
        }
        let Some(note) = Self::decode(&change.note) else { return Vec::new() };
        if note.action != "DeleteObjects" {
            return vec![note];
        }
        let key_of = |row: &[u8]| match row.first() {
            Some(&keys::HEAD) => keys::parse_head(row).ok().map(|(_, key)| key.to_owned()),
            Some(&keys::VERSION) => keys::parse_version(row).ok().map(|(_, key, _)| key),
            _ => None,
        };
        let written: BTreeSet<String> = change.writes.iter().filter_map(|(row, _)| key_of(row)).collect();
        written
            .into_iter()
            .map(|key| Self { action: "DeleteObject".into(), key: Some(key), ..note.clone() })
            .collect()
    }

    /// As the bytes of a commit's note: format byte, then postcard.
    pub fn encode(&self) -> bytes::Bytes {
        postcard::to_extend(self, vec![FORMAT]).map(Into::into).unwrap_or_default()
    }

    /// Several lines of changes that are committed together, as the bytes of one note, and how many of them fit.
    pub fn encode_many(notes: &[Self]) -> (bytes::Bytes, usize) {
        let (mut bytes, mut fit) = (0, 0);
        for note in notes {
            bytes += note.encode().len();
            if bytes > MANY_BYTES_MAX {
                break;
            }
            fit += 1;
        }
        let fitting = notes.get(..fit).unwrap_or_default();
        let encoded = postcard::to_extend(fitting, vec![FORMAT_MANY]).map(Into::into).unwrap_or_default();
        (encoded, fit)
    }

    /// Reads one line back; `None` when there is none, several, or of a newer format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, body) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        postcard::from_bytes(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use coffre_kv::{Change, Position};

    use super::*;

    #[test]
    fn several_lines_travel_in_one_note_as_far_as_they_fit() {
        let note =
            |n: usize| Note { key: Some(format!("{n}-{}", "x".repeat(200))), ..Note::own(7, "Consume") };
        let notes: Vec<Note> = (0..40).map(note).collect();
        let (bytes, fit) = Note::encode_many(&notes);
        assert!(
            (10..40).contains(&fit) && bytes.len() <= coffre_kv::NOTE_BYTES_MAX,
            "{fit}, {}",
            bytes.len()
        );
        let change = |note| Change { position: Position(1), writes: Vec::new(), note };
        assert_eq!(Note::lines(&change(bytes)), notes[..fit]);
        let (bytes, fit) = Note::encode_many(&notes[..2]);
        assert_eq!((Note::lines(&change(bytes)).len(), fit), (2, 2));
        assert_eq!(Note::lines(&change(notes[0].encode())), notes[..1]);
        assert!(Note::lines(&change(bytes::Bytes::new())).is_empty());
    }
}
