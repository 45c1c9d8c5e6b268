//! Small rules of the repository that no compiler checks (STYLE §1, §2, §7).
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every Rust file of the workspace with its text, paths relative to the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = crates().into_iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 40, "the walk finds the workspace: {}", found.len());
    found
}

fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What each crate may use of the others: arrows point one way.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("disk", vec![]),
        ("kv", vec!["disk"]),
        ("store", vec!["disk", "kv"]),
        ("identity", vec!["disk", "kv", "store"]),
        ("billing", vec!["kv", "store", "identity"]),
        ("s3api", vec!["store", "identity"]),
        ("admin-api", vec!["store", "identity", "billing"]),
        ("fuse", vec!["disk", "store", "identity"]),
        ("daemon", vec!["disk", "kv", "store", "identity", "billing", "s3api", "admin-api", "fuse"]),
        ("tests", vec![]),
    ])
}

#[test]
fn arrows_point_one_way() {
    let allowed = allowed();
    for name in crates() {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("say here what {name} may use"));
        let manifest = fs::read_to_string(root().join(&name).join("Cargo.toml")).unwrap();
        let product = manifest.split("[dev-dependencies]").next().unwrap();
        for line in product.lines().filter(|line| line.starts_with("coffre-")) {
            let used = line["coffre-".len()..].split(['.', ' ']).next().unwrap();
            assert!(may.contains(&used), "{name} may not use {used}");
        }
    }
}

/// What others wrote is optimised more; a member that is forgotten would be compiled for minutes.
#[test]
fn each_member_is_compiled_as_ours() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in crates() {
        assert!(manifest.contains(&format!("[profile.dev.package.coffre-{name}]\nopt-level = ")), "{name}");
    }
}

#[test]
fn each_index_is_named_by_one_file_only() {
    // Its own module is called like it, which the module above has to say.
    let above = "kv/src/embedded/index/mod.rs";
    for library in ["sled", "fjall"] {
        let (home, below) =
            (format!("kv/src/embedded/index/{library}.rs"), format!("kv/src/embedded/index/{library}/"));
        for (name, text) in sources() {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let path = format!("{library}::");
            let import = format!("use {library}");
            let names = code.filter(|line| line.contains(&path) || line.contains(&import)).count();
            let may = name == home || name == above || name.starts_with(&below);
            let may = may || name.starts_with("tests/repository");
            assert!(names == 0 || may, "{name} names {library}");
        }
    }
}

#[test]
fn below_the_doors_nobody_says_http() {
    for name in ["disk", "kv", "store", "identity", "billing"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for door in ["http", "hyper", "axum", "s3s", "fuser"] {
            assert!(
                !manifest.lines().any(|line| line.starts_with(&format!("{door}."))),
                "{name} uses {door}"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_stays_small() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not open with `//!`");
        let lines = text.lines().count();
        assert!(lines <= 800, "{name} has {lines} lines");
    }
}

#[test]
fn nothing_is_left_unfinished_or_bound_to_a_machine() {
    // Put together here, so that this file does not find itself.
    let words = [format!("{}!(", "todo"), format!("{}!(", "unimplemented"), format!("#[{}", "ignore")];
    let places = [format!("/{}/", "work"), format!("/{}/", "root")];
    for (name, text) in sources() {
        for word in words.iter().chain(&places) {
            assert!(!text.contains(word.as_str()), "{name} contains {word}");
        }
    }
}
