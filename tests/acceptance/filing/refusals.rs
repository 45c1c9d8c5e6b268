//! What filing refuses: each route without a token, with a wrong one, with another user's file, with what is not valid;
//! in the document's style, in both languages, and nothing is stored.

use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::{Value, json};

use super::*;

/// Every route, with a file's number where it has one.
fn routes(id: u64) -> Vec<(&'static str, String)> {
    vec![
        ("GET", "/api/files".into()),
        ("POST", "/api/files".into()),
        ("GET", format!("/api/files/{id}")),
        ("PUT", format!("/api/files/{id}")),
        ("POST", format!("/api/files/{id}")),
        ("DELETE", format!("/api/files/{id}")),
        ("GET", "/api/files/by-category/devis".into()),
        ("GET", "/api/files/by-client/7".into()),
        ("GET", "/api/files/organized".into()),
        ("GET", "/api/files/statistics".into()),
        ("GET", format!("/api/files/{id}/download")),
    ]
}

#[track_caller]
fn assert_says(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json(), json!({"message": message}));
}

#[track_caller]
fn assert_invalid(answer: &Answer, errors: &Value) {
    assert_eq!(answer.status, 422, "{}", answer.text());
    let expected = json!({"message": "Les données fournies ne sont pas valides.", "errors": errors});
    assert_eq!(answer.json(), expected);
}

#[test]
fn who_is_not_known_gets_nothing() {
    let (_folder, daemon) = started();
    let ann = user(&daemon, "ann", &["7"]);
    let (id, _) = stored(&ann, &[("category", "devis"), ("client_id", "7")], "a.pdf", PDF);
    let nobody = ann.without_token();
    let wrong = Rest { token: Some(ann.token.clone().unwrap() + "x"), ..ann.clone() };
    for (method, path) in routes(id) {
        for rest in [&nobody, &wrong] {
            let answer = rest.send(method, &path, &[], b"");
            assert_says(&answer, 401, "Non authentifié.");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let english = rest.send(method, &path, &[("accept-language", "en-GB")], b"");
            assert_says(&english, 401, "Unauthenticated.");
        }
    }
    assert_eq!(listed(&ann, "").len(), 1);
    daemon.stop_cleanly();
}

