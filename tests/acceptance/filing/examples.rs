//! The document's examples, as it writes them, and its shapes key by key.

use serde_json::{Value, json};

use super::*;

/// The keys of a file in the document, and those that stand behind them (contract D25).
const FILE: [&str; 20] = [
    "category",
    "client_id",
    "description",
    "extension",
    "file_name",
    "id",
    "is_image",
    "is_pdf",
    "is_public",
    "mime_type",
    "organized_path",
    "sha256",
    "size_bytes",
    "size_formatted",
    "storage_uri",
    "subcategory",
    "tags",
    "uploaded_at",
    "uploaded_by",
    "uploader_name",
];

/// Origin and token as the document writes them.
const SAID: (&str, &str) = ("http://localhost", "Bearer {token}");

#[test]
fn the_documents_commands() {
    let (folder, daemon) = started();
    let rest = user(&daemon, "John Doe", &["123"]);
    let at = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    at("document.pdf", PDF);
    at("quote_2024.pdf", &[PDF, b"2024"].concat());
    let bearer = ["-H", "Authorization: Bearer {token}"];

    let form = [
        "-X",
        "POST",
        "http://localhost/api/files",
        bearer[0],
        bearer[1],
        "-F",
        "file=@document.pdf",
        "-F",
        "category=devis",
        "-F",
        "client_id=123",
        "-F",
        "subcategory=annual",
        "-F",
        "description=Annual quote for client",
        "-F",
        "tags[]=quote",
        "-F",
        "tags[]=annual",
    ];
    let made = rest.curl(folder.path(), SAID, &form);
    assert_eq!(names(&made), ["data", "message"]);
    assert_eq!(made["message"], "Fichier téléchargé avec succès.");
    let data = &made["data"];
    let documented = [
        "category",
        "file_name",
        "id",
        "mime_type",
        "size_bytes",
        "storage_uri",
        "subcategory",
        "uploaded_at",
    ];
    assert_eq!(names(data), documented);
    assert_eq!(data["file_name"], "document.pdf");
    assert_eq!((&data["mime_type"], &data["size_bytes"]), (&json!("application/pdf"), &json!(PDF.len())));
    assert_eq!((&data["category"], &data["subcategory"]), (&json!("devis"), &json!("annual")));
    let key = data["storage_uri"].as_str().unwrap();
    assert_eq!(without_time(key), "client/123/devis/annual/document_*.pdf");

    let quote = [
        "-X",
        "POST",
        "http://localhost/api/files",
        bearer[0],
        bearer[1],
        "-F",
        "file=@quote_2024.pdf",
        "-F",
        "category=devis",
        "-F",
        "client_id=123",
        "-F",
        "subcategory=annual_2024",
        "-F",
        "tags[]=quote",
        "-F",
        "tags[]=annual",
    ];
    let quote = rest.curl(folder.path(), SAID, &quote);
    let key = quote["data"]["storage_uri"].as_str().unwrap();
    assert_eq!(without_time(key), "client/123/devis/annual_2024/quote_2024_*.pdf");

    let of_client =
        "http://localhost/api/files/by-client/123?per_page=20&sort_by=uploaded_at&sort_direction=desc";
    let of_client = rest.curl(folder.path(), SAID, &["-X", "GET", of_client, bearer[0], bearer[1]]);
    assert_eq!(of_client["pagination"]["total"], 2);
    assert_eq!(of_client["data"][0]["file_name"], "quote_2024.pdf", "newest first");

    let statistics = "http://localhost/api/files/statistics";
    let statistics = rest.curl(folder.path(), SAID, &["-X", "GET", statistics, bearer[0], bearer[1]]);
    assert_eq!(statistics["data"]["total_files"], 2);

    let search = "http://localhost/api/files?search=2024&category=devis";
    let search = rest.curl(folder.path(), SAID, &["-X", "GET", search, bearer[0], bearer[1]]);
    assert_eq!(search["pagination"]["total"], 1);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn shapes_are_the_documents() {
    let (_folder, daemon) = started();
    let rest = user(&daemon, "John Doe", &["123"]);
    let fields = [("category", "devis"), ("client_id", "123"), ("is_public", "0")];
    let (id, key) = stored(&rest, &fields, "document.pdf", PDF);
    assert_eq!(without_time(&key), "client/123/devis/DEVIS_*.pdf");
    let (_, fact) = stored(&rest, &[("category", "facture")], "Scan.PNG", b"\x89PNG\r\n\x1a\n0000");
    assert_eq!(without_time(&fact), "general/facture/FACT_*.PNG");

    let page = rest.get("/api/files").expect(200).json();
    assert_eq!(names(&page), ["data", "pagination", "summary"]);
    let expected = json!({
        "current_page": 1, "from": 1, "last_page": 1, "per_page": 15, "to": 2, "total": 2, "has_more_pages": false,
    });
    assert_eq!(page["pagination"], expected);
    let sum = |n: usize| json!({"count": 1, "total_size_formatted": format!("{n} B")});
    let expected = json!({
        "total_files": 2,
        "total_size": PDF.len() + 12,
        "total_size_formatted": format!("{} B", PDF.len() + 12),
        "categories": {"devis": sum(PDF.len()), "facture": sum(12)},
    });
    assert_eq!(page["summary"], expected);
    let file = &page["data"][1];
    assert_eq!(names(file), FILE);
    let shown = rest.get(&format!("/api/files/{id}")).expect(200).json();
    assert_eq!(names(&shown), ["data"]);
    assert_eq!(&shown["data"], file);
    let uploader = daemon.json(&["user", "list"]);
    assert!(uploader.to_string().contains("John Doe"), "{uploader}");
    let expected = json!({
        "id": id, "file_name": "document.pdf", "mime_type": "application/pdf", "size_bytes": PDF.len(),
        "size_formatted": format!("{} B", PDF.len()), "extension": "pdf", "storage_uri": key,
        "organized_path": key, "sha256": file["sha256"], "uploaded_by": file["uploaded_by"],
        "uploader_name": "John Doe", "uploaded_at": file["uploaded_at"], "is_image": false, "is_pdf": true,
        "category": "devis", "subcategory": "general", "description": null, "tags": [], "is_public": false,
        "client_id": "123",
    });
    assert_eq!(file, &expected);
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    assert!(file["uploaded_by"].as_u64().is_some_and(|serial| serial > 0));
    let time = file["uploaded_at"].as_str().unwrap();
    assert!(time.len() == 19 && time.as_bytes()[10] == b' ', "{time}");
    assert_eq!((&page["data"][0]["is_image"], &page["data"][0]["extension"]), (&json!(true), &json!("png")));

    let statistics = rest.get("/api/files/statistics").expect(200).json();
    let amount = |n: usize| json!({"count": 1, "total_size": n});
    let expected = json!({
        "data": {
            "total_files": 2,
            "total_size_bytes": PDF.len() + 12,
            "total_size_formatted": format!("{} B", PDF.len() + 12),
            "by_type": {"application/pdf": amount(PDF.len()), "image/png": amount(12)},
            "by_category": {"devis": amount(PDF.len()), "facture": amount(12)},
        },
        "message": "Statistiques de stockage récupérées avec succès.",
    });
    assert_eq!(statistics, expected);

    let organized = rest.get("/api/files/organized").expect(200).json();
    assert_eq!(organized["message"], "Structure de fichiers récupérée avec succès.");
    assert_eq!(names(&organized["data"]), ["devis/general", "facture/general"]);
    let expected = json!({"category": "devis", "subcategory": "general", "files": [file], "count": 1});
    assert_eq!(organized["data"]["devis/general"], expected);

    // a list that is empty
    let empty = rest.get("/api/files/by-category/contrat").expect(200).json();
    let expected = json!({
        "data": [],
        "pagination": {
            "current_page": 1, "from": null, "last_page": 1, "per_page": 15, "to": null, "total": 0,
            "has_more_pages": false,
        },
        "summary": {"total_files": 0, "total_size": 0, "total_size_formatted": "0 B", "categories": {}},
    });
    assert_eq!(empty, expected);
    daemon.stop_cleanly();
}

#[test]
fn a_file_changes_moves_and_goes() {
    let (_folder, daemon) = started();
    let rest = user(&daemon, "ann", &["7", "8"]);
    let (id, key) = stored(&rest, &[("category", "devis"), ("client_id", "7")], "a.pdf", PDF);
    let name = key.rsplit('/').next().unwrap();
    let change = json!({
        "file_name": "Devis Dupont.pdf", "description": "pour M. Dupont", "tags": ["urgent", "été"],
        "is_public": true,
    });
    let answer = put_json(&rest, id, &change).expect(200).json();
    assert_eq!(names(&answer), ["data", "message"]);
    assert_eq!(answer["message"], "Fichier mis à jour avec succès.");
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(&answer["data"][field], value, "{field}");
    }
    assert_eq!(answer["data"]["storage_uri"], key, "a name is a label");
    // moved: the last segment and the number stay
    let urlencoded = ("content-type", "application/x-www-form-urlencoded");
    let path = format!("/api/files/{id}");
    let moved =
        rest.send("PUT", &path, &[urlencoded], b"category=facture&client_id=8&subcategory=Ann%C3%A9e+1");
    let moved = moved.expect(200).json()["data"].clone();
    assert_eq!(moved["storage_uri"], format!("client/8/facture/annee-1/{name}"));
    assert_eq!((&moved["id"], &moved["file_name"]), (&json!(id), &json!("Devis Dupont.pdf")));
    assert_eq!(moved["uploaded_at"], answer["data"]["uploaded_at"]);
    // by a form, out of the client and the subcategory
    let form = form(&[("_method", "PUT"), ("client_id", ""), ("subcategory", "general")], None);
    let moved = rest.send("POST", &path, &[FORM], &form).expect(200).json()["data"].clone();
    assert_eq!(moved["storage_uri"], format!("general/facture/{name}"));
    assert_eq!((&moved["client_id"], &moved["subcategory"]), (&Value::Null, &json!("general")));
    let gone = rest.send("DELETE", &path, &[], b"").expect(200).json();
    assert_eq!(gone, json!({"message": "Fichier supprimé avec succès."}));
    assert_eq!(rest.get(&path).expect(404).json(), json!({"message": "Fichier non trouvé."}));
    rest.send("DELETE", &path, &[], b"").expect(404);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn lists_are_filtered_sorted_and_paged() {
    let (_folder, daemon) = started();
    let (ann, admin) = (user(&daemon, "ann", &["7"]), Rest::admin(&daemon));
    for (n, category, client) in
        [(1, "devis", "7"), (2, "facture", "7"), (3, "devis", ""), (4, "image", ""), (5, "devis", "7")]
    {
        let name = format!("fichier {n}.txt");
        let content = "x".repeat(n);
        stored(&ann, &[("category", category), ("client_id", client)], &name, content.as_bytes());
    }
    stored(&admin, &[("category", "autre")], "admin's", b"of the admin");
    let name = |n: u32| format!("fichier {n}.txt");
    let some = |numbers: &[u32]| numbers.iter().copied().map(name).collect::<Vec<_>>();
    assert_eq!(listed(&ann, ""), some(&[5, 4, 3, 2, 1]));
    assert_eq!(listed(&ann, "?sort_direction=asc"), some(&[1, 2, 3, 4, 5]));
    assert_eq!(listed(&ann, "?sort_by=size_bytes&sort_direction=asc&per_page=2&page=2"), some(&[3, 4]));
    assert_eq!(listed(&ann, "?sort_by=file_name"), some(&[5, 4, 3, 2, 1]));
    assert_eq!(listed(&ann, "?sort_by=category&sort_direction=asc"), some(&[5, 3, 1, 2, 4]));
    assert_eq!(listed(&ann, "?category=devis&client_id=7"), some(&[5, 1]));
    assert_eq!(listed(&ann, "?search=FICHIER+4"), some(&[4]));
    assert_eq!(listed(&ann, "?mime_type=text/plain&per_page=1"), some(&[5]));
    assert_eq!(listed(&ann, "?mime_type=image/png"), some(&[]));
    assert_eq!(listed(&ann, "?client_id=8"), some(&[]), "not granted");
    assert_eq!(listed(&ann, "?date_from=2000-01-01&date_to=2000-01-01"), some(&[]));
    assert_eq!(listed(&ann, "?date_from=2000-01-01"), some(&[5, 4, 3, 2, 1]));
    assert_eq!(listed(&ann, "?uploaded_by=999"), some(&[]));
    assert_eq!(listed(&ann, "?page=9"), some(&[]));
    assert_eq!(listed(&admin, "").len(), 6);
    let writer = ann.get("/api/files").json()["data"][0]["uploaded_by"].as_u64().unwrap();
    assert_eq!(listed(&admin, &format!("?uploaded_by={writer}")), some(&[5, 4, 3, 2, 1]));
    assert_eq!(listed(&admin, "/by-client/7"), some(&[5, 2, 1]));
    assert_eq!(listed(&ann, "/by-category/devis?per_page=1&page=3"), some(&[1]));
    let page = ann.get("/api/files?per_page=2&page=2").json();
    let expected = json!({
        "current_page": 2, "from": 3, "last_page": 3, "per_page": 2, "to": 4, "total": 5, "has_more_pages": true,
    });
    assert_eq!(page["pagination"], expected);
    daemon.stop_cleanly();
}

#[test]
fn the_same_bytes_are_kept_once_and_names_do_not_clash() {
    let (_folder, daemon) = started();
    let rest = user(&daemon, "ann", &["7"]);
    let fields = [("category", "devis"), ("client_id", "7")];
    let first = stored(&rest, &fields, "a.pdf", PDF);
    let again = upload(&rest, &fields, Some(("another name.pdf", PDF))).expect(200).json();
    assert_eq!(again["message"], "Ce fichier existe déjà.");
    assert_eq!(
        (again["data"]["id"].as_u64(), again["data"]["storage_uri"].as_str()),
        (Some(first.0), Some(first.1.as_str()))
    );
    let english = [("category", "devis"), ("client_id", "7")];
    let english = rest.send(
        "POST",
        "/api/files",
        &[FORM, ("accept-language", "en")],
        &form(&english, Some(("a.pdf", PDF))),
    );
    assert_eq!(english.expect(200).json()["message"], "This file already exists.");
    let (other, key) = stored(&rest, &[("category", "contrat")], "a.pdf", PDF);
    assert_ne!(other, first.0, "another place");
    assert!(key.starts_with("general/contrat/a_"), "{key}");
    // many in few seconds, all apart
    let mut keys: Vec<String> =
        (0..20).map(|n| stored(&rest, &fields, "a.pdf", format!("%PDF-1.4 {n}").as_bytes()).1).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 20);
    assert!(keys.iter().any(|key| key.ends_with("_2.pdf")), "{keys:?}");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
