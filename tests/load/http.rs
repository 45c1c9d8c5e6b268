//! HTTP/1.1 on one blocking connection that stays open: what a request costs the client is two system calls.
//!
//! Speaks as much as S3's answers need: lengths and chunks. Leaves out redirects, compression, timeouts.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

use crate::Outcome;

/// Reads in one step.
const BUFFER_BYTES: usize = 256 * 1024;
/// Longest head of an answer.
const HEAD_MAX: usize = 64 * 1024;

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet used.
    begin: usize,
    end: usize,
}

/// An answer's head, as far as it matters, and how long its body was.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) location: String,
    pub(crate) body_bytes: u64,
    length: Option<u64>,
    chunked: bool,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], begin: 0, end: 0 })
    }

    /// Sends a head and a body, reads the answer; `sink` gets the body's pieces.
    pub(crate) fn exchange(
        &mut self,
        head: &[u8],
        body: &[&[u8]],
        has_body: bool,
        mut sink: impl FnMut(&[u8]),
    ) -> Outcome<Answer> {
        self.send(head, body)?;
        let mut answer = self.head()?;
        if has_body && answer.status != 204 && answer.status != 304 {
            if answer.chunked {
                self.chunks(&mut answer, &mut sink)?;
            } else {
                let length = answer.length.ok_or("an answer without a length")?;
                self.pass(length, &mut sink)?;
                answer.body_bytes = length;
            }
        }
        Ok(answer)
    }

    fn send(&mut self, head: &[u8], body: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(body.len() + 1);
        slices.push(IoSlice::new(head));
        slices.extend(body.iter().map(|piece| IoSlice::new(piece)));
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let sent = self.stream.write_vectored(rest)?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, sent);
        }
        Ok(())
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }

    /// Reads more behind what is not used yet.
    fn fill(&mut self) -> io::Result<()> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(free)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.end += n;
                Ok(())
            }
        }
    }

    /// One line without its end.
    fn line(&mut self) -> Outcome<String> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.unread().iter().skip(seen).position(|byte| *byte == b'\n') {
                let line = self.unread().get(..seen + at).unwrap_or_default();
                let line = std::str::from_utf8(line)?.trim_end_matches('\r').to_owned();
                self.begin += seen + at + 1;
                return Ok(line);
            }
            seen = self.unread().len();
            if seen > HEAD_MAX {
                return Err("a line without an end".into());
            }
            self.fill()?;
        }
    }

    fn head(&mut self) -> Outcome<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no HTTP answer: {first:?}"))?;
        let mut answer = Answer { status, ..Answer::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(answer);
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                answer.length = Some(value.parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                answer.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("etag") {
                value.clone_into(&mut answer.etag);
            } else if name.eq_ignore_ascii_case("location") {
                value.clone_into(&mut answer.location);
            }
        }
    }

    fn pass(&mut self, mut left: u64, sink: &mut impl FnMut(&[u8])) -> Outcome<()> {
        while left > 0 {
            if self.begin == self.end {
                self.fill()?;
            }
            let piece = self.unread();
            let take = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            sink(piece.get(..take).unwrap_or_default());
            self.begin += take;
            left -= take as u64;
        }
        Ok(())
    }

    fn chunks(&mut self, answer: &mut Answer, sink: &mut impl FnMut(&[u8])) -> Outcome<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.pass(size, sink)?;
            answer.body_bytes += size;
            self.line()?;
        }
    }
}
