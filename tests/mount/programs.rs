//! What people do in a folder: copy, unpack, clone, sync, edit, keep a database.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use coffre_tests::seed;

use crate::rig::{Rig, sh};

/// A tree of files of many sizes, modes, times, links and names, outside the mount.
fn tree(rig: &Rig) -> String {
    let script = "mkdir -p src/a/b/c 'src/sp ace/é' src/empty\n\
        for i in $(seq 1 60); do head -c $((i * i * 97 % 300000)) /dev/urandom > src/a/f$i; done\n\
        head -c 3000000 /dev/urandom > src/a/b/large\n\
        ln -s ../f1 src/a/b/link; ln -s nowhere src/dangling\n\
        echo hi > 'src/sp ace/é/ü+%.txt'; chmod 640 src/a/f2; chmod 755 src/a/f3; chmod 700 src/a/b/c\n\
        touch -d '2001-02-03 04:05:06.789012345' src/a/f4; touch -d 2002-03-04 src/a/b/c src/empty\n\
        echo $PWD/src";
    sh(rig.beside(), script).trim().to_owned()
}

/// Kind, mode, size, time and path of everything below a folder.
fn listing(rig: &Rig, folder: &str) -> String {
    let script = format!(
        "cd {folder}; find . -mindepth 1 \\( -type d -printf '%y %m %TY-%Tm-%Td %p\\n' -o -type l \
        -printf '%y %l %p\\n' -o -printf '%y %m %s %T@ %p\\n' \\) | sort"
    );
    sh(rig.beside(), &script)
}

#[test]
fn copies_keep_bytes_modes_times_and_links() {
    let rig = Rig::new();
    let src = tree(&rig);
    let root = rig.root.display();
    sh(rig.beside(), &format!("cp -a {src} {root}/copy; diff -r --no-dereference {src} {root}/copy"));
    assert_eq!(listing(&rig, &src), listing(&rig, &format!("{root}/copy")));
    sh(
        rig.beside(),
        &format!(
            "tar --format=posix -C {src} -cf t.tar .; mkdir {root}/tar; tar -C {root}/tar -xpf t.tar; \
        diff -r --no-dereference {src} {root}/tar"
        ),
    );
    assert_eq!(listing(&rig, &src), listing(&rig, &format!("{root}/tar")));
    // as another mount of the same data shows it
    let there = rig.beside().join("there");
    fs::create_dir(&there).unwrap();
    rig.daemon().json(&["mount", there.to_str().unwrap()]);
    assert_eq!(listing(&rig, &src), listing(&rig, &format!("{}/tar", there.display())));
    rig.daemon().json(&["umount", there.to_str().unwrap()]);
    rig.finish();
}

#[test]
fn rsync_has_nothing_to_do_the_second_time() {
    let rig = Rig::new();
    let (src, root) = (tree(&rig), rig.root.display());
    sh(rig.beside(), &format!("rsync -a {src}/ {root}/r/"));
    assert_eq!(sh(rig.beside(), &format!("rsync -ai {src}/ {root}/r/")), "");
    assert_eq!(sh(rig.beside(), &format!("rsync -aci {src}/ {root}/r/")), "");
    sh(
        rig.beside(),
        &format!(
            "echo more >> {src}/a/f9; rm {src}/a/f10; rsync -a --delete {src}/ {root}/r/; \
        diff -r --no-dereference {src} {root}/r"
        ),
    );
    rig.finish();
}

#[test]
fn git_clones_commits_and_finds_nothing_wrong() {
    let rig = Rig::new();
    let (src, root) = (tree(&rig), rig.root.display());
    let identity = "git config user.email a@b; git config user.name n";
    sh(
        rig.beside(),
        &format!("cd {src}; git init -q; {identity}; git add -A; git commit -qm one; git tag v1"),
    );
    sh(
        rig.beside(),
        &format!(
            "git clone -q {src} {root}/clone; cd {root}/clone; git fsck --strict; \
        test -z \"$(git status --porcelain)\"; {identity}; echo x > new; git add new; git commit -qm two; \
        git gc -q; git fsck --strict; git checkout -q v1; test ! -e new; git checkout -q -; cat new"
        ),
    );
    sh(rig.beside(), &format!("rm -rf {root}/clone; test -z \"$(ls -A {root})\""));
    rig.finish();
}

