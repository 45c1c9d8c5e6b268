//! kill −9 during uploads of every family. 10 rounds; 500 by `make test-long`.
//!
//! Resumable uploads: an offset that was told is stored, and what goes on from the offset told after the restart comes to
//! the same bytes. The gateway's direct ones, filing's and the company's: what was answered is there, whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use coffre_tests::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const UP: &str = "/api/v1/files/upload/multipart";
/// Where files are sent in one form, as which field.
const FORMS: [(&str, &str); 3] = [
    ("/api/v1/files/upload/direct", "files"),
    ("/api/files", "file"),
    ("/internal/services/files/v1/companies/{company}/files", "file"),
];
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const BYTES: (&str, &str) = ("content-type", "application/offset+octet-stream");
const SENDERS: usize = 4;
/// Nothing, in the rows, around their limit, a file, past the page cache.
const SIZES: [usize; 6] = [0, 1, 128 * 1024, 128 * 1024 + 1, 2_000_000, 17 << 20];

/// A resumable upload as its sender knows it.
#[derive(Debug, Default)]
struct Upload {
    content: Vec<u8>,
    location: String,
    key: String,
    /// The largest offset that was told.
    told: usize,
}

/// What one sender has been told over all rounds.
#[derive(Debug, Default)]
struct Told {
    /// How many of each kind were compared and forgotten.
    compared: (usize, usize),
    uploads: Vec<Upload>,
    /// Paths at the S3 door and contents of what came in a form.
    stored: Vec<(String, Vec<u8>)>,
}

#[test]
fn no_offset_and_no_file_is_lost_when_the_daemon_is_killed() {
    let mut rng = seed::rng("uploads");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = [
        ("COFFRE_LIMITS__RATE__UPLOAD", "0"),
        ("COFFRE_LIMITS__RATE__GENERAL", "0"),
        ("COFFRE_STORAGE__GRACE_SECONDS", "1"),
    ];
    let mut daemon = Daemon::start_with(&data, &[], &settings);
    let company = daemon.json(&["org", "create", "Company"])["id"].as_str().unwrap().to_owned();
    let mut told: Vec<Told> = (0..SENDERS).map(|_| Told::default()).collect();
    for round in 0..seed::rounds(10, 500) {
        let after = Duration::from_millis(rng.random_range(100..1_500));
        let rest = Rest::admin(&daemon);
        let dead = AtomicBool::new(false);
        thread::scope(|scope| {
            for told in &mut told {
                let (rest, dead, mut rng) = (rest.clone(), &dead, StdRng::seed_from_u64(rng.random()));
                let company = &company;
                scope.spawn(move || {
                    while !dead.load(Ordering::Relaxed) && told.step(&rest, company, &mut rng).is_some() {}
                });
            }
            // the moment of the kill is meant to be any; nothing is waited for
            thread::park_timeout(after);
            daemon.kill();
            dead.store(true, Ordering::Relaxed);
        });
        daemon = Daemon::start_with(&data, &[], &settings);
        for told in &mut told {
            told.verify(&daemon, round);
        }
        daemon.check_finds_nothing();
    }
    let complete: usize = told.iter().map(|told| told.compared.0).sum();
    let direct: usize = told.iter().map(|told| told.compared.1).sum();
    eprintln!("{complete} resumable uploads and {direct} in forms, 0 lost");
    assert!(complete > 0 && direct > 0, "the load hardly ran");
    daemon.stop_cleanly();
}

/// An answer, unless the daemon is gone.
fn ask(rest: &Rest, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let length = body.len().to_string();
    let all = [headers, &[("content-length", length.as_str())]].concat();
    let mut open = rest.try_open(method, path, &all)?;
    open.write(body).ok()?;
    let answer = open.try_answer()?;
    let whole = answer.header("content-length").is_none_or(|n| n.parse() == Ok(answer.body.len()));
    whole.then_some(answer)
}

