//! The life of a file: seen whole or not at all, open beyond its name, attributes that are the object's own.
#![expect(clippy::disallowed_methods, reason = "a program's rename is what is tested here")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use coffre_tests::command::{fails, run};
use coffre_tests::seed;
use rustix::fs::{FallocateFlags, RenameFlags, SeekFrom as Sought};

use crate::rig::{Rig, sh};

#[test]
fn a_file_is_seen_at_the_other_door_when_closed_or_synced_and_whole() {
    let rig = Rig::new();
    let mut file = File::create(rig.at("f")).unwrap();
    file.write_all(b"one").unwrap();
    assert_eq!(rig.s3_status("f"), 404, "it is being written");
    assert_eq!(fs::read(rig.at("f")).unwrap(), b"one", "here it is there already");
    assert_eq!(sh(&rig.root, "ls"), "f\n");
    file.sync_all().unwrap();
    assert_eq!(rig.s3_get("f"), b"one");
    file.write_all(b" two").unwrap();
    assert_eq!(rig.s3_get("f"), b"one", "never half");
    drop(file);
    assert_eq!(rig.s3_get("f"), b"one two");

    let large = seed::bytes(1, 5 << 20);
    let mut file = File::create(rig.at("large")).unwrap();
    for piece in large.chunks(100_000) {
        file.write_all(piece).unwrap();
    }
    assert_eq!(rig.s3_status("large"), 404);
    drop(file);
    assert_eq!(rig.s3_get("large"), large);
    // in the middle, and beyond the end
    let file = OpenOptions::new().write(true).open(rig.at("large")).unwrap();
    file.write_all_at(b"middle", 1_000_000).unwrap();
    file.write_all_at(b"end", 6 << 20).unwrap();
    drop(file);
    let mut expected = large;
    expected[1_000_000..1_000_006].copy_from_slice(b"middle");
    expected.resize(6 << 20, 0);
    expected.extend_from_slice(b"end");
    assert_eq!(rig.s3_get("large"), expected);
    assert_eq!(fs::read(rig.at("large")).unwrap(), expected);
    rig.finish();
}

#[test]
fn what_is_open_outlives_its_name() {
    let rig = Rig::new();
    fs::write(rig.at("f"), seed::bytes(2, 300_000)).unwrap();
    let mut old = OpenOptions::new().read(true).write(true).open(rig.at("f")).unwrap();
    let mut reader = File::open(rig.at("f")).unwrap();
    fs::remove_file(rig.at("f")).unwrap();
    assert_eq!(rig.s3_status("f"), 404);
    old.write_all(b"gone").unwrap();
    old.seek(SeekFrom::Start(0)).unwrap();
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), 300_000);
    assert_eq!(&text[..4], b"gone");
    drop(old);
    drop(reader);
    assert_eq!(rig.s3_status("f"), 404, "it does not come back");
    // a new one that was never committed
    let mut new = File::create(rig.at("g")).unwrap();
    new.write_all(b"x").unwrap();
    fs::remove_file(rig.at("g")).unwrap();
    drop(new);
    assert_eq!(rig.s3_status("g"), 404);
    // renamed while it is written
    let mut moving = File::create(rig.at("temp")).unwrap();
    fs::write(rig.at("target"), b"old").unwrap();
    moving.write_all(b"new").unwrap();
    fs::rename(rig.at("temp"), rig.at("target")).unwrap();
    drop(moving);
    assert_eq!(rig.s3_get("target"), b"new");
    assert_eq!(rig.s3_status("temp"), 404);
    assert_eq!(sh(&rig.root, "ls"), "target\n");
    rig.finish();
}

