//! HTTP/1.1 by hand: requests as bytes, so that a test can say what no client library would; answers taken apart.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request. The path is sent as it stands; the query is encoded as SigV4 wants it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The `Host` header; the server's address when `None`.
    pub(crate) host: Option<String>,
    /// Without `Content-Length`, in HTTP chunks.
    pub(crate) is_chunked: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: vec![],
            headers: vec![],
            body: vec![],
            host: None,
            is_chunked: false,
        }
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Writes a header over, or takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let query = super::sign::canonical_query(&self.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        let mut head = format!("{} {}{mark}{query} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if self.is_chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !has_length && (!self.body.is_empty() || matches!(self.method, "PUT" | "POST")) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        let mut bytes = head.into_bytes();
        if self.is_chunked {
            bytes.extend(format!("{:x}\r\n", self.body.len()).bytes());
            bytes.extend(&self.body);
            bytes.extend(b"\r\n0\r\n\r\n");
        } else {
            bytes.extend(&self.body);
        }
        bytes
    }

    pub(crate) async fn send(&self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let bytes = self.bytes(address);
        // a refusal may come, and the connection end, before the body is through
        let writing = tokio::spawn(async move {
            let written = writer.write_all(&bytes).await;
            (written.is_ok(), writer)
        });
        let mut answer = Vec::new();
        let _ended = reader.read_to_end(&mut answer).await;
        let _writer = writing.await.unwrap();
        Answer::parse(&answer, self.method == "HEAD")
    }
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8], is_head: bool) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no HTTP answer: {:?}", String::from_utf8_lossy(bytes));
        });
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let rest = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            return Self::parse(rest, is_head);
        }
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let answer = Self { status, headers, body: vec![] };
        if is_head {
            assert!(rest.is_empty(), "a body came with a HEAD: {rest:?}");
            return answer;
        }
        let body =
            if answer.header("transfer-encoding") == Some("chunked") { dechunk(rest) } else { rest.to_vec() };
        if let Some(length) = answer.header("content-length") {
            assert_eq!(length.parse::<usize>().unwrap(), body.len(), "Content-Length differs from the body");
        }
        Self { body, ..answer }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content of an XML element, the first of that name.
    pub(crate) fn xml(&self, element: &str) -> Option<String> {
        self.xml_all(element).into_iter().next()
    }

    /// The contents of all elements of that name.
    pub(crate) fn xml_all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        self.text()
            .split(&open)
            .skip(1)
            .map(|part| part.split(&close).next().unwrap())
            .map(|text| {
                text.replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&quot;", "\"")
                    .replace("&apos;", "'")
                    .replace("&amp;", "&")
            })
            .collect()
    }

    /// Status and S3 code: `403 AccessDenied`; the status alone where there is no error body. The first error of a
    /// DeleteObjects counts.
    pub(crate) fn verdict(&self) -> String {
        match self.xml("Code") {
            Some(code) if self.status >= 300 || self.text().contains("<DeleteResult") => {
                format!("{} {code}", self.status)
            }
            _ => self.status.to_string(),
        }
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
}
