//! One namespace: random changes through S3, filing and the mount, against one list of what has to be there; after each
//! every door shows it. 150 changes; 5,000 by `make test-long`.

use std::collections::BTreeMap;
use std::fs;

use coffre_tests::rest::Rest;
use coffre_tests::s3::Client;
use coffre_tests::seed;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::rig::Rig;

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=limit");
const JSON: (&str, &str) = ("content-type", "application/json");
/// In the rows, and as blobs.
const SIZES: [usize; 3] = [0, 3_000, 200_000];

/// What has to be there, and the doors.
struct World {
    rig: Rig,
    rest: Rest,
    s3: Client,
    /// Contents by key.
    files: BTreeMap<String, Vec<u8>>,
}

/// A folder that filing shows: its category, its client.
fn folder(rng: &mut StdRng) -> (&'static str, Option<&'static str>) {
    let category = ["devis", "facture", "contrat", "autre"][rng.random_range(0..4)];
    (category, [None, Some("7"), Some("acme")][rng.random_range(0..3)])
}

fn key_in((category, client): (&str, Option<&str>), name: &str) -> String {
    client.map_or_else(
        || format!("general/{category}/{name}"),
        |client| format!("client/{client}/{category}/{name}"),
    )
}

impl World {
    fn new() -> Self {
        let rig = Rig::new();
        let (rest, s3) = (Rest::admin(rig.daemon()), rig.daemon().admin());
        Self { rig, rest, s3, files: BTreeMap::new() }
    }

    fn any(&self, rng: &mut StdRng) -> Option<String> {
        let n = rng.random_range(0..self.files.len().max(1));
        self.files.keys().nth(n).cloned()
    }

    /// The file that filing shows at a key.
    #[track_caller]
    fn filed(&self, key: &str) -> Option<Value> {
        let page = self.rest.get("/api/files?per_page=100").expect(200).json();
        assert_eq!(page["pagination"]["total"], self.files.len(), "{page:#}");
        page["data"].as_array().unwrap().iter().find(|file| file["storage_uri"] == key).cloned()
    }

    fn number(&self, key: &str) -> u64 {
        self.filed(key).unwrap_or_else(|| panic!("{key} is not filed"))["id"].as_u64().unwrap()
    }

    fn content(rng: &mut StdRng) -> Vec<u8> {
        seed::bytes(rng.random(), SIZES[rng.random_range(0..SIZES.len())].max(1))
    }

    /// One change; the keys it was about.
    fn step(&mut self, rng: &mut StdRng, n: usize) -> Vec<String> {
        let known = self.any(rng);
        // few files, so that the same ones are met again and again
        let is_full = self.files.len() >= 12;
        match (rng.random_range(0..9), known) {
            (0, Some(key)) => {
                self.s3.delete(&format!("/files/{key}")).unwrap().expect(204);
                self.files.remove(&key);
                vec![key]
            }
            (1, Some(key)) => {
                fs::remove_file(self.rig.at(&key)).unwrap();
                self.files.remove(&key);
                vec![key]
            }
            (2, Some(key)) => {
                let number = self.number(&key);
                self.rest.send("DELETE", &format!("/api/files/{number}"), &[], b"").expect(200);
                self.files.remove(&key);
                vec![key]
            }
            (3, Some(key)) => {
                let content = Self::content(rng);
                self.s3.put(&format!("/files/{key}"), &content).unwrap().expect(200);
                self.files.insert(key.clone(), content);
                vec![key]
            }
            (4, Some(key)) => {
                let content = Self::content(rng);
                fs::write(self.rig.at(&key), &content).unwrap();
                self.files.insert(key.clone(), content);
                vec![key]
            }
            (5, Some(key)) => self.move_in_the_mount(rng, key, n),
            (6, Some(key)) => self.move_by_filing(rng, key),
            (_, Some(key)) if is_full => {
                self.s3.delete(&format!("/files/{key}")).unwrap().expect(204);
                self.files.remove(&key);
                vec![key]
            }
            (7, _) => {
                let (key, content) = (key_in(folder(rng), &format!("m{n}.bin")), Self::content(rng));
                fs::create_dir_all(self.rig.at(&key).parent().unwrap()).unwrap();
                fs::write(self.rig.at(&key), &content).unwrap();
                self.files.insert(key.clone(), content);
                vec![key]
            }
            (8, _) => {
                let (key, content) = (key_in(folder(rng), &format!("s{n}.bin")), Self::content(rng));
                self.s3.put(&format!("/files/{key}"), &content).unwrap().expect(200);
                self.files.insert(key.clone(), content);
                vec![key]
            }
            _ => self.file(rng, n),
        }
    }

