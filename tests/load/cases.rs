//! The cases: what is asked of the S3 door and of the REST door, how often at once, and what has to be there first.

use std::sync::OnceLock;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffre_tests::s3::elements;
use md5::{Digest, Md5};

use crate::Outcome;
use crate::http::Connection;
use crate::measure::{Measured, Plan, Server};
use crate::rest::Door;
use crate::s3::{Body, Ready, Target};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PART_BYTES: usize = 16 * MIB;
const PARTS: usize = 16;
/// The bucket of everything here.
const BUCKET: &str = "/load";
/// The bucket that is listed.
const LISTED: &str = "/listed";
/// Objects that are read again and again.
const HOT: usize = 1000;
/// Folders of the listed bucket: a page of common prefixes.
const FOLDERS: usize = 1000;
/// Threads that prepare: enough to share the syncs.
const PREPARERS: usize = 32;
/// Keys of one `DeleteObjects`.
const MANY: usize = 1000;
/// The range that is read of a large object, and how many different ones.
const RANGE_BYTES: usize = 256 * KIB;
const RANGES: usize = 64;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Put {
        bytes: usize,
        is_signed: bool,
    },
    Get {
        bytes: usize,
    },
    Head,
    Range,
    Multipart,
    List,
    Prefixes,
    Delete,
    DeleteMany,
    Direct {
        bytes: usize,
    },
    Resumable {
        bytes: usize,
    },
    Filing,
    /// Of one account or of as many as there are callers.
    Consume {
        is_shared: bool,
    },
}

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    ask: Ask,
    concurrency: usize,
    /// The floor's case beside it, or which of its rates.
    pub(crate) floor: Option<&'static str>,
}

const fn case(name: &'static str, ask: Ask, concurrency: usize, floor: Option<&'static str>) -> Case {
    Case { name, ask, concurrency, floor }
}

const fn put(bytes: usize) -> Ask {
    Ask::Put { bytes, is_signed: true }
}

/// The rates of the floor that are no HTTP.
pub(crate) const APPENDS: &str = "fdatasync";
pub(crate) const HASHES: &str = "hashes";

/// All cases of the door, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    case("put-4k-c1", put(4 * KIB), 1, Some(APPENDS)),
    case("put-4k-c16", put(4 * KIB), 16, None),
    case("get-4k-c1", Ask::Get { bytes: 4 * KIB }, 1, Some("floor-get-4k-c1")),
    case("get-4k-c16", Ask::Get { bytes: 4 * KIB }, 16, Some("floor-get-4k-c16")),
    case("head-c16", Ask::Head, 16, Some("floor-get-4k-c16")),
    case("put-64k-c8", put(64 * KIB), 8, None),
    case("put-1m-c8", put(MIB), 8, Some(HASHES)),
    case("put-64m-c1", put(64 * MIB), 1, Some(HASHES)),
    case("put-64m-c4", put(64 * MIB), 4, Some("floor-put-64m-c4")),
    case("put-64m-c4-unsigned", Ask::Put { bytes: 64 * MIB, is_signed: false }, 4, Some("floor-put-64m-c4")),
    case("multipart-256m-c4", Ask::Multipart, 1, Some("floor-put-64m-c4")),
    case("get-64m-c4", Ask::Get { bytes: 64 * MIB }, 4, Some("floor-get-64m-c4")),
    case("get-256m-c4", Ask::Get { bytes: PARTS * PART_BYTES }, 4, Some("floor-get-64m-c4")),
    case("range-256k-c4", Ask::Range, 4, None),
    case("list-1000-c1", Ask::List, 1, None),
    case("list-prefixes-c1", Ask::Prefixes, 1, None),
    case("delete-c16", Ask::Delete, 16, None),
    case("delete-1000-c1", Ask::DeleteMany, 1, None),
    case("rest-direct-4k-c16", Ask::Direct { bytes: 4 * KIB }, 16, None),
    case("rest-direct-64m-c4", Ask::Direct { bytes: 64 * MIB }, 4, Some("floor-put-64m-c4")),
    case("rest-tus-4k-c16", Ask::Resumable { bytes: 4 * KIB }, 16, None),
    case("rest-tus-64m-c4", Ask::Resumable { bytes: 64 * MIB }, 4, Some("floor-put-64m-c4")),
    case("rest-filing-list-c4", Ask::Filing, 4, None),
    case("billing-consume-c1", Ask::Consume { is_shared: true }, 1, None),
    case("billing-consume-c16", Ask::Consume { is_shared: true }, 16, None),
    case("billing-consume-orgs-c16", Ask::Consume { is_shared: false }, 16, None),
];

