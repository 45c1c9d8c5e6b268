//! Identity's rows: their keys and the encoding of their records.
//!
//! All keys begin with [`TABLE`], which the store's codec leaves to this crate, and a second byte:
//!
//! | second byte | rest of the key | value | why |
//! |---|---|---|---|
//! | `01` user | user id | `UserRecord` | the truth |
//! | `02` name | folded name | user id | unique names, lookup by name |
//! | `03` email | folded address | user id | unique addresses |
//! | `04` serial | u64 | user id | filing's `uploaded_by` (contract D1) |
//! | `05` last serial | – | counter | the next serial |
//! | `06` subject | issuer, `00`, `sub` | user id | who a JWT's issuer calls so |
//! | `10` key | access key id | `KeyRecord` | one point read for a request |
//! | `11` user's key | user id, access key id | – | listing |
//! | `18` token | token id | `TokenRecord` | |
//! | `19` user's token | user id, token id | – | listing |
//! | `1A` last use | token id | ms, u64 | apart, so that a use does not rewrite the token |
//! | `20` organisation | org id | `OrgRecord` | |
//! | `21` org name | folded name | org id | unique names |
//! | `22` membership | user id, org id | – | a principal's organisations |
//! | `23` member | org id, user id | – | an organisation's people |
//! | `28` grant | user id, client id | – | a principal's clients |
//! | `29` granted | client id, `00`, user id | – | a client's people |
//! | `30` generation | – | – | its position changes with every change here: caches compare it |
//! | `31` check | – | sealed | tells a wrong master key |
//! | `32` first admin | – | sealed | until `credentials.json` is written |
//! | `33` audit | – | `audit::Place` | how far the audit log is |
//!
//! Records: format byte, postcard, CRC32C (big-endian) of both.

use bytes::Bytes;
use coffre_store::{OrgId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// First byte of all of identity's keys.
pub(crate) const TABLE: u8 = 0x60;
/// Format byte of today's records.
const FORMAT: u8 = 1;
/// Bytes of the checksum at a record's end.
const CRC_BYTES: usize = 4;

/// The second byte of a key.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    User = 0x01,
    Name = 0x02,
    Email = 0x03,
    Serial = 0x04,
    LastSerial = 0x05,
    Subject = 0x06,
    Key = 0x10,
    UserKey = 0x11,
    Token = 0x18,
    UserToken = 0x19,
    LastUse = 0x1A,
    Org = 0x20,
    OrgName = 0x21,
    Membership = 0x22,
    Member = 0x23,
    Grant = 0x28,
    Granted = 0x29,
    Generation = 0x30,
    Check = 0x31,
    FirstAdmin = 0x32,
    Audit = 0x33,
}

/// A row's key, or with fewer parts the prefix of many.
pub(crate) fn key(kind: Kind, parts: &[&[u8]]) -> Bytes {
    let mut key = vec![TABLE, kind as u8];
    for part in parts {
        key.extend_from_slice(part);
    }
    key.into()
}

/// The key of a user's row.
pub(crate) fn user_key(id: UserId) -> Bytes {
    key(Kind::User, &[id.0.as_bytes()])
}

/// The key of an organisation's row.
pub(crate) fn org_key(id: OrgId) -> Bytes {
    key(Kind::Org, &[id.0.as_bytes()])
}

/// What follows kind and `skip` bytes in a key; `None` for a key that is too short.
pub(crate) fn rest(key: &[u8], skip: usize) -> Option<&[u8]> {
    key.get(2 + skip..)
}

/// The same as an id.
pub(crate) fn rest_id(key: &[u8], skip: usize) -> Option<uuid::Uuid> {
    uuid::Uuid::from_slice(rest(key, skip)?).ok()
}

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Bytes> {
    let mut bytes = postcard::to_extend(record, vec![FORMAT])
        .map_err(|e| Error::Internal { doing: "encoding a record", source: e.into() })?;
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    Ok(bytes.into())
}

/// Reads a record back.
///
/// # Errors
/// [`Error::Corrupt`] for damaged bytes and for formats this version does not know.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let damaged = || Error::Corrupt { what: what.to_owned() };
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
        for len in 0..good.len() {
            assert!(decode::<(String, u64)>("r", &good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut newer = vec![2, 0];
        newer.extend_from_slice(&crc_fast::crc32_iscsi(&[2, 0]).to_be_bytes());
        let error = decode::<u8>("user", &newer).unwrap_err();
        assert!(error.to_string().contains("newer"), "{error}");
    }
}
