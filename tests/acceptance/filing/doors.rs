//! One namespace: what filing stores is in S3 and what S3 stores is in filing; links to the bytes; the audit log.

use coffre_tests::s3::{Client, Request};
use coffre_tests::sign::Key;
use serde_json::json;

use super::*;

fn s3_of(daemon: &Daemon, name: &str) -> Client {
    let key = daemon.json(&["key", "create", "--user", name]);
    let field = |name: &str| key[name].as_str().unwrap().to_owned();
    let key =
        Key { id: field("access_key_id"), secret: field("secret_access_key"), region: "us-east-1".into() };
    Client::new(daemon.s3_address(), Some(key))
}

#[test]
fn what_s3_stores_is_filed() {
    let (_folder, daemon) = started();
    let (ann, bob) = (user(&daemon, "ann", &["7"]), user(&daemon, "bob", &[]));
    let s3 = s3_of(&daemon, "ann");
    s3.put("/files/client/7/contrat/2024/Bail Été.pdf", PDF).unwrap().expect(200);
    s3.put("/files/client/7/.hidden", PDF).unwrap().expect(200);
    s3.put("/files/client/7/contrat/draft.tmp", PDF).unwrap().expect(200);
    let page = ann.get("/api/files").expect(200).json();
    assert_eq!(page["pagination"]["total"], 1, "outside the scheme is not filed");
    let file = &page["data"][0];
    let id = file["id"].as_u64().unwrap();
    for (field, value) in [
        ("file_name", json!("Bail Été.pdf")),
        ("mime_type", json!("application/pdf")),
        ("category", json!("contrat")),
        ("subcategory", json!("2024")),
        ("client_id", json!("7")),
        ("uploader_name", json!("ann")),
        ("storage_uri", json!("client/7/contrat/2024/Bail Été.pdf")),
    ] {
        assert_eq!(file[field], value, "{field}");
    }
    assert!(listed(&bob, "").is_empty());
    // overwritten it keeps its number, deleted it is gone
    s3.put("/files/client/7/contrat/2024/Bail Été.pdf", b"text now").unwrap().expect(200);
    let again = ann.get(&format!("/api/files/{id}")).expect(200).json()["data"].clone();
    assert_eq!((&again["size_bytes"], &again["mime_type"]), (&json!(8), &json!("text/plain")));
    s3.delete("/files/client/7/contrat/2024/Bail Été.pdf").unwrap().expect(204);
    ann.get(&format!("/api/files/{id}")).expect(404);
    assert!(listed(&ann, "").is_empty());
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn what_is_filed_is_in_s3_and_moves_there() {
    let (_folder, daemon) = started();
    let ann = user(&daemon, "ann", &["7"]);
    let s3 = s3_of(&daemon, "ann");
    let (id, key) = stored(&ann, &[("category", "devis"), ("client_id", "7")], "a.pdf", PDF);
    let got = s3.get(&format!("/files/{key}")).unwrap().expect(200);
    assert_eq!((got.body.as_slice(), got.header("content-type")), (PDF, Some("application/pdf")));
    let moved = put_json(&ann, id, &json!({"category": "contrat", "client_id": null})).expect(200).json();
    let new_key = moved["data"]["storage_uri"].as_str().unwrap().to_owned();
    assert_eq!(new_key, format!("general/contrat/{}", key.rsplit('/').next().unwrap()));
    s3.get(&format!("/files/{key}")).unwrap().expect(404);
    assert_eq!(s3.get(&format!("/files/{new_key}")).unwrap().expect(200).body, PDF);
    // a copy is another file
    let target = "/files/client/7/contrat/copy.pdf";
    let source = format!("/files/{new_key}");
    let headers = [("x-amz-copy-source", source.as_str())];
    s3.send(&Request { method: "PUT", path: target, headers: &headers, ..Request::default() })
        .unwrap()
        .expect(200);
    let copy = &ann.get("/api/files/by-client/7").json()["data"][0];
    assert_ne!(copy["id"].as_u64(), Some(id));
    ann.send("DELETE", &format!("/api/files/{id}"), &[], b"").expect(200);
    s3.get(&format!("/files/{new_key}")).unwrap().expect(404);
    assert_eq!(s3.get(target).unwrap().expect(200).body, PDF, "shared bytes stay");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn links_are_signed_and_downloads_are_noted() {
    let (_folder, daemon) = started();
    let ann = user(&daemon, "ann", &["7"]);
    let fields = [("category", "devis"), ("client_id", "7"), ("file_name", "Devis Été.pdf")];
    let (id, key) = stored(&ann, &fields, "a.pdf", PDF);
    let answer = ann.get(&format!("/api/files/{id}/download")).expect(200).json();
    assert_eq!(answer["message"], "URL de téléchargement générée avec succès.");
    assert_eq!(names(&answer["data"]), ["download_url", "file_name", "mime_type"]);
    assert_eq!(answer["data"]["file_name"], "Devis Été.pdf");
    let link = answer["data"]["download_url"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&format!("/storage/{key}?expires=")), "{link}");
    let nobody = ann.without_token();
    let got = nobody.get(&link).expect(200);
    assert_eq!((got.body.as_slice(), got.header("content-type")), (PDF, Some("application/pdf")));
    let name = got.header("content-disposition").unwrap();
    assert!(name.contains("filename*=UTF-8''Devis%20%C3%89t%C3%A9.pdf"), "{name}");
    let part = nobody.send("GET", &link, &[("range", "bytes=0-3")], b"").expect(206);
    assert_eq!((part.body.as_slice(), part.header("accept-ranges")), (&PDF[..4], Some("bytes")));
    let etag = got.header("etag").unwrap();
    nobody.send("GET", &link, &[("if-none-match", etag)], b"").expect(304);
    let head = nobody.send("HEAD", &link, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some(PDF.len().to_string().as_str()));
    // changed by a character, for another file, without its half: 403
    let (path, query) = link.split_once('?').unwrap();
    let other = stored(&ann, &[("category", "contrat")], "b.pdf", PDF).1;
    let (expires, signature) = query.split_once('&').unwrap();
    let wrong = [
        format!("{link}0"),
        format!("/storage/{other}?{query}"),
        format!("{path}?{expires}"),
        format!("{path}?{signature}"),
        format!("{path}?expires=99999999999&{signature}"),
        path.to_owned(),
        "/storage/general/devis/nothing.pdf".to_owned(),
    ];
    for wrong in wrong {
        let refused = nobody.get(&wrong).expect(403).json();
        assert_eq!(
            refused,
            json!({"message": "Le lien de téléchargement est invalide ou a expiré."}),
            "{wrong}"
        );
    }
    assert_eq!(ann.get(path).expect(200).body, PDF, "with a token that may read it");
    // moved, the link is to nothing
    put_json(&ann, id, &json!({"category": "contrat"})).expect(200);
    nobody.get(&link).expect(404);
    let public = put_json(&ann, id, &json!({"is_public": true})).expect(200).json();
    let link = ann.get(&format!("/api/files/{id}/download")).json()["data"]["download_url"].clone();
    assert_eq!(link, format!("/storage/{}", public["data"]["storage_uri"].as_str().unwrap()));
    assert_eq!(nobody.get(link.as_str().unwrap()).expect(200).body, PDF);
    let s3 = format!("/files/{}", public["data"]["storage_uri"].as_str().unwrap());
    assert_eq!(daemon.anonymous().get(&s3).unwrap().expect(200).body, PDF, "open at the S3 door too");
    // after a second at most the lines are in the log
    let audit = daemon.data().join("audit");
    let lines = coffre_tests::daemon::wait_for("the audit lines", std::time::Duration::from_secs(20), || {
        let mut all = String::new();
        for entry in std::fs::read_dir(&audit).ok()? {
            all += &std::fs::read_to_string(entry.ok()?.path()).ok()?;
        }
        let has = |action: &str| all.contains(&format!("\"action\":\"{action}\""));
        (has("CreateDownloadLink") && has("GetObject")).then_some(all)
    });
    assert!(lines.contains(&key), "{lines}");
    daemon.stop_cleanly();
}