/// The floor's cases.
pub(crate) const FLOOR: &[Case] = &[
    case("floor-get-4k-c1", Ask::Get { bytes: 4 * KIB }, 1, None),
    case("floor-get-4k-c16", Ask::Get { bytes: 4 * KIB }, 16, None),
    case("floor-get-64m-c4", Ask::Get { bytes: 64 * MIB }, 4, None),
    case("floor-put-64m-c4", Ask::Put { bytes: 64 * MIB, is_signed: false }, 4, None),
];

/// How long cases run and how much they write.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) seconds: f64,
    /// A case of large uploads ends here at the latest: the disk is not endless.
    upload_bytes_max: usize,
    listed: usize,
    deleted: usize,
    deletes_many: usize,
}

impl Extent {
    pub(crate) fn new(is_quick: bool) -> Self {
        if is_quick {
            Self { seconds: 3.0, upload_bytes_max: 768 * MIB, listed: 10_000, deleted: 4000, deletes_many: 5 }
        } else {
            Self {
                seconds: 10.0,
                upload_bytes_max: 3072 * MIB,
                listed: 100_000,
                deleted: 20_000,
                deletes_many: 20,
            }
        }
    }
}

/// The server under load, and what has been prepared there.
pub(crate) struct Bench {
    pub(crate) target: Target,
    /// The REST door, if it is known.
    rest: Option<Door>,
    pub(crate) server: Server,
    pub(crate) extent: Extent,
    bucket: OnceLock<()>,
    hot: OnceLock<()>,
    large: OnceLock<()>,
    huge: OnceLock<()>,
    listed: OnceLock<()>,
    filed: OnceLock<()>,
    orgs: OnceLock<Vec<String>>,
}

/// Makes something once; `OnceLock` has no stable way to fail.
fn once(cell: &OnceLock<()>, make: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    if cell.get().is_none() {
        make()?;
        cell.get_or_init(|| ());
    }
    Ok(())
}

fn large(number: usize) -> String {
    format!("{BUCKET}/large/{number}")
}

fn hot(number: usize) -> String {
    format!("{BUCKET}/hot/{number:04}")
}

const HUGE: &str = "/load/huge";

/// Names spread over the index like those of real objects.
fn spread(folder: &str, number: u64) -> String {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{BUCKET}/{folder}/{:02}/{spread:016x}.bin", spread % 50)
}

impl Bench {
    pub(crate) fn new(target: Target, rest: Option<Door>, server: Server, extent: Extent) -> Self {
        let [bucket, hot, large, huge, listed, filed] = std::array::from_fn(|_| OnceLock::new());
        let orgs = OnceLock::new();
        Self { target, rest, server, extent, bucket, hot, large, huge, listed, filed, orgs }
    }

    /// Whether the door of a case is known.
    pub(crate) fn reaches(&self, case: &Case) -> bool {
        match case.ask {
            Ask::Direct { .. } | Ask::Resumable { .. } | Ask::Filing => self.rest.is_some(),
            Ask::Consume { .. } => self.rest.as_ref().is_some_and(|rest| rest.user.is_some()),
            _ => true,
        }
    }

    fn plan(&self, case: &Case) -> Plan {
        Plan {
            name: case.name,
            concurrency: case.concurrency,
            seconds: self.extent.seconds,
            requests_max: u64::MAX,
        }
    }

    fn connect(&self) -> Outcome<Connection> {
        Connection::open(&self.target.address)
    }

    /// A case of the floor's server.
    pub(crate) fn run_floor(&self, case: &Case) -> Outcome<Measured> {
        match case.ask {
            Ask::Get { bytes } => {
                let ready = [self.target.ready("GET", &format!("/{bytes}"), &[], &[])];
                self.reads(self.plan(case), &ready, 200, Some(bytes))
            }
            Ask::Put { bytes, is_signed } => self.puts(case, bytes, is_signed),
            _ => Err("the floor has no store".into()),
        }
    }

