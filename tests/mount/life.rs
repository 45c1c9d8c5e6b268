//! How a mount begins and ends: at the start, by command, by fstab's helper, at SIGTERM, after a kill.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use coffre_tests::command::{fails, run};
use coffre_tests::daemon::binary;

use crate::rig::{Rig, is_mounted};

#[test]
fn sigterm_unmounts_though_programs_use_it() {
    let mut rig = Rig::new();
    fs::write(rig.at("a"), b"closed").unwrap();
    let mut open = fs::File::create(rig.at("b")).unwrap();
    std::io::Write::write_all(&mut open, b"still open").unwrap();
    rig.take().stop_cleanly();
    assert!(!rig.is_mounted());
    drop(open);
    rig.start(&[]);
    assert_eq!(fs::read(rig.at("a")).unwrap(), b"closed");
    assert_eq!(fs::read(rig.at("b")).unwrap(), b"still open", "what was written and not closed is committed");
    rig.finish();
}

#[test]
fn a_mount_point_left_by_a_kill_is_cleaned_at_the_start() {
    let mut rig = Rig::new();
    fs::write(rig.at("a"), b"x").unwrap();
    rig.take().kill();
    let error = fs::read(rig.at("a")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(107), "{error}: the daemon is gone, and programs learn it");
    rig.start(&[]);
    assert_eq!(fs::read(rig.at("a")).unwrap(), b"x");
    rig.finish();
}

#[test]
fn mounts_come_and_go_by_command() {
    let rig = Rig::new();
    let daemon = rig.daemon();
    daemon.admin().put("/other", b"").unwrap().expect(200);
    daemon.admin().put("/other/p/q/r.txt", b"deep").unwrap().expect(200);
    let there = rig.beside().join("there");
    fs::create_dir(&there).unwrap();
    let path = there.to_str().unwrap();

    daemon.json(&["mount", path, "--bucket", "other", "--prefix", "p", "--read-only"]);
    assert_eq!(fs::read(there.join("q/r.txt")).unwrap(), b"deep");
    assert_eq!(fs::write(there.join("new"), b"").unwrap_err().raw_os_error(), Some(30));
    assert!(fails(&mut daemon.cli(&["mount", path])).contains("is mounted already"));
    daemon.json(&["umount", path]);
    assert!(!is_mounted(&there));
    assert!(fails(&mut daemon.cli(&["umount", path])).contains("nothing of this daemon is mounted"));
    assert!(fails(&mut daemon.cli(&["mount", path, "--bucket", "none"])).contains("no bucket none"));
    assert!(fails(&mut daemon.cli(&["mount", path, "--user", "nobody"])).contains("no user nobody"));

    daemon.json(&["mount", path, "--all-buckets", "--uid", "1", "--gid", "2", "--umask", "077"]);
    assert_eq!(fs::read(there.join("other/p/q/r.txt")).unwrap(), b"deep");
    let shown = run(Command::new("stat").args(["-c", "%u %g %a"]).arg(there.join("other/p/q/r.txt")));
    assert_eq!(shown.trim(), "1 2 600");
    fs::write(there.join("other/new"), b"made").unwrap();
    assert_eq!(daemon.admin().get("/other/new").unwrap().expect(200).body, b"made");
    // one bucket's file cannot be renamed into another; mv copies
    run(Command::new("mv").arg(there.join("other/new")).arg(there.join("files/moved")));
    assert_eq!(fs::read(rig.at("moved")).unwrap(), b"made", "the other mount sees it");
    daemon.json(&["umount", path]);
    rig.finish();
}

#[test]
fn fstab_has_a_helper() {
    let rig = Rig::new();
    let helper = rig.beside().join("mount.coffre");
    symlink(binary(), &helper).unwrap();
    let there = rig.beside().join("there");
    fs::create_dir(&there).unwrap();
    let source = format!("{}#files/sub", rig.daemon().data().display());
    fs::create_dir(rig.at("sub")).unwrap();
    fs::write(rig.at("sub/f"), b"1").unwrap();
    let options = "rw,_netdev,nofail,x-systemd.requires=coffre.service,allow_other";
    run(Command::new(&helper).arg(&source).arg(&there).args(["-o", options]));
    assert_eq!(fs::read(there.join("f")).unwrap(), b"1");
    // as a person would
    run(Command::new("umount").arg(&there));
    assert!(!is_mounted(&there));
    let refused = Command::new(&helper).arg(&source).arg(&there).args(["-o", "bogus"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let refused = Command::new(&helper).arg("/nowhere").arg(&there).output().unwrap();
    assert_eq!(refused.status.code(), Some(32));
    rig.finish();
}
