//! Names that a file system cannot show: nothing is hidden, and what is shown leads back to the key.

use std::fs;

use crate::rig::Rig;

fn names(rig: &Rig, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(rig.at(dir)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_key_has_a_path_and_every_path_is_its_key() {
    let rig = Rig::new();
    let long = "n".repeat(600);
    let keys = [
        ("e/a", "e/coffre%@a"),
        ("e/a/b", "e/a/b"),
        ("e//double", "e/coffre%=/double"),
        ("e/../up", "e/coffre%=%2E%2E/up"),
        ("e/.", "e/coffre%=%2E"),
        ("e/coffre%x", "e/coffre%=coffre%25x"),
        ("e/100%", "e/100%"),
    ];
    for (key, _) in keys {
        rig.s3_put(key, key.as_bytes());
    }
    let long_key = format!("e/{long}");
    rig.s3_put(&long_key, b"long");
    for (key, path) in keys {
        assert_eq!(fs::read(rig.at(path)).unwrap(), key.as_bytes(), "{key} is {path}");
    }
    let pieces = [&long[..247], &long[247..494], &long[494..]];
    let path = format!("e/coffre%+{}/coffre%+{}/{}", pieces[0], pieces[1], pieces[2]);
    assert_eq!(fs::read(rig.at(&path)).unwrap(), b"long");
    let begin = format!("coffre%+{}", pieces[0]);
    let shown =
        ["100%", "a", &begin, "coffre%=", "coffre%=%2E", "coffre%=%2E%2E", "coffre%=coffre%25x", "coffre%@a"];
    assert_eq!(names(&rig, "e"), shown);

    // written and removed by these names
    fs::write(rig.at("e/coffre%@a"), b"new").unwrap();
    assert_eq!(rig.s3_get("e/a"), b"new");
    fs::remove_file(rig.at("e/coffre%@a")).unwrap();
    assert_eq!(rig.s3_status("e/a"), 404);
    assert_eq!(rig.s3_get("e/a/b"), b"e/a/b");
    fs::remove_file(rig.at(&path)).unwrap();
    assert_eq!(rig.s3_status(&long_key), 404);
    assert_eq!(names(&rig, "e").len(), 6);
    // a name that only looks like an escape cannot be made
    for bad in ["coffre%", "coffre%=x", "coffre%@new", "coffre%zz"] {
        assert_eq!(fs::write(rig.at("e").join(bad), b"").unwrap_err().raw_os_error(), Some(22), "{bad}");
    }
    rig.finish();
}

#[test]
fn a_directory_that_appears_beside_a_file_renames_what_is_shown() {
    let rig = Rig::new();
    rig.s3_put("d/x", b"file");
    assert_eq!(fs::read(rig.at("d/x")).unwrap(), b"file");
    rig.s3_put("d/x/y", b"below");
    assert_eq!(names(&rig, "d"), ["coffre%@x", "x"]);
    assert_eq!(fs::read(rig.at("d/coffre%@x")).unwrap(), b"file");
    assert_eq!(fs::read(rig.at("d/x/y")).unwrap(), b"below");
    rig.s3_delete("d/x/y");
    assert_eq!(names(&rig, "d"), ["x"]);
    assert_eq!(fs::read(rig.at("d/x")).unwrap(), b"file");
    rig.finish();
}