    /// Prepares and runs a case of the door.
    pub(crate) fn run(&self, case: &Case) -> Outcome<Measured> {
        once(&self.bucket, || self.create(BUCKET))?;
        let plan = self.plan(case);
        match case.ask {
            Ask::Put { bytes, is_signed } => self.puts(case, bytes, is_signed),
            Ask::Get { bytes } if bytes > 64 * MIB => {
                self.prepare_huge()?;
                self.reads(plan, &[self.target.ready("GET", HUGE, &[], &[])], 200, Some(bytes))
            }
            Ask::Get { bytes } if bytes == 64 * MIB => {
                once(&self.large, || self.prepare(4, 64 * MIB, 2, large))?;
                let ready: Vec<_> = (0..4).map(|n| self.target.ready("GET", &large(n), &[], &[])).collect();
                self.reads(plan, &ready, 200, Some(bytes))
            }
            Ask::Get { .. } | Ask::Head => {
                once(&self.hot, || self.prepare(HOT, 4 * KIB, PREPARERS, hot))?;
                let (method, bytes) = if case.ask == Ask::Head { ("HEAD", 0) } else { ("GET", 4 * KIB) };
                let ready: Vec<_> = (0..HOT).map(|n| self.target.ready(method, &hot(n), &[], &[])).collect();
                self.reads(plan, &ready, 200, Some(bytes))
            }
            Ask::Range => self.ranges(plan),
            Ask::Multipart => self.multiparts(plan),
            Ask::List | Ask::Prefixes => self.lists(plan, case.ask == Ask::List),
            Ask::Delete => self.deletes(plan),
            Ask::DeleteMany => self.deletes_many(plan),
            Ask::Direct { bytes } => self.rest_uploads(plan, bytes, Door::direct),
            Ask::Resumable { bytes } => self.rest_uploads(plan, bytes, Door::resumable),
            Ask::Filing => self.filing_pages(plan),
            Ask::Consume { is_shared } => self.consumptions(plan, is_shared),
        }
    }

    /// Fills the store before anything is measured.
    pub(crate) fn load(&self, objects: usize) -> Outcome<()> {
        once(&self.bucket, || self.create(BUCKET))?;
        self.prepare(objects, KIB, PREPARERS, |number| spread("loaded", number as u64))
    }

    fn create(&self, bucket: &str) -> Outcome<()> {
        match self.target.call(&mut self.connect()?, "PUT", bucket, &[], &[], b"")? {
            (200 | 409, _) => Ok(()),
            (status, text) => Err(format!("creating {bucket}: {status} {text}").into()),
        }
    }

    /// Puts `count` objects of a size, several at once.
    fn prepare(
        &self,
        count: usize,
        bytes: usize,
        threads: usize,
        path: impl Fn(usize) -> String + Sync,
    ) -> Outcome<()> {
        let body = Body::new(bytes);
        let work = |worker: usize| -> Outcome<()> {
            let mut connection = self.connect()?;
            for number in (worker..count).step_by(threads) {
                self.target.put(&mut connection, &path(number), &[], &body, false)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|worker| scope.spawn(move || work(worker))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a preparer panicked")?)
        })
    }

    fn puts(&self, case: &Case, bytes: usize, is_signed: bool) -> Outcome<Measured> {
        let body = Body::new(bytes);
        let plan =
            Plan { requests_max: (self.extent.upload_bytes_max / bytes).max(4) as u64, ..self.plan(case) };
        self.server.drive(
            plan,
            || self.connect(),
            |connection, number| {
                self.target.put(connection, &spread(case.name, number), &[], &body, is_signed)?;
                Ok(bytes as u64)
            },
        )
    }

    /// Sends ready requests round and round, and holds the answers to a size.
    fn reads(&self, plan: Plan, ready: &[Ready], status: u16, bytes: Option<usize>) -> Outcome<Measured> {
        self.server.drive(
            plan,
            || self.connect(),
            |connection, number| {
                let which = usize::try_from(number)? % ready.len();
                let read = ready.get(which).ok_or("no request")?.send(connection, status)?;
                match bytes {
                    Some(bytes) if read != bytes as u64 => Err(format!("{read} bytes, not {bytes}").into()),
                    _ => Ok(read),
                }
            },
        )
    }

    fn prepare_huge(&self) -> Outcome<()> {
        once(&self.huge, || {
            let body = Body::new(PART_BYTES);
            self.multipart(&mut self.uploaders()?, HUGE, &body)
        })
    }

    fn ranges(&self, plan: Plan) -> Outcome<Measured> {
        self.prepare_huge()?;
        let ready: Vec<_> = (0..RANGES)
            .map(|number| {
                // not aligned to anything, spread over the object
                let begin = number * (PARTS * PART_BYTES - RANGE_BYTES) / RANGES + number;
                let range = format!("bytes={begin}-{}", begin + RANGE_BYTES - 1);
                self.target.ready("GET", HUGE, &[], &[("range", &range)])
            })
            .collect();
        self.reads(plan, &ready, 206, Some(RANGE_BYTES))
    }