#[test]
fn what_is_anothers_is_not_there() {
    let (_folder, daemon) = started();
    let (ann, bob) = (user(&daemon, "ann", &["7"]), user(&daemon, "bob", &["8"]));
    let of_client = stored(&ann, &[("category", "devis"), ("client_id", "7")], "a.pdf", PDF);
    let general = stored(&ann, &[("category", "devis")], "a.pdf", PDF);
    for (id, key) in [of_client.clone(), general.clone()] {
        for (method, path) in routes(id).into_iter().filter(|(_, path)| path.contains(&id.to_string())) {
            let body: &[u8] = if method == "POST" { b"_method=PUT" } else { b"" };
            let kind = ("content-type", "application/x-www-form-urlencoded");
            let answer = bob.send(method, &path, &[kind], body);
            assert_says(&answer, 404, "Fichier non trouvé.");
        }
        let answer = bob.get(&format!("/storage/{key}"));
        assert_says(&answer, 403, "Le lien de téléchargement est invalide ou a expiré.");
    }
    assert!(listed(&bob, "").is_empty() && listed(&bob, "/by-client/7").is_empty());
    assert_eq!(bob.get("/api/files/statistics").json()["data"]["total_files"], 0);
    assert_eq!(bob.get("/api/files/organized").json()["data"], json!({}));
    assert_eq!(listed(&ann, "").len(), 2);
    // a client that is not granted: into it nothing is put, by upload or by move
    let unknown = json!({"client_id": ["Le client sélectionné n'existe pas."]});
    let fields = [("category", "devis"), ("client_id", "7")];
    assert_invalid(&upload(&bob, &fields, Some(("b.pdf", PDF))), &unknown);
    assert_invalid(&put_json(&ann, general.0, &json!({"client_id": "8"})), &unknown);
    // what is public can be read, not changed, and stands in no list
    put_json(&ann, general.0, &json!({"is_public": true})).expect(200);
    let (id, key) = general;
    bob.get(&format!("/api/files/{id}")).expect(200);
    assert!(listed(&bob, "").is_empty());
    assert_says(&put_json(&bob, id, &json!({"file_name": "x"})), 403, "Cette action n'est pas autorisée.");
    let delete = bob.send("DELETE", &format!("/api/files/{id}"), &[("accept-language", "en")], b"");
    assert_says(&delete, 403, "This action is unauthorized.");
    assert_eq!(ann.without_token().get(&format!("/storage/{key}")).expect(200).body, PDF);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn what_is_not_valid_is_named_field_by_field() {
    let (_folder, daemon) = started_with(&[("COFFRE_FILING__MAX_FILE_SIZE", "1048576")]);
    let ann = user(&daemon, "ann", &["7"]);
    let lacks =
        json!({"file": ["Le fichier est obligatoire."], "category": ["La catégorie est obligatoire."]});
    assert_invalid(&upload(&ann, &[], None), &lacks);
    assert_invalid(&ann.send("POST", "/api/files", &[], b""), &lacks);
    let json_body = ann.send("POST", "/api/files", &[("content-type", "application/json")], b"{}");
    assert_invalid(&json_body, &lacks);
    let unknown = json!({"category": ["La catégorie sélectionnée n'est pas valide."]});
    assert_invalid(&upload(&ann, &[("category", "devi")], Some(("a.pdf", PDF))), &unknown);
    assert_invalid(&ann.get("/api/files?category=devi"), &unknown);
    assert_invalid(&ann.get("/api/files/by-category/devi"), &unknown);
    let no_file = upload(&ann, &[("category", "devis"), ("file", "text")], None);
    assert_invalid(&no_file, &json!({"file": ["Le champ file doit être un fichier."]}));
    // the largest that is taken, and one byte more
    let largest = vec![7; 1024 * 1024];
    upload(&ann, &[("category", "autre")], Some(("large", &largest))).expect(201);
    let too_large = upload(&ann, &[("category", "autre")], Some(("large", &[&largest[..], b"x"].concat())));
    assert_invalid(&too_large, &json!({"file": ["Le fichier ne doit pas dépasser 1 Mo."]}));
    let english = ann.send(
        "POST",
        "/api/files",
        &[FORM, ("accept-language", "en")],
        &form(&[("category", "")], Some(("large", &[&largest[..], b"x"].concat()))),
    );
    let expected = json!({
        "message": "The given data was invalid.",
        "errors": {"file": ["The file must not be larger than 1 MB."], "category": ["The category is required."]},
    });
    assert_eq!((english.status, english.json()), (422, expected));
    for (query, field) in [
        ("per_page=0", "per_page"),
        ("per_page=101", "per_page"),
        ("page=0", "page"),
        ("sort_by=sha256", "sort_by"),
        ("sort_direction=down", "sort_direction"),
        ("date_from=01/12/2024", "date_from"),
        ("uploaded_by=ann", "uploaded_by"),
    ] {
        let answer = ann.get(&format!("/api/files?{query}")).expect(422).json();
        assert_eq!(names(&answer["errors"]), [field], "{answer}");
    }
    let (id, _) = stored(&ann, &[("category", "devis")], "a.pdf", PDF);
    let long = "x".repeat(501);
    let tags: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let answer = put_json(&ann, id, &json!({"description": long, "tags": tags, "is_public": "maybe"}));
    assert_eq!(names(&answer.expect(422).json()["errors"]), ["description", "is_public", "tags"]);
    assert_eq!(listed(&ann, "").len(), 2, "nothing else was stored");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn what_is_no_route_or_no_body_is_said_in_filings_style() {
    let (_folder, daemon) = started();
    let ann = user(&daemon, "ann", &[]);
    let (id, _) = stored(&ann, &[("category", "devis")], "a.pdf", PDF);
    let text = [("content-type", "text/plain")];
    let kind = "Le type de contenu n'est pas pris en charge.";
    assert_says(&ann.send("POST", "/api/files", &text, b"x"), 415, kind);
    assert_says(&ann.send("PUT", &format!("/api/files/{id}"), &text, b"x"), 415, kind);
    assert_says(&ann.send("PATCH", "/api/files", &[], b""), 405, "Méthode non autorisée.");
    assert_says(&ann.send("POST", &format!("/api/files/{id}"), &[], b""), 405, "Méthode non autorisée.");
    assert_says(&ann.get("/api/files/x"), 404, "Fichier non trouvé.");
    assert_says(&ann.get("/api/files/99999999999999999999"), 404, "Fichier non trouvé.");
    ann.get(&format!("/api/files/{id}/nowhere")).expect(404);
    let json_kind = [("content-type", "application/json")];
    assert_says(
        &ann.send("PUT", &format!("/api/files/{id}"), &json_kind, b"{"),
        400,
        "La requête est illisible.",
    );
    // a form that is cut off stores nothing
    let whole = form(&[("category", "devis")], Some(("b.pdf", PDF)));
    let mut open = ann.open("POST", "/api/files", &[FORM, ("content-length", &whole.len().to_string())]);
    open.write(&whole[..whole.len() - 10]).unwrap();
    drop(open);
    assert_eq!(listed(&ann, "").len(), 1);
    // a token that may only read
    let reader = Rest::user(&daemon, "reader", &["--permission", "read_files"]);
    assert!(listed(&reader, "").is_empty());
    assert_eq!(upload(&reader, &[("category", "devis")], Some(("a.pdf", PDF))).status, 403);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
