//! POST forms with a policy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::Duration;
use time::format_description::well_known::Rfc3339;

use super::sign::Signer;
use super::wire::Call;

/// A form on its way: fields in order, the file last.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) bucket: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) file: Vec<u8>,
}

impl Form {
    pub(crate) fn new(bucket: &str, key: &str, file: &[u8]) -> Self {
        let fields = vec![("key".to_owned(), key.to_owned())];
        Self { bucket: bucket.to_owned(), fields, file: file.to_vec() }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a policy that allows exactly the fields there are, and up to `max` bytes, and signs it.
    pub(crate) fn sign(mut self, signer: &Signer, lives: Duration, max: u64) -> Self {
        let credential = format!("{}/{}", signer.key.id, signer.scope());
        self = self
            .field("x-amz-algorithm", "AWS4-HMAC-SHA256")
            .field("x-amz-credential", &credential)
            .field("x-amz-date", &signer.date());
        let expiration = (signer.at + lives).format(&Rfc3339).unwrap();
        let mut conditions: Vec<String> =
            self.fields.iter().map(|(n, v)| format!("{{\"{n}\":\"{v}\"}}")).collect();
        conditions.push(format!("{{\"bucket\":\"{}\"}}", self.bucket));
        conditions.push(format!("[\"content-length-range\",0,{max}]"));
        let conditions = conditions.join(",");
        let policy = format!("{{\"expiration\":\"{expiration}\",\"conditions\":[{conditions}]}}");
        let policy = STANDARD.encode(policy);
        let signature = signer.signature(&policy);
        self.field("policy", &policy).field("x-amz-signature", &signature)
    }

    pub(crate) fn call(&self) -> Call {
        const BOUNDARY: &str = "----form-boundary-7d1a";
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let part =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend(part.bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\
             Content-Type: text/plain\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(&self.file);
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        Call::new("POST", &format!("/{}", self.bucket))
            .header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(body)
    }
}