    fn rest(&self) -> Outcome<&Door> {
        self.rest.as_ref().ok_or_else(|| "the REST door is not known".into())
    }

    fn rest_uploads(
        &self,
        plan: Plan,
        bytes: usize,
        send: impl Fn(&Door, &mut Connection, &Body, u64) -> Outcome<()> + Sync,
    ) -> Outcome<Measured> {
        let (rest, body) = (self.rest()?, Body::new(bytes));
        let plan = Plan { requests_max: (self.extent.upload_bytes_max / bytes).max(4) as u64, ..plan };
        // bodies that no other case has sent
        let first = plan.name.bytes().fold(1_u64 << 40, |number, byte| number * 31 + u64::from(byte));
        self.server.drive(
            plan,
            || Connection::open(&rest.address),
            |connection, number| {
                send(rest, connection, &body, first.wrapping_add(number))?;
                Ok(bytes as u64)
            },
        )
    }

    /// Units used up one by one, each with a key of its own.
    fn consumptions(&self, plan: Plan, is_shared: bool) -> Outcome<Measured> {
        let rest = self.rest()?;
        if self.orgs.get().is_none() {
            let orgs: Outcome<Vec<_>> = (0..16).map(|n| rest.make_org(&format!("load-{n}"))).collect();
            let orgs = orgs?;
            self.orgs.get_or_init(|| orgs);
        }
        let orgs = self.orgs.get().map(Vec::as_slice).unwrap_or_default();
        // keys that no other case has used
        let first = plan.name.bytes().fold(1_u64 << 40, |number, byte| number * 31 + u64::from(byte));
        self.server.drive(
            plan,
            || Connection::open(&rest.address),
            |connection, number| {
                let which = if is_shared { 0 } else { usize::try_from(number)? % orgs.len() };
                let org = orgs.get(which).ok_or("no organisation")?;
                rest.consume(connection, org, first.wrapping_add(number))?;
                Ok(0)
            },
        )
    }

    /// Index pages (contract D42): 25 files of one category, newest first, from the first page to the hundredth.
    fn filing_pages(&self, plan: Plan) -> Outcome<Measured> {
        let rest = self.rest()?;
        once(&self.filed, || {
            self.prepare(self.extent.listed, KIB, PREPARERS, |number| {
                let category = ["facture", "devis"].get(number % 2).unwrap_or(&"autre");
                format!("/files/general/{category}/{number:06}.pdf")
            })
        })?;
        let last = (self.extent.listed / 50).min(100);
        let ready = [1, 2, last / 2, last]
            .map(|page| rest.ready(&format!("/api/files?category=devis&per_page=25&page={page}")));
        for ready in &ready {
            let text = ready.text(&mut Connection::open(&rest.address)?)?;
            if text.matches("\"organized_path\"").count() != 25 {
                return Err(format!("a page that is not full: {text}").into());
            }
        }
        self.server
            .drive(
                plan,
                || Connection::open(&rest.address),
                |connection, number| {
                    let which = usize::try_from(number)? % ready.len();
                    ready.get(which).ok_or("no request")?.send(connection, 200)
                },
            )
            .map(|measured| Measured { bytes: 0, ..measured })
    }

    /// As many connections as parts are sent at once.
    fn uploaders(&self) -> Outcome<Vec<Connection>> {
        (0..4).map(|_| self.connect()).collect()
    }

    /// One object of [`PARTS`] parts: begun, sent by all connections, completed.
    fn multipart(&self, connections: &mut [Connection], path: &str, body: &Body) -> Outcome<()> {
        let first = connections.first_mut().ok_or("no connection")?;
        let (status, text) = self.target.call(first, "POST", path, &[("uploads", "")], &[], b"")?;
        let upload = elements(&text, "UploadId").pop().ok_or_else(|| format!("{status} {text}"))?;
        let threads = connections.len();
        let send = |worker: usize, connection: &mut Connection| -> Outcome<Vec<(usize, String)>> {
            (worker + 1..=PARTS)
                .step_by(threads)
                .map(|number| {
                    let text = number.to_string();
                    let query = [("partNumber", text.as_str()), ("uploadId", &upload)];
                    let answer = self.target.put(connection, path, &query, body, true)?;
                    Ok((number, answer.etag))
                })
                .collect()
        };
        let mut parts: Vec<(usize, String)> = thread::scope(|scope| {
            let workers: Vec<_> = connections
                .iter_mut()
                .enumerate()
                .map(|(worker, connection)| scope.spawn(move || send(worker, connection)))
                .collect();
            let sent: Outcome<Vec<_>> =
                workers.into_iter().map(|worker| worker.join().map_err(|_| "a sender panicked")?).collect();
            sent.map(|parts| parts.into_iter().flatten().collect())
        })?;
        parts.sort();
        let lines = parts.iter().fold(String::new(), |lines, (number, etag)| {
            lines + &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        });
        let xml = format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>");
        let first = connections.first_mut().ok_or("no connection")?;
        let query = [("uploadId", upload.as_str())];
        match self.target.call(first, "POST", path, &query, &[], xml.as_bytes())? {
            (200, text) if text.contains("<ETag>") => Ok(()),
            (status, text) => Err(format!("completing: {status} {text}").into()),
        }
    }

