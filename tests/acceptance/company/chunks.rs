//! Files that come in chunks.

use std::thread;

use serde_json::{Value, json};

use super::{FORM, form, id_of, send, world};

#[test]
fn five_senders_in_any_order() {
    let world = world();
    let announced = world.member.send(
        "POST",
        &world.files("/?filename=big.bin&type=application/x-big&total_chunks=12&total_Size=1200000"),
        &[("content-type", "application/json")],
        b"",
    );
    let announced = announced.expect(200);
    let (id, file) = (id_of(&announced), announced.json()["resource"].clone());
    assert_eq!((&file["metadata"], &file["upload_data"]), (&Value::Null, &Value::Null));
    let path = world.files(&format!("/{id}"));
    assert_eq!(world.member.get(&path).expect(200).json()["resource"]["metadata"], Value::Null);
    world.member.get(&format!("{path}/download")).expect(404);

    let chunk = |n: usize| vec![u8::try_from(n).unwrap(); 100_000];
    let names = ["chunk_number", "chunkNumber", "resumableChunkNumber"];
    // a chunk sent first with other bytes is replaced
    send(&world.member, &format!("{path}?chunk_number=7&total_chunks=12"), "blob", "", b"wrong").expect(200);
    let part = world.member.get(&path).expect(200).json()["resource"].clone();
    assert_eq!(part["upload_data"], json!({"size": 5, "chunks": 1}));
    assert_eq!(part["metadata"]["name"], "big.bin");
    let order = [12, 3, 7, 1, 9, 11, 2, 10, 5, 4, 8, 6];
    thread::scope(|scope| {
        for sender in 0..5 {
            let (path, member, chunk) = (&path, &world.member, &chunk);
            scope.spawn(move || {
                for n in order.iter().skip(sender).step_by(5) {
                    let name = names[n % 3];
                    let path = format!("{path}/?{name}={n}&totalChunks=12&total_Size=1200000");
                    send(member, &path, "blob", "application/octet-stream", &chunk(*n)).expect(200);
                }
            });
        }
    });
    let file = world.member.get(&path).expect(200).json()["resource"].clone();
    assert_eq!(file["upload_data"], json!({"size": 1_200_000, "chunks": 12}));
    let metadata = json!({"name": "big.bin", "mime": "application/x-big", "thumbnails_status": "done"});
    assert_eq!(file["metadata"], metadata);
    let whole: Vec<u8> = (1..=12).flat_map(chunk).collect();
    let download = world.member.get(&format!("{path}/download")).expect(200);
    assert!(download.body == whole);
    assert!(download.header("etag").unwrap().ends_with("-1\""), "{:?}", download.header("etag"));
    world.daemon.check_finds_nothing();
    world.daemon.stop_cleanly();
}

#[test]
fn only_an_application_overwrites_what_is_complete() {
    let world = world();
    let id = id_of(&send(&world.member, &world.files(""), "a.txt", "text/plain", b"one").expect(200));
    let path = world.files(&format!("/{id}"));
    let refused = send(&world.member, &path, "a.txt", "text/plain", b"two").expect(403);
    assert_eq!((&refused.json()["statusCode"], &refused.json()["error"]), (&json!(403), &json!("Forbidden")));
    send(&world.member, &format!("{path}?chunk_number=1&total_chunks=2"), "a", "", b"two").expect(403);
    let second =
        send(&world.application, &path, "b.txt", "text/plain", b"two!").expect(200).json()["resource"]
            .clone();
    assert_eq!((&second["metadata"]["name"], &second["upload_data"]["size"]), (&json!("b.txt"), &json!(4)));
    assert_eq!(second["application_id"], second["user_id"]);
    // in chunks too: until the last is in, the file is the old one
    for n in [2, 1, 3] {
        let before = world.member.get(&format!("{path}/download")).expect(200).body;
        assert_eq!(before, b"two!");
        let sent = send(
            &world.application,
            &format!("{path}?chunk_number={n}&total_chunks=3"),
            "b",
            "",
            &[b'0' + n; 3],
        );
        sent.expect(200);
    }
    assert_eq!(world.member.get(&format!("{path}/download")).expect(200).body, b"111222333");
    world.daemon.check_finds_nothing();
    world.daemon.stop_cleanly();
}

#[test]
fn an_announced_file_can_be_deleted_or_sent_whole() {
    let world = world();
    let announce = || {
        id_of(&world.member.send("POST", &world.files("?filename=x&total_chunks=3"), &[], b"").expect(200))
    };
    let id = announce();
    let path = world.files(&format!("/{id}"));
    send(&world.member, &format!("{path}?chunk_number=2&total_chunks=3"), "x", "", b"two").expect(200);
    world.member.send("DELETE", &path, &[], b"").expect(200);
    world.member.get(&path).expect(404);
    send(&world.member, &format!("{path}?chunk_number=1&total_chunks=3"), "x", "", b"one").expect(404);

    let path = world.files(&format!("/{}", announce()));
    send(&world.member, &path, "x", "text/plain", b"whole").expect(200);
    assert_eq!(world.member.get(&format!("{path}/download")).expect(200).body, b"whole");
    send(&world.member, &path, "x", "text/plain", b"again").expect(403);
    let status = world.daemon.json(&["status"]);
    let unfinished: u64 = status["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| bucket["unfinished_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(unfinished, 0, "{status:#}");
    world.daemon.stop_cleanly();
}

#[test]
fn chunks_that_are_none_are_refused_and_leave_nothing() {
    let world = world();
    let id =
        id_of(&world.member.send("POST", &world.files("?filename=x&total_chunks=3"), &[], b"").expect(200));
    let path = world.files(&format!("/{id}"));
    for query in
        ["chunk_number=0&total_chunks=3", "chunk_number=4&total_chunks=3", "chunk_number=1", "total_chunks=3"]
    {
        let refused = send(&world.member, &format!("{path}?{query}"), "x", "", b"bytes").expect(400).json();
        assert_eq!(refused["error"], "Bad Request", "{query}");
    }
    let other = form("other", "x", "text/plain", b"bytes");
    world.member.send("POST", &format!("{path}?chunk_number=1&total_chunks=3"), &[FORM], &other).expect(400);
    let whole = form("file", "x", "text/plain", b"bytes");
    let cut = &whole[..whole.len() - 15];
    world.member.send("POST", &format!("{path}?chunk_number=1&total_chunks=3"), &[FORM], cut).expect(400);
    assert_eq!(world.member.get(&path).expect(200).json()["resource"]["upload_data"], Value::Null);
    world.daemon.stop_cleanly();
}
