//! The floor: what this machine gives without a store, measured in the same run.
//!
//! A hyper server that answers the same bytes and swallows uploads, run as a process of its own so that its CPU can be told
//! from the client's; `fdatasync` after 4 KiB appended to a preallocated file; hashing on one thread.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use md5_simd::Md5;
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::measure::float;

/// The argument that makes this program the floor's server.
pub(crate) const SERVE: &str = "serve-floor";
/// One frame of an answer, as large as the store's.
const FRAME_BYTES: usize = 256 * 1024;
/// Appends to one preallocated file.
const APPEND_BYTES: usize = 4096;
const APPEND_FILE_BYTES: u64 = 64 << 20;
/// Hashed in pieces of a size that stays in the cache, as the store does.
const HASH_PIECE_BYTES: usize = 256 * 1024;

/// The floor's server as a process. Dropped, it is killed.
pub(crate) struct Floor {
    child: Child,
    pub(crate) address: String,
}

impl Floor {
    pub(crate) fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut address));
        let floor = Self { child, address: address.trim().to_owned() };
        match read {
            Some(Ok(1..)) => Ok(floor),
            _ => Err("the floor's server did not start".into()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if self.child.kill().is_err() || self.child.wait().is_err() {
            eprintln!("the floor's server {} could not be ended", self.child.id());
        }
    }
}

/// Serves until it is killed; the first line it prints is its address.
pub(crate) fn serve() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = service_fn(answer);
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    eprintln!("the floor's server: {error}");
                }
            });
        }
    })
}

/// `GET /N` answers N bytes; anything else is read to its end.
async fn answer(request: Request<Incoming>) -> hyper::Result<Response<BoxBody<Bytes, Infallible>>> {
    if request.method() == Method::GET {
        let bytes = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
        let mut response = Response::new(bytes_of(bytes));
        response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
        return Ok(response);
    }
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Response::new(Full::new(Bytes::new()).boxed()))
}

/// Zeros, in frames, with their length announced.
fn bytes_of(bytes: usize) -> BoxBody<Bytes, Infallible> {
    static FRAME: [u8; FRAME_BYTES] = [7; FRAME_BYTES];
    let frame = Bytes::from_static(&FRAME);
    if bytes <= FRAME_BYTES {
        return Full::new(frame.slice(..bytes)).boxed();
    }
    let frames = (0..bytes.div_ceil(FRAME_BYTES)).map(move |number| {
        let left = bytes - number * FRAME_BYTES;
        Ok(Frame::data(frame.slice(..left.min(FRAME_BYTES))))
    });
    StreamBody::new(stream::iter(frames)).boxed()
}

/// Durable appends a second: 4 KiB written behind one another into a preallocated file, `fdatasync` after each.
pub(crate) fn appends_per_s(folder: &Path, seconds: f64) -> Outcome<f64> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..APPEND_FILE_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let block = vec![7; APPEND_BYTES];
    let (begin, mut appended) = (Instant::now(), 0);
    while begin.elapsed().as_secs_f64() < seconds {
        if appended * APPEND_BYTES as u64 >= APPEND_FILE_BYTES {
            break;
        }
        file.write_all(&block)?;
        file.sync_data()?;
        appended += 1;
    }
    Ok(float(appended) / begin.elapsed().as_secs_f64())
}

/// How fast one thread hashes.
#[derive(Clone, Copy)]
pub(crate) struct Hashing {
    pub(crate) mib_per_s: f64,
    /// The thread's own CPU, which neighbours do not change.
    pub(crate) cpu_s_per_gib: f64,
}

/// SHA-256; MD5; both with CRC-64/NVME, as a PUT wants them.
pub(crate) fn hashing(seconds: f64) -> [Hashing; 3] {
    let piece: Vec<u8> = (0..HASH_PIECE_BYTES).map(|n| n.to_le_bytes()[0]).collect();
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let measured = [
        hash(seconds, || sha256.update(&piece)),
        hash(seconds, || md5.update(&piece)),
        hash(seconds, || {
            sha256.update(&piece);
            md5.update(&piece);
            crc.update(&piece);
        }),
    ];
    std::hint::black_box((sha256.finalize(), md5.finalize(), crc.finalize()));
    measured
}

fn hash(seconds: f64, mut hash: impl FnMut()) -> Hashing {
    let (begin, cpu, mut pieces) = (Instant::now(), thread_cpu_s(), 0);
    while begin.elapsed().as_secs_f64() < seconds {
        hash();
        pieces += 1;
    }
    let mib = float(pieces * HASH_PIECE_BYTES as u64) / f64::from(1 << 20);
    Hashing {
        mib_per_s: mib / begin.elapsed().as_secs_f64(),
        cpu_s_per_gib: (thread_cpu_s() - cpu) * 1024.0 / mib,
    }
}

/// What this thread has run so far: the first field of its `schedstat`, in nanoseconds.
fn thread_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).map_or(f64::NAN, |ns: u64| float(ns) / 1e9)
}