#[test]
fn editors_save_and_shells_append() {
    let rig = Rig::new();
    fs::create_dir(rig.at("d")).unwrap();
    // as vim and nano do: a backup, a new file, a rename over the old one
    sh(&rig.root, "echo one > d/f; cp -p d/f d/f~; echo two > d/.f.swp; mv d/.f.swp d/f; rm d/f~");
    assert_eq!(rig.s3_get("d/f"), b"two\n");
    // in place, as others do
    sh(
        &rig.root,
        "echo three > d/f; echo four >> d/f; sed -i s/three/3/ d/f; dd if=/dev/zero of=d/z bs=4k count=3 conv=fsync status=none",
    );
    assert_eq!(rig.s3_get("d/f"), b"3\nfour\n");
    assert_eq!(rig.s3_get("d/z"), vec![0; 12_288]);
    assert_eq!(rig.s3_status("d/f~"), 404);
    sh(
        &rig.root,
        "touch d/empty; mkdir e; mv d/f e/g; ln -s g e/l; test \"$(cat e/l)\" = \"$(cat e/g)\"; truncate -s 3 e/g",
    );
    assert_eq!(rig.s3_get("d/empty"), b"");
    assert_eq!(rig.s3_get("e/g"), b"3\nf");
    assert_eq!(rig.s3_status("d/f"), 404);
    rig.finish();
}

#[test]
fn sqlite_keeps_its_promises_in_both_journal_modes() {
    let rig = Rig::new();
    let each: usize = if seed::is_long() { 250 } else { 40 };
    for mode in ["wal", "delete"] {
        let db = rig.at(&format!("{mode}.db"));
        let db = db.display();
        let made =
            sh(rig.beside(), &format!("sqlite3 {db} 'PRAGMA journal_mode={mode}; CREATE TABLE t(w, n)'"));
        assert_eq!(made.trim(), mode);
        thread::scope(|scope| {
            for writer in 0..4 {
                let (rig, db) = (&rig, &db);
                scope.spawn(move || {
                    let script = format!(
                        "for i in $(seq {each}); do echo \".timeout 60000\nBEGIN IMMEDIATE; \
                        INSERT INTO t VALUES({writer}, $i); COMMIT;\"; done | sqlite3 -bail {db}"
                    );
                    sh(rig.beside(), &script);
                });
            }
        });
        let told =
            sh(rig.beside(), &format!("sqlite3 {db} 'SELECT count(*) FROM t; PRAGMA integrity_check'"));
        assert_eq!(told, format!("{}\nok\n", 4 * each));
    }
    rig.finish();
}

#[test]
fn what_is_counted_is_right() {
    let rig = Rig::new();
    sh(&rig.root, "mkdir -p x/y; for i in $(seq 250); do head -c $i /dev/zero > x/y/f$i; done");
    assert_eq!(sh(&rig.root, "find . -type f | wc -l").trim(), "250");
    assert_eq!(sh(&rig.root, "find x -name 'f1??' -size -200c | wc -l").trim(), "100");
    assert_eq!(sh(&rig.root, "du -b --apparent-size x/y/f7 | cut -f1").trim(), "7");
    assert_eq!(sh(&rig.root, "ls x/y | sort -V | tail -1").trim(), "f250");
    let df = sh(&rig.root, "df --output=size,avail,fstype -B1 . | tail -1");
    let mut fields = df.split_whitespace();
    let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
    let (size, free) = (number(), number());
    assert!(size > free && free > 0 && size < 1 << 50, "{df}");
    assert!(df.trim().ends_with("fuse.coffre"), "{df}");
    // inode numbers stay, and no two are alike
    let before = fs::metadata(rig.at("x/y/f5")).unwrap().ino();
    sh(&rig.root, "mv x/y/f5 x/f5");
    assert_eq!(fs::metadata(rig.at("x/f5")).unwrap().ino(), before);
    assert_eq!(sh(&rig.root, "find . -printf '%i\\n' | sort | uniq -d"), "");
    rig.finish();
}