impl Told {
    fn step(&mut self, rest: &Rest, company: &str, rng: &mut StdRng) -> Option<()> {
        let size = SIZES[rng.random_range(0..SIZES.len())];
        let content = seed::bytes(rng.random_range(0..50), size);
        if rng.random_ratio(1, 2) {
            let form = rng.random_range(0..FORMS.len());
            return self.form(rest, company, form, content);
        }
        let length = content.len().to_string();
        let begun = ask(rest, "POST", UP, &[TUS, ("upload-length", &length)], b"")?.expect(201);
        let header = |name: &str| begun.header(name).unwrap().to_owned();
        self.uploads.push(Upload { content, location: header("location"), key: header("x-s3-key"), told: 0 });
        let upload = self.uploads.last_mut().unwrap();
        let chunk = [usize::MAX, 700_001, 4 << 20][rng.random_range(0..3)];
        upload.send(rest, chunk)
    }

    fn form(&mut self, rest: &Rest, company: &str, which: usize, content: Vec<u8>) -> Option<()> {
        let (path, field) = FORMS[which];
        let path = path.replace("{company}", company);
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"category\"\r\n\r\ndevis\r\n\
             --x\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f.bin\"\r\n\r\n"
        );
        let form = [head.as_bytes(), &content, b"\r\n--x--\r\n"].concat();
        let kind = [("content-type", "multipart/form-data; boundary=x")];
        let answer = ask(rest, "POST", &path, &kind, &form)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let at = match which {
            0 => format!("/gateway/{}", text(&answer.expect(200).json()["files"][0]["path"])),
            // ten megabytes are the most that filing takes
            1 if answer.status == 422 && content.len() > 10 << 20 => return Some(()),
            // the same bytes are filed once
            1 => {
                assert!([200, 201].contains(&answer.status), "{}", answer.text());
                format!("/files/{}", text(&answer.json()["data"]["storage_uri"]))
            }
            _ => {
                let id = text(&answer.expect(200).json()["resource"]["id"]);
                format!("/companies/{company}/{id}/f.bin")
            }
        };
        self.stored.push((at, content));
        Some(())
    }

    fn verify(&mut self, daemon: &Daemon, round: usize) {
        let (rest, s3) = (Rest::admin(daemon), daemon.admin());
        for upload in &mut self.uploads {
            let shown = rest.send("HEAD", &upload.location, &[TUS], b"").expect(200);
            let offset: usize = shown.header("upload-offset").unwrap().parse().unwrap();
            assert!(offset >= upload.told, "round {round}: {} of {} told", offset, upload.told);
            upload.told = offset;
            // whatever is stored of it, it goes on from there
            upload.send(&rest, usize::MAX).unwrap();
        }
        let done = self.uploads.iter().map(|upload| (format!("/gateway/{}", upload.key), &upload.content));
        for (at, content) in done.chain(self.stored.iter().map(|(at, content)| (at.clone(), content))) {
            let object = s3.get(&at).unwrap().expect(200);
            assert!(object.body == *content, "round {round}: {at} has other bytes");
        }
        // what was compared once is the S3 load's to prove further
        self.compared.0 += self.uploads.drain(..).count();
        self.compared.1 += self.stored.drain(..).count();
    }
}

impl Upload {
    /// Sends what is left in requests of so many bytes.
    fn send(&mut self, rest: &Rest, chunk: usize) -> Option<()> {
        while self.told < self.content.len() {
            let end = self.told.saturating_add(chunk).min(self.content.len());
            let offset = self.told.to_string();
            let headers = [TUS, BYTES, ("upload-offset", offset.as_str())];
            let answer =
                ask(rest, "PATCH", &self.location, &headers, &self.content[self.told..end])?.expect(204);
            self.told = answer.header("upload-offset").unwrap().parse().unwrap();
            assert_eq!(self.told, end);
        }
        Some(())
    }
}
