//! The REST door's requests: the gateway's uploads and filing's lists, with a bearer token.

use crate::Outcome;
use crate::http::Connection;
use crate::s3::{Body, Ready, expect, tail};

const DIRECT: &str = "/api/v1/files/upload/direct";
const RESUMABLE: &str = "/api/v1/files/upload/multipart";
const FORM_BEGIN: &[u8] =
    b"--limit\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\nload\r\n--limit\r\n\
    Content-Disposition: form-data; name=\"files\"; filename=\"load.bin\"\r\n\r\n";
const FORM_END: &[u8] = b"\r\n--limit--\r\n";

/// The door and with which token it is spoken to.
pub(crate) struct Door {
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Door {
    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> Vec<u8> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n",
            self.address, self.token
        );
        let length = length.map(|length| length.to_string());
        let length = length.as_deref().map(|length| ("content-length", length));
        for (name, value) in headers.iter().copied().chain(length) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// A `GET`.
    pub(crate) fn ready(&self, path: &str) -> Ready {
        Ready::new(self.head("GET", path, &[], None), true)
    }

    /// Sends a file in a form: `upload/direct`.
    pub(crate) fn direct(&self, connection: &mut Connection, body: &Body, number: u64) -> Outcome<()> {
        let tail = tail(number);
        let pieces = [FORM_BEGIN, body.base(), &tail, FORM_END];
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let kind = [("content-type", "multipart/form-data; boundary=limit")];
        let head = self.head("POST", DIRECT, &kind, Some(length));
        expect(connection.exchange(&head, &pieces, true, |_| ())?, "POST", DIRECT, 200)?;
        Ok(())
    }

    /// Begins a resumable upload and sends all of it in one `PATCH`.
    pub(crate) fn resumable(&self, connection: &mut Connection, body: &Body, number: u64) -> Outcome<()> {
        let tail = tail(number);
        let pieces = [body.base(), &tail[..]];
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let text = length.to_string();
        let metadata = "filename bG9hZC5iaW4=,path bG9hZA==";
        let begin = [("tus-resumable", "1.0.0"), ("upload-length", &text), ("upload-metadata", metadata)];
        let head = self.head("POST", RESUMABLE, &begin, Some(0));
        let begun = expect(connection.exchange(&head, &[], true, |_| ())?, "POST", RESUMABLE, 201)?;
        let kind = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", "0"),
            ("content-type", "application/offset+octet-stream"),
        ];
        let head = self.head("PATCH", &begun.location, &kind, Some(length));
        expect(connection.exchange(&head, &pieces, true, |_| ())?, "PATCH", &begun.location, 204)?;
        Ok(())
    }
}