#[test]
fn renames_are_atomic_and_know_their_flags() {
    let rig = Rig::new();
    sh(&rig.root, "mkdir -p d/sub e; echo 1 > d/sub/f; echo 2 > d/g; echo 3 > e/h");
    let flagged = |from: &str, to: &str, flags| {
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, rig.at(from), cwd, rig.at(to), flags)
            .map_err(rustix::io::Errno::raw_os_error)
    };
    assert_eq!(flagged("d/g", "e/h", RenameFlags::NOREPLACE), Err(17));
    flagged("d/g", "e/h", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((rig.s3_get("d/g"), rig.s3_get("e/h")), (b"3\n".to_vec(), b"2\n".to_vec()));
    flagged("d", "e/h", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(rig.s3_get("e/h/sub/f"), b"1\n");
    assert_eq!(rig.s3_get("d"), b"2\n");
    sh(
        &rig.root,
        "mv e/h back; mkdir over; mv -T back over; test \"$(cat over/sub/f)\" = 1; mkdir full; touch full/x",
    );
    assert_eq!(fs::rename(rig.at("over"), rig.at("full")).unwrap_err().raw_os_error(), Some(39));
    assert_eq!(fs::rename(rig.at("over"), rig.at("over/sub/in")).unwrap_err().raw_os_error(), Some(22));
    assert_eq!(rig.s3_get("over/sub/f"), b"1\n");
    rig.finish();
}

#[test]
fn directories_last_while_empty_and_markers_are_theirs() {
    let rig = Rig::new();
    fs::create_dir(rig.at("empty")).unwrap();
    assert_eq!(rig.s3_get("empty/"), b"");
    // made by S3: it is there because something is in it, and stays when the mount takes that away
    rig.s3_put("implied/deep/f", b"1");
    fs::remove_file(rig.at("implied/deep/f")).unwrap();
    assert!(rig.at("implied/deep").is_dir());
    assert_eq!(rig.s3_get("implied/deep/"), b"");
    assert_eq!(fs::remove_dir(rig.at("implied")).unwrap_err().raw_os_error(), Some(39));
    sh(&rig.root, "rmdir implied/deep implied empty; test -z \"$(ls)\"");
    assert_eq!(rig.s3_status("empty/"), 404);
    // through S3 the last key takes the directory along
    rig.s3_put("gone/f", b"1");
    assert!(rig.at("gone").is_dir());
    rig.s3_delete("gone/f");
    assert!(!rig.at("gone").exists());
    rig.finish();
}

#[test]
fn extended_attributes_are_free_or_the_objects_own() {
    let rig = Rig::new();
    fs::write(rig.at("f.txt"), b"hello").unwrap();
    let get =
        |name: &str| run(Command::new("getfattr").args(["--only-values", "-n", name]).arg(rig.at("f.txt")));
    let set = |name: &str, value: &str| {
        run(Command::new("setfattr").args(["-n", name, "-v", value]).arg(rig.at("f.txt")));
    };
    set("user.note", "mine");
    assert_eq!(get("user.note"), "mine");
    assert_eq!(get("user.coffre.sha256"), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(get("user.coffre.etag"), "2cf24dba5fb0a30e26e83b2ac5b9e29e-1");
    set("user.coffre.content_type", "text/x-mine");
    set("user.coffre.tags", "a=1&b=%C3%A9");
    let seen = rig.daemon().admin().get("/files/f.txt").unwrap().expect(200);
    assert_eq!(seen.header("content-type"), Some("text/x-mine"));
    let tags = rig.daemon().admin().query("/files/f.txt", &[("tagging", "")]).unwrap().expect(200).text();
    assert!(tags.contains("<Key>b</Key><Value>é</Value>"), "{tags}");
    let mut refused = Command::new("setfattr");
    refused.args(["-n", "user.coffre.etag", "-v", "x"]).arg(rig.at("f.txt"));
    assert!(fails(&mut refused).contains("not permitted"));
    run(Command::new("setfattr").args(["-x", "user.note"]).arg(rig.at("f.txt")));
    assert_eq!(run(Command::new("getfattr").arg("-d").arg(rig.at("f.txt"))), "");
    // in filing's scheme the key is the metadata
    sh(&rig.root, "mkdir -p client/7/devis; echo x > client/7/devis/a.txt");
    let of = |name: &str| {
        let mut command = Command::new("getfattr");
        run(command.args(["--only-values", "-n", name]).arg(rig.at("client/7/devis/a.txt")))
    };
    assert_eq!((of("user.coffre.category"), of("user.coffre.client_id")), ("devis".into(), "7".into()));
    let id = of("user.coffre.file_id");
    sh(&rig.root, "mkdir -p client/7/facture; mv client/7/devis/a.txt client/7/facture/b.txt");
    let mut moved = Command::new("getfattr");
    moved.args(["--only-values", "-n", "user.coffre.file_id"]).arg(rig.at("client/7/facture/b.txt"));
    assert_eq!(run(&mut moved), id, "a move keeps the id");
    rig.finish();
}

#[test]
fn holes_room_and_copies() {
    let rig = Rig::new();
    let bytes = seed::bytes(3, 2 << 20);
    fs::write(rig.at("f"), &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(rig.at("f")).unwrap();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, hole, 1 << 20, 1 << 19).unwrap();
    let mut expected = bytes;
    expected[1 << 20..(1 << 20) + (1 << 19)].fill(0);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 2 << 20, 4096).unwrap();
    expected.resize((2 << 20) + 4096, 0);
    drop(file);
    assert_eq!(rig.s3_get("f"), expected);
    let file = File::open(rig.at("f")).unwrap();
    let end = expected.len() as u64;
    assert_eq!(rustix::fs::seek(&file, Sought::Data(0)), Ok(0));
    assert!(rustix::fs::seek(&file, Sought::Hole(0)).unwrap() <= end);
    assert_eq!(rustix::fs::seek(&file, Sought::Data(end)), Err(rustix::io::Errno::NXIO));
    rustix::fs::seek(&file, Sought::Start(0)).unwrap();
    let to = OpenOptions::new().write(true).create(true).truncate(true).open(rig.at("copy")).unwrap();
    let mut done = 0;
    while done < expected.len() {
        let n = rustix::fs::copy_file_range(&file, None, &to, None, expected.len() - done).unwrap();
        assert!(n > 0);
        done += n;
    }
    drop(to);
    assert_eq!(rig.s3_get("copy"), expected);
    rig.finish();
}