    /// Uploads by filing.
    fn file(&mut self, rng: &mut StdRng, n: usize) -> Vec<String> {
        let ((category, client), content) = (folder(rng), Self::content(rng));
        let field = |name: &str, value: &str| {
            format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let mut body = field("category", category).into_bytes();
        if let Some(client) = client {
            body.extend_from_slice(field("client_id", client).as_bytes());
        }
        let head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"r{n}.bin\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&content);
        body.extend_from_slice(b"\r\n--limit--\r\n");
        let made = self.rest.send("POST", "/api/files", &[FORM], &body).expect(201).json();
        let key = made["data"]["storage_uri"].as_str().unwrap().to_owned();
        assert!(key.starts_with(&key_in((category, client), "")), "{key}");
        self.files.insert(key.clone(), content);
        vec![key]
    }

    #[expect(clippy::disallowed_methods, reason = "what programs do in the mount")]
    fn move_in_the_mount(&mut self, rng: &mut StdRng, key: String, n: usize) -> Vec<String> {
        let (category, client) = folder(rng);
        let target = key_in((category, client), &format!("moved{n}.bin"));
        let before = self.number(&key);
        fs::create_dir_all(self.rig.at(&target).parent().unwrap()).unwrap();
        fs::rename(self.rig.at(&key), self.rig.at(&target)).unwrap();
        let content = self.files.remove(&key).unwrap();
        self.files.insert(target.clone(), content);
        let filed = self.filed(&target).expect("it is filed where it is now");
        assert_eq!((&filed["id"], &filed["category"]), (&json!(before), &json!(category)), "{target}");
        assert_eq!(filed["client_id"], json!(client), "{target}");
        vec![key, target]
    }

    fn move_by_filing(&mut self, rng: &mut StdRng, key: String) -> Vec<String> {
        let (category, client) = folder(rng);
        let number = self.number(&key);
        let body = json!({"category": category, "client_id": client}).to_string();
        let path = format!("/api/files/{number}");
        let moved = self.rest.send("PUT", &path, &[JSON], body.as_bytes()).expect(200).json();
        let target = moved["data"]["storage_uri"].as_str().unwrap().to_owned();
        assert!(target.starts_with(&key_in((category, client), "")), "{target}");
        let content = self.files.remove(&key).unwrap();
        self.files.insert(target.clone(), content);
        vec![key, target]
    }

    /// What every door says of a key is what has to be there.
    fn compare(&self, key: &str) {
        let content = self.files.get(key);
        let by_s3 = self.s3.get(&format!("/files/{key}")).unwrap();
        assert_eq!(by_s3.status, if content.is_some() { 200 } else { 404 }, "{key} at S3");
        assert_eq!(fs::read(self.rig.at(key)).ok().as_ref(), content, "{key} in the mount");
        let filed = self.filed(key);
        assert_eq!(filed.is_some(), content.is_some(), "{key} in filing");
        if let (Some(content), Some(filed)) = (content, filed) {
            assert!(by_s3.body == *content, "{key} at S3");
            assert_eq!(filed["size_bytes"], content.len(), "{key} in filing");
            let link = self.rest.get(&format!("/api/files/{}/download", filed["id"])).expect(200).json();
            let link = link["data"]["download_url"].as_str().unwrap();
            assert!(self.rest.without_token().get(link).expect(200).body == *content, "{key} by its link");
        }
    }
}

#[test]
fn every_door_shows_what_any_of_them_did() {
    let mut rng = seed::rng("namespace");
    let mut world = World::new();
    for n in 0..seed::rounds(150, 5_000) {
        for key in world.step(&mut rng, n) {
            world.compare(&key);
        }
    }
    for key in world.files.keys() {
        world.compare(key);
    }
    let statistics = world.rest.get("/api/files/statistics").expect(200).json();
    assert_eq!(statistics["data"]["total_files"], world.files.len());
    world.rig.finish();
}
