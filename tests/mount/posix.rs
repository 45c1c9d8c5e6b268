//! What a POSIX file system is held to: pjdfstest (system calls and their errors) and fsx (bytes).

use std::path::{Path, PathBuf};
use std::process::Command;

use coffre_tests::command::run;
use coffre_tests::seed;

use crate::rig::Rig;

/// A program that `make setup` installs.
fn tool(name: &str) -> PathBuf {
    let root = std::env::var_os("COFFRE_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools"),
        PathBuf::from,
    );
    let tool = root.join("bin").join(name);
    assert!(tool.is_file(), "{} is not there: `make setup` installs it", tool.display());
    tool
}

/// What cases of pjdfstest that fail here on purpose begin or end with.
const REFUSED: &[&str] = &[
    // an object has one key: hard links are refused cleanly (contract §4); these cases make some
    "link::",
    "unlink::unchanged_ctime_failed::",
    "unlink::update_ctime_success::",
    "rename::preserve_metadata::",
    "rename::to_multiply_linked::",
    // a path of 4,095 bytes: a key has 1,024 at most (contract §3)
    "::enametoolong_path",
    // directories tell one link, as on btrfs: to count subdirectories all keys in it would have to be read
    "rename::updates_link_parent",
];

/// Cases that failed and should not.
fn unexpected(told: &str) -> Vec<String> {
    let cases = told.lines().filter_map(|line| line.rsplit_once(' '));
    let failed = cases.filter(|(_, outcome)| *outcome == "FAILED").map(|(name, _)| name.trim_end());
    let is_refused = |name: &str| REFUSED.iter().any(|part| name.starts_with(part) || name.ends_with(part));
    failed.filter(|name| !is_refused(name)).map(str::to_owned).collect()
}

#[test]
fn pjdfstest() {
    let rig = Rig::new();
    let config = rig.beside().join("pjdfstest.toml");
    let text = "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\nrename_ctime = {}\n[settings]\nnaptime = 0.002\nallow_remount = false\n\
                [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
    std::fs::write(&config, text).unwrap();
    let run = |cases: &[String]| {
        let mut command = Command::new(tool("pjdfstest"));
        command.arg("-c").arg(&config).arg("-p").arg(&rig.root).args(cases).output().unwrap()
    };
    let out = run(&[]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut unexpected = unexpected(&text);
    if !unexpected.is_empty() {
        // `open::etxtbsy` fails now and then beside much else; why is not known yet
        eprintln!("pjdfstest, a second time: {unexpected:?}\n{text}");
        let again = run(&unexpected);
        unexpected = self::unexpected(&String::from_utf8_lossy(&again.stdout));
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}\n{text}");
    let summary = text.lines().find(|line| line.starts_with("Summary:")).unwrap_or_default();
    let passed = summary.split(", ").find_map(|part| part.strip_suffix(" passed")?.parse::<u32>().ok());
    eprintln!("pjdfstest: {summary}");
    assert!(
        passed.is_some_and(|passed| passed >= 330),
        "{summary}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    rig.finish();
}

/// Kinds of files and ways of using them.
const PROFILES: [(&str, &str); 5] = [
    ("plain", "[weights]\nclose_open = 1\nfsync = 1\n"),
    ("small", "flen = 65536\n[opsize]\nmax = 4096\n[weights]\nclose_open = 2\ninvalidate = 1\n"),
    ("holes", "[weights]\nclose_open = 1\npunch_hole = 2\nposix_fallocate = 2\n"),
    ("copies", "flen = 1048576\n[weights]\nclose_open = 1\ncopy_file_range = 3\nsendfile = 1\n"),
    ("mapped", "flen = 4194304\n[weights]\nclose_open = 0.5\nmapread = 4\nmapwrite = 4\nfdatasync = 1\n"),
];

#[test]
fn fsx() {
    let (operations, seeds) = if seed::is_long() { ("100000", 3) } else { ("5000", 1) };
    for passthrough in ["auto", "off"] {
        let rig = Rig::with(&[("COFFRE_MOUNT__PASSTHROUGH", passthrough)]);
        for (name, config) in PROFILES {
            let file = rig.beside().join(format!("{name}.toml"));
            std::fs::write(&file, config).unwrap();
            for seed in 1..=seeds {
                let artifacts = rig.beside().to_str().unwrap().to_owned();
                let seed = seed.to_string();
                run(Command::new(tool("fsx"))
                    .args(["-N", operations, "-S", &seed, "-q", "-P", &artifacts, "-f"])
                    .arg(&file)
                    .arg(rig.at(&format!("fsx-{name}-{seed}"))));
            }
        }
        rig.finish();
    }
}
