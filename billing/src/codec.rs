//! Billing's rows: their keys and the encoding of their records.
//!
//! All keys begin with [`TABLE`], which the store's codec leaves to this crate, and a second byte:
//!
//! | second byte | rest of the key | value | why |
//! |---|---|---|---|
//! | `01` customer | org id | `Customer` | whose plan it is: one point read for each decision |
//! | `02` Stripe's id | customer's id at Stripe | org id | events that name the customer alone |
//! | `03` event | event's id | – | applied once |
//! | `04` event's age | when it came (be64, ms), event's id | – | so that old ones can go |
//! | `08` account | org id, feature | `Account` | what is left, in the same commit as the line that changed it |
//! | `09` line | org id, feature, `00`, line id | `Line` | the ledger: ids sort by time, so a period is a range |
//! | `0A` key | org id, SHA-256 of application and idempotency key | `KeyRecord` | which line answered; as old as the ledger |
//! | `0B` refunded | line id | line id of the refund | a line is given back once |
//! | `10` quota | dimension, id | bytes, be64 | the ceilings that operators set |
//! | `11` any quota | – | – | absent: nobody has one, which is all a write has to check |
//!
//! Records: format byte, postcard, CRC32C (big-endian) of both.

use bytes::Bytes;
use coffre_store::OrgId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::{Error, Result};

/// First byte of all of billing's keys.
pub(crate) const TABLE: u8 = 0x61;
/// Format byte of today's records.
const FORMAT: u8 = 1;
/// Bytes of the checksum at a record's end.
const CRC_BYTES: usize = 4;

/// The second byte of a key.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Customer = 0x01,
    StripeId = 0x02,
    Event = 0x03,
    EventAge = 0x04,
    Account = 0x08,
    Line = 0x09,
    Key = 0x0A,
    Refunded = 0x0B,
    Quota = 0x10,
    AnyQuota = 0x11,
}

/// A row's key, or with fewer parts the prefix of many.
pub(crate) fn key(kind: Kind, parts: &[&[u8]]) -> Bytes {
    let mut key = vec![TABLE, kind as u8];
    for part in parts {
        key.extend_from_slice(part);
    }
    key.into()
}

/// The key of an organisation's row.
pub(crate) fn customer_key(org: OrgId) -> Bytes {
    key(Kind::Customer, &[org.0.as_bytes()])
}

/// The key of an account.
pub(crate) fn account_key(org: OrgId, feature: &str) -> Bytes {
    key(Kind::Account, &[org.0.as_bytes(), feature.as_bytes()])
}

/// The key of a line of the ledger.
pub(crate) fn line_key(org: OrgId, feature: &str, id: Uuid) -> Bytes {
    key(Kind::Line, &[org.0.as_bytes(), feature.as_bytes(), &[0], id.as_bytes()])
}

/// What the keys of an organisation's lines begin with; of one feature, of all, or of all organisations'.
pub(crate) fn lines_prefix(org: Option<OrgId>, feature: Option<&str>) -> Bytes {
    match (org, feature) {
        (Some(org), Some(feature)) => key(Kind::Line, &[org.0.as_bytes(), feature.as_bytes(), &[0]]),
        (Some(org), None) => key(Kind::Line, &[org.0.as_bytes()]),
        (None, _) => key(Kind::Line, &[]),
    }
}

/// Organisation, feature and id of a line's key.
pub(crate) fn parse_line_key(key: &[u8]) -> Option<(OrgId, &str, Uuid)> {
    let rest = key.get(2..)?;
    let (org, rest) = rest.split_at_checked(16)?;
    let (feature, id) = rest.split_at_checked(rest.len().checked_sub(17)?)?;
    let feature = std::str::from_utf8(feature).ok()?;
    Some((OrgId(Uuid::from_slice(org).ok()?), feature, Uuid::from_slice(id.get(1..)?).ok()?))
}

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Bytes> {
    let mut bytes = postcard::to_extend(record, vec![FORMAT])
        .map_err(|error| Error::internal("encoding a record", error))?;
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    Ok(bytes.into())
}

/// Reads a record back.
///
/// # Errors
/// [`Error::Corrupt`] for damaged bytes and for formats this version does not know.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let damaged = || Error::corrupt(what);
    let body_len = bytes.len().checked_sub(CRC_BYTES).ok_or_else(damaged)?;
    let (body, crc) = bytes.split_at_checked(body_len).ok_or_else(damaged)?;
    if crc_fast::crc32_iscsi(body).to_be_bytes() != crc {
        return Err(damaged());
    }
    let (format, record) = body.split_first().ok_or_else(damaged)?;
    if *format != FORMAT {
        return Err(Error::Corrupt { what: format!("{what}, written by a newer version") });
    }
    postcard::from_bytes(record).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed_at_every_bit() {
        let good = encode(&("name".to_owned(), 7u64)).unwrap();
        assert_eq!(decode::<(String, u64)>("r", &good).unwrap(), ("name".to_owned(), 7));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode::<(String, u64)>("r", &bad), Err(Error::Corrupt { .. })), "bit {bit}");
        }
    }

    #[test]
    fn lines_keys_are_read_back_and_sort_by_time() {
        let (org, id) = (OrgId(Uuid::from_u128(7)), Uuid::from_u128(9));
        for feature in ["a", "ai_generation", "a.b-c"] {
            let row = line_key(org, feature, id);
            assert_eq!(parse_line_key(&row), Some((org, feature, id)));
            assert!(row.starts_with(&lines_prefix(Some(org), Some(feature))));
            assert!(
                !line_key(org, &format!("{feature}x"), id)
                    .starts_with(&lines_prefix(Some(org), Some(feature)))
            );
            assert!(row < line_key(org, feature, Uuid::from_u128(10)));
        }
        for len in 0..35 {
            assert_eq!(parse_line_key(&vec![0; len]), None, "{len}");
        }
    }
}
