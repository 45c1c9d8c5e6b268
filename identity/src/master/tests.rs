//! Where a master key comes from, and what is refused.

use std::os::unix::fs::PermissionsExt as _;

use coffre_kv::memory::Memory;
use coffre_kv::{Commit, Write};

use super::*;

fn sources(dir: &Path) -> Sources {
    Sources { environment: None, credentials: None, dir: dir.to_owned() }
}

#[tokio::test]
async fn the_first_start_makes_a_key_and_later_ones_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Memory::new();
    let first = MasterKey::for_data(&sources(dir.path()), &kv).await.unwrap();
    let file = dir.path().join("master.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    let again = MasterKey::for_data(&sources(dir.path()), &kv).await.unwrap();
    assert_eq!(first.bytes(), again.bytes());
}

#[tokio::test]
async fn a_half_made_key_of_a_crash_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("master.key.new"), "0123").unwrap();
    let key = MasterKey::for_data(&sources(dir.path()), &Memory::new()).await.unwrap();
    assert_eq!(MasterKey::find(&sources(dir.path())).unwrap().unwrap().bytes(), key.bytes());
    assert!(!dir.path().join("master.key.new").exists());
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Memory::new();
    let check = Write::Put(key(Kind::Check, &[]), MasterKey::random().check().unwrap().into());
    kv.commit(Commit { writes: vec![check], ..Commit::default() }).await.unwrap();
    let answer = MasterKey::for_data(&sources(dir.path()), &kv).await;
    assert!(matches!(answer, Err(Error::MasterKeyMissing)), "{answer:?}");
    assert!(!dir.path().join("master.key").exists());
}

#[test]
fn the_environment_goes_before_the_credential_before_the_file() {
    let (data, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hex_of = |byte: u8| hex::encode([byte; 32]);
    MasterKey::new([1; 32]).write(data.path()).unwrap();
    let mut from = sources(data.path());
    assert_eq!(MasterKey::find(&from).unwrap().unwrap().bytes(), &[1; 32]);
    from.credentials = Some(credentials.path().to_owned());
    assert_eq!(MasterKey::find(&from).unwrap().unwrap().bytes(), &[1; 32], "no such credential");
    std::fs::write(credentials.path().join("master-key"), hex_of(2)).unwrap();
    assert_eq!(MasterKey::find(&from).unwrap().unwrap().bytes(), &[2; 32]);
    from.environment = Some(seal::Secret::new(hex_of(3)));
    assert_eq!(MasterKey::find(&from).unwrap().unwrap().bytes(), &[3; 32]);
}

#[test]
fn spellings_accepted_and_refused() {
    let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
    for good in [hex::encode(bytes), format!("{}\n", hex::encode_upper(bytes)), base64] {
        assert_eq!(MasterKey::parse("x", &good).unwrap().bytes(), &bytes, "{good}");
    }
    for bad in ["", "secret", &hex::encode([7; 31]), &hex::encode([7; 33]), &"zz".repeat(32)] {
        let error = MasterKey::parse("the environment", bad).unwrap_err();
        assert!(error.to_string().contains("64 hex digits"), "{error}");
        assert!(bad.is_empty() || !error.to_string().contains(bad), "the message shows the key");
    }
}

#[test]
fn a_file_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    MasterKey::random().write(dir.path()).unwrap();
    let file = dir.path().join("master.key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = MasterKey::find(&sources(dir.path())).unwrap_err();
    assert!(error.to_string().contains("0600"), "{error}");
}
