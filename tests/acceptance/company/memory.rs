//! Memory does not grow with the file (contract D38): chunks by five senders, and the download.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use coffre_tests::daemon::peak_while;
use coffre_tests::seed;

use super::{FORM, World, form, id_of, world};

/// What the real client sends at a time, about.
const CHUNK: usize = 5_000_000;
const SENDERS: usize = 5;
/// D38: at most this above idle.
const GROWTH_MAX: u64 = 32_000_000;

fn upload(world: &World, chunks: usize) -> String {
    let announced =
        world.member.send("POST", &world.files(&format!("?filename=x&total_chunks={chunks}")), &[], b"");
    let path = world.files(&format!("/{}", id_of(&announced.expect(200))));
    let next = AtomicUsize::new(1);
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n > chunks {
                        return;
                    }
                    let body =
                        form("file", "blob", "application/octet-stream", &seed::bytes(n as u64, CHUNK));
                    let path = format!("{path}?chunk_number={n}&total_chunks={chunks}");
                    world.member.send("POST", &path, &[FORM], &body).expect(200);
                }
            });
        }
    });
    path
}

#[test]
fn a_large_file_in_chunks_keeps_memory_within_bounds() {
    let world = world();
    let chunks = if seed::is_long() { 1024 } else { 64 };
    // Once round before measuring: threads, pools and connections are there.
    upload(&world, SENDERS * 2);
    let idle = world.daemon.rss_anon();
    let (path, peak) = peak_while(|| Some(world.daemon.pid()), || upload(&world, chunks));
    eprintln!("{chunks} chunks of {CHUNK} bytes: idle {idle}, peak {peak} bytes");
    assert!(peak <= idle + GROWTH_MAX, "idle {idle}, peak {peak}");
    let url = format!("{path}/download");
    let last = CHUNK * (chunks - 1);
    let range = format!("bytes={last}-");
    let tail = world.member.send("GET", &url, &[("range", &range)], b"").expect(206);
    assert!(tail.body == seed::bytes(chunks as u64, CHUNK));
    world.daemon.check_finds_nothing();
    world.daemon.stop_cleanly();
}