    fn multiparts(&self, plan: Plan) -> Outcome<Measured> {
        let body = Body::new(PART_BYTES);
        let object = PARTS * PART_BYTES;
        let plan = Plan { requests_max: (self.extent.upload_bytes_max / object) as u64, ..plan };
        self.server.drive(
            plan,
            || self.uploaders(),
            |connections, number| {
                self.multipart(connections, &spread(plan.name, number), &body)?;
                Ok(object as u64)
            },
        )
    }

    fn prepare_listed(&self) -> Outcome<()> {
        once(&self.listed, || {
            self.create(LISTED)?;
            self.prepare(self.extent.listed, KIB, PREPARERS, |number| {
                format!("{LISTED}/folder-{:04}/{:06}.bin", number % FOLDERS, number / FOLDERS)
            })
        })
    }

    fn lists(&self, plan: Plan, is_plain: bool) -> Outcome<Measured> {
        self.prepare_listed()?;
        let ready: Vec<_> = if is_plain {
            // a page from each of many places, the last of which still has a whole one after it
            let begins = FOLDERS - FOLDERS * MANY / self.extent.listed - 1;
            (0..RANGES)
                .map(|number| {
                    let after = format!("folder-{:04}/", number * begins / RANGES);
                    let query = [("list-type", "2"), ("start-after", &after)];
                    self.target.ready("GET", LISTED, &query, &[])
                })
                .collect()
        } else {
            vec![self.target.ready("GET", LISTED, &[("list-type", "2"), ("delimiter", "/")], &[])]
        };
        for ready in &ready {
            let text = ready.text(&mut self.connect()?)?;
            let wanted = format!("<KeyCount>{MANY}</KeyCount>");
            if !text.contains(&wanted) {
                return Err("a page that is not full".into());
            }
        }
        self.reads(plan, &ready, 200, None).map(|measured| Measured { bytes: 0, ..measured })
    }

    fn deletes(&self, plan: Plan) -> Outcome<Measured> {
        let path = |number: u64| spread("delete", number);
        self.prepare(self.extent.deleted, KIB, PREPARERS, |number| path(number as u64))?;
        let plan = Plan { requests_max: self.extent.deleted as u64, ..plan };
        self.server.drive(
            plan,
            || self.connect(),
            |connection, number| self.target.ready("DELETE", &path(number), &[], &[]).send(connection, 204),
        )
    }

    fn deletes_many(&self, plan: Plan) -> Outcome<Measured> {
        let key = |number: usize| format!("many/{:04}/{:04}.bin", number / MANY, number % MANY);
        let count = self.extent.deletes_many;
        self.prepare(count * MANY, KIB, PREPARERS, |number| format!("{BUCKET}/{}", key(number)))?;
        let plan = Plan { requests_max: count as u64, seconds: f64::INFINITY, ..plan };
        self.server.drive(
            plan,
            || self.connect(),
            |connection, number| {
                let first = usize::try_from(number)? * MANY;
                let keys = (first..first + MANY).fold(String::new(), |keys, number| {
                    keys + &format!("<Object><Key>{}</Key></Object>", key(number))
                });
                let xml = format!("<Delete><Quiet>true</Quiet>{keys}</Delete>");
                let md5 = STANDARD.encode(Md5::digest(xml.as_bytes()));
                let more = [("content-md5", md5.as_str())];
                let answer =
                    self.target.call(connection, "POST", BUCKET, &[("delete", "")], &more, xml.as_bytes())?;
                match answer {
                    (200, text) if !text.contains("<Error>") => Ok(0),
                    (status, text) => Err(format!("deleting many: {status} {text}").into()),
                }
            },
        )
    }
}
