//! The REST door's requests: the gateway's uploads, filing's lists, and consumptions, with a bearer token.

use crate::Outcome;
use crate::http::Connection;
use crate::s3::{Body, Ready, expect, tail};

/// A plan with one feature of which there is always enough, as a setting of the daemon.
pub(crate) const PLANS: (&str, &str) =
    ("COFFRE_BILLING__PLANS", "[{code=\"load\",features=[{key=\"units\",limit=9007199254740992}]}]");
const CONSUME: &str = "/api/v1/billing/consume";
const UNIT: &[u8] = b"{\"feature_key\":\"units\",\"amount\":1,\"metadata\":{\"model\":\"load\"}}";

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
    /// Whose token it is, an ADMIN's; `None`: not known, and nothing is consumed.
    pub(crate) user: Option<String>,
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

    /// Sends JSON and gives the answer's text.
    fn call(
        &self,
        connection: &mut Connection,
        method: &str,
        path: &str,
        body: &str,
        status: u16,
    ) -> Outcome<String> {
        let head = self.head(method, path, &[("content-type", "application/json")], Some(body.len()));
        let mut text = Vec::new();
        let answer =
            connection.exchange(&head, &[body.as_bytes()], true, |piece| text.extend_from_slice(piece))?;
        expect(answer, method, path, status)?;
        Ok(String::from_utf8(text)?)
    }

    /// Makes an organisation with the plan of [`PLANS`], of which the token's user is a member; its id.
    pub(crate) fn make_org(&self, name: &str) -> Outcome<String> {
        let user = self.user.as_ref().ok_or("whose token it is, is not known")?;
        let mut connection = Connection::open(&self.address)?;
        let made =
            self.call(&mut connection, "POST", "/admin/v1/orgs", &format!("{{\"name\":\"{name}\"}}"), 201)?;
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let org = made.get("id").and_then(serde_json::Value::as_str).ok_or("no id")?.to_owned();
        let member = format!("/admin/v1/orgs/{org}/members/{user}");
        self.call(&mut connection, "PUT", &member, "", 204)?;
        let plan = format!("/admin/v1/orgs/{org}/plan");
        self.call(&mut connection, "PUT", &plan, "{\"plan_code\":\"load\"}", 200)?;
        Ok(org)
    }

    /// Uses a unit of an organisation's up, with an idempotency key of its own.
    pub(crate) fn consume(&self, connection: &mut Connection, org: &str, number: u64) -> Outcome<()> {
        let (user, key) = (self.user.as_deref().unwrap_or_default(), format!("load-{number}"));
        let headers = [
            ("content-type", "application/json"),
            ("x-user-id", user),
            ("x-application", "load"),
            ("x-org-id", org),
            ("idempotency-key", key.as_str()),
        ];
        let head = self.head("POST", CONSUME, &headers, Some(UNIT.len()));
        expect(connection.exchange(&head, &[UNIT], true, |_| ())?, "POST", CONSUME, 200)?;
        Ok(())
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
