//! `Upload-Checksum`: an algorithm and a digest of the request's bytes in base64.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_store::digest::{Algorithm, Checksum, ChecksumKind};
use coffre_store::put::Claims;

use super::{UPLOAD_CHECKSUM, invalid, text};
use crate::error::ApiError;

/// What the request claims of its bytes.
///
/// # Errors
/// `Validation`: an algorithm that is not offered, a digest that is none.
pub(crate) fn claims(headers: &HeaderMap) -> Result<Claims, ApiError> {
    let Some(said) = text(headers, &UPLOAD_CHECKSUM)? else { return Ok(Claims::default()) };
    let (name, value) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
    let value = STANDARD.decode(value.trim());
    let value = value.map_err(|_| invalid(&UPLOAD_CHECKSUM, "has a digest that is not base64"))?;
    let wrong_length = || invalid(&UPLOAD_CHECKSUM, "has a digest of another length than its algorithm's");
    let algorithm = match name {
        "md5" => {
            let md5 = value.try_into().map_err(|_| wrong_length())?;
            return Ok(Claims { md5: Some(md5), ..Claims::default() });
        }
        "sha1" => Algorithm::Sha1,
        "sha256" => Algorithm::Sha256,
        "crc32c" => Algorithm::Crc32c,
        _ => return Err(invalid(&UPLOAD_CHECKSUM, "names an algorithm that is not offered")),
    };
    if value.len() != algorithm.len_bytes() {
        return Err(wrong_length());
    }
    let checksum = Checksum { algorithm, kind: ChecksumKind::FullObject, value };
    Ok(Claims { checksums: vec![checksum], ..Claims::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<(Option<[u8; 16]>, Vec<Checksum>), ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(UPLOAD_CHECKSUM, value.parse().unwrap());
        claims(&headers).map(|claims| (claims.md5, claims.checksums))
    }

    #[test]
    fn algorithms() {
        // of "123456789"
        let (md5, none) = of("md5 JfnnlDI7RTiF9RgfG2JNCw==").unwrap();
        assert_eq!((md5.map(|md5| md5[0]), none), (Some(0x25), vec![]));
        for (value, algorithm, first) in [
            ("sha1 98O8HYCOBHMq32eZZczDTKeuNEE=", Algorithm::Sha1, 0xf7),
            ("sha256 FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=", Algorithm::Sha256, 0x15),
            // 0xe3069283, four bytes big-endian (contract D15)
            ("crc32c 4waSgw==", Algorithm::Crc32c, 0xe3),
        ] {
            let (_, checksums) = of(value).unwrap();
            assert_eq!((checksums[0].algorithm, checksums[0].value[0]), (algorithm, first));
        }
        let nothing = claims(&HeaderMap::new()).unwrap();
        assert!(nothing.md5.is_none() && nothing.checksums.is_empty());
    }

    #[test]
    fn what_is_none() {
        for value in [
            "",
            "sha1",
            "sha1 !",
            "md5 YQ==",
            "sha1 YQ==",
            "crc32 4waSgw==",
            "SHA1 98O8HYCOBHMq32eZZczDTKeuNEE=",
        ] {
            assert!(of(value).is_err(), "{value}");
        }
    }
}
