//! The mount within quotas (contract §4, D33): EDQUOT at the write or at close, room that `df` tells, and room that comes
//! back by deleting.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::thread;

use coffre_tests::seed;

use crate::rig::{Rig, sh};

const MB: usize = 1_000_000;
/// `EDQUOT`: disk quota exceeded.
const EDQUOT: i32 = 122;

fn set(rig: &Rig, bytes: usize) {
    rig.daemon().json(&["quota", "set", "--user", "admin", "--bytes", &bytes.to_string()]);
}

fn used(rig: &Rig) -> u64 {
    rig.daemon().json(&["quota", "show", "--user", "admin"])["used_bytes"].as_u64().unwrap()
}

/// Writes a file whole; the errno of the write or the close that failed.
fn write(rig: &Rig, name: &str, bytes: &[u8]) -> Result<(), i32> {
    let told = |error: std::io::Error| error.raw_os_error().unwrap();
    let mut file = File::create(rig.at(name)).map_err(told)?;
    file.write_all(bytes).map_err(told)?;
    // what close says `File` keeps to itself; fsync commits as close does
    file.sync_all().map_err(told)
}

#[test]
fn a_write_beyond_the_quota_is_edquot() {
    let rig = Rig::new();
    set(&rig, MB);
    write(&rig, "a", &seed::bytes(1, 600_000)).unwrap();
    assert_eq!(write(&rig, "b", &seed::bytes(2, 400_001)), Err(EDQUOT));
    write(&rig, "c", &seed::bytes(3, 300_000)).unwrap();
    assert_eq!(used(&rig), 900_000);
    // at any place of a file, and by truncating it to more
    let file = File::options().write(true).open(rig.at("c")).unwrap();
    assert_eq!(file.write_at(b"x", 400_000).unwrap_err().raw_os_error(), Some(EDQUOT));
    assert_eq!(file.set_len(500_000).unwrap_err().raw_os_error(), Some(EDQUOT));
    file.write_at(&[7; 1000], 0).unwrap();
    drop(file);
    assert_eq!(fs::read(rig.at("c")).unwrap()[..1000], [7; 1000]);
    // programs say so
    let said = sh(rig.beside(), "{ head -c 300000 /dev/urandom > mnt/d; cp mnt/a mnt/e; } 2>&1 || true");
    assert!(said.contains("quota"), "{said}");
    // df shows it: a megabyte in all
    let shown = sh(rig.beside(), "df --block-size=1 --output=size,avail mnt | tail -1");
    let figures: Vec<usize> = shown.split_whitespace().map(|text| text.parse().unwrap()).collect();
    assert!(figures[0] <= MB && figures[0] > MB - 8192, "{shown}");
    assert!(figures[1] <= 100_000, "{shown}");
    // what is deleted is free at once
    fs::remove_file(rig.at("a")).unwrap();
    sh(rig.beside(), "rm -f mnt/d mnt/e");
    write(&rig, "b", &seed::bytes(2, 600_000)).unwrap();
    // and other doors count the same
    let refused = rig.daemon().admin().put("/files/general/devis/x", &seed::bytes(4, 200_000)).unwrap();
    assert_eq!(refused.element("Code").as_deref(), Some("QuotaExceeded"));
    rig.daemon().json(&["quota", "set", "--user", "admin", "--none"]);
    write(&rig, "large", &seed::bytes(5, 2 * MB)).unwrap();
    rig.finish();
}

#[test]
fn nobody_passes_the_last_megabyte() {
    const STEP: usize = 90_000;
    let rig = Rig::new();
    write(&rig, "before", &seed::bytes(1, MB)).unwrap();
    set(&rig, 2 * MB);
    for round in 0..seed::rounds(3, 30) {
        let stored: usize = thread::scope(|scope| {
            let writers: Vec<_> = (0..20)
                .map(|n| {
                    let rig = &rig;
                    scope.spawn(move || {
                        let bytes = seed::bytes(n, STEP);
                        if n % 2 == 0 {
                            let done = write(rig, &format!("m{n}"), &bytes);
                            assert!(matches!(done, Ok(()) | Err(EDQUOT)), "{done:?}");
                            usize::from(done.is_ok())
                        } else {
                            let status =
                                rig.daemon().admin().put(&format!("/files/s{n}"), &bytes).unwrap().status;
                            assert!([200, 403].contains(&status), "{status}");
                            usize::from(status == 200)
                        }
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        // a file that was refused at its end is there, empty, as creating it made it
        let used = used(&rig);
        assert!(used <= 2 * MB as u64, "round {round}: {used}");
        assert_eq!(used, (MB + stored * STEP) as u64, "round {round}");
        sh(rig.beside(), "rm -f mnt/m* mnt/s*");
    }
    rig.finish();
}
