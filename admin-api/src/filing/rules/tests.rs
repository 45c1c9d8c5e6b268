//! What is accepted, what is refused, and in which words.

use super::*;
use crate::error::ApiError;
use crate::http::language::Language;

fn principal(clients: &[&str]) -> Principal {
    Principal { clients: clients.iter().map(|c| (*c).to_owned()).collect(), ..Principal::anonymous() }
}

fn told(bag: Bag) -> Vec<(String, Vec<String>)> {
    bag.end().map_or_else(|ApiError { fields, .. }| fields, |()| Vec::new())
}

/// What is wrong with an urlencoded description of a file, in French.
fn faults(body: &str) -> Vec<(String, Vec<String>)> {
    let mut bag = Bag::new(Language::French);
    about(&Input::of_urlencoded(body.as_bytes()), &principal(&["7"]), &mut bag);
    told(bag)
}

fn fault(field: &str, words: &str) -> Vec<(String, Vec<String>)> {
    vec![(field.to_owned(), vec![words.to_owned()])]
}

fn page(query: &str, fixed: Fixed<'_>) -> (Asked, Vec<(String, Vec<String>)>) {
    let mut bag = Bag::new(Language::French);
    let zone = Zone::named("UTC").unwrap();
    let asked = asked(&Input::of_urlencoded(query.as_bytes()), fixed, &zone, &mut bag);
    (asked, told(bag))
}

#[test]
fn what_is_said_of_a_file() {
    let mut bag = Bag::new(Language::French);
    let body = "category=devis&client_id=7&subcategory=Annuel+2024&description=x&tags[]=quote&tags[]=annual\
        &tags[]=quote&is_public=1&file_name=+Devis.pdf+";
    let read = about(&Input::of_urlencoded(body.as_bytes()), &principal(&["7"]), &mut bag);
    assert_eq!(told(bag), []);
    let expected = About {
        file_name: Some(Some("Devis.pdf".into())),
        category: Some(Category::Devis),
        client: Some(Some("7".into())),
        subcategory: Some(Some("annuel-2024".into())),
        description: Some(Some("x".into())),
        tags: Some(vec!["quote".into(), "annual".into()]),
        is_public: Some(true),
    };
    assert_eq!(read, expected);
    let mut bag = Bag::new(Language::French);
    let json = br#"{"client_id":7,"is_public":false,"tags":[],"subcategory":"general","description":null}"#;
    let read = about(&Input::of_json(json).unwrap(), &principal(&["7"]), &mut bag);
    assert_eq!(told(bag), []);
    assert_eq!((read.client, read.is_public), (Some(Some("7".into())), Some(false)));
    assert_eq!((read.tags, read.subcategory, read.description), (Some(vec![]), Some(None), Some(None)));
    assert_eq!((read.file_name, read.category), (None, None));
}

#[test]
fn what_is_refused() {
    let long = |n: usize| "é".repeat(n);
    assert_eq!(faults(""), []);
    let table = [
        ("category=", "category", "La catégorie est obligatoire."),
        ("category=Devis", "category", "La catégorie sélectionnée n'est pas valide."),
        ("category[]=devis", "category", "La catégorie sélectionnée n'est pas valide."),
        ("client_id=8", "client_id", "Le client sélectionné n'existe pas."),
        ("client_id=7/..", "client_id", "Le client sélectionné n'existe pas."),
        ("tags=quote", "tags", "Les tags doivent être un tableau."),
        ("tags[]=a&tags[]=", "tags.1", "Chaque tag doit être une chaîne de caractères."),
        ("is_public=peut-être", "is_public", "Le champ is_public doit être vrai ou faux."),
        ("description[]=x", "description", "La description doit être une chaîne de caractères."),
        ("file_name=a%07b", "file_name", "Le nom du fichier n'est pas valide."),
    ];
    for (body, field, words) in table {
        assert_eq!(faults(body), fault(field, words), "{body}");
    }
    let limits = [
        ("description", 500, "La description ne doit pas dépasser 500 caractères."),
        ("file_name", 255, "Le nom du fichier ne doit pas dépasser 255 caractères."),
        ("subcategory", 100, "La sous-catégorie ne doit pas dépasser 100 caractères."),
    ];
    for (field, max, words) in limits {
        assert_eq!(faults(&format!("{field}={}", long(max))), []);
        assert_eq!(faults(&format!("{field}={}", long(max + 1))), fault(field, words));
    }
    let tag = "Chaque tag ne doit pas dépasser 50 caractères.";
    assert_eq!(faults(&format!("tags[]={}&tags[]={}", long(50), long(51))), fault("tags.1", tag));
    let many = "tags[]=a&".repeat(11);
    assert_eq!(faults(&many), fault("tags", "Vous ne pouvez pas ajouter plus de 10 tags."));
    let several = faults("is_public=x&category=x&client_id=x");
    let fields: Vec<&str> = several.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["category", "client_id", "is_public"], "in the document's order");
}

#[test]
fn an_admin_makes_clients_by_using_them() {
    let admin = Principal { is_admin: true, ..Principal::anonymous() };
    let mut bag = Bag::new(Language::English);
    let read = about(&Input::of_urlencoded(b"client_id=new"), &admin, &mut bag);
    assert_eq!((read.client, told(bag)), (Some(Some("new".into())), vec![]));
    let mut bag = Bag::new(Language::English);
    about(&Input::of_urlencoded(b"client_id=a/b"), &admin, &mut bag);
    assert_eq!(told(bag), fault("client_id", "The selected client does not exist."));
}

#[test]
fn a_change_keeps_the_values_of_tags() {
    let there = [("team".to_owned(), "red".to_owned()), ("quote".to_owned(), String::new())];
    let tags = vec!["team=red".to_owned(), "new".to_owned()];
    let change = About { tags: Some(tags), file_name: Some(None), ..About::default() }.change(&there);
    let expected = vec![("team".to_owned(), "red".to_owned()), ("new".to_owned(), String::new())];
    assert_eq!((change.tags, change.label), (Some(expected), Some(String::new())));
    assert_eq!(About::default().change(&there), FileChange::default());
}

#[test]
fn pages() {
    let (read, wrong) = page("", Fixed::Nothing);
    assert_eq!(wrong, []);
    let expected = Query {
        filter: Filter::default(),
        by: SortBy::UploadedAt,
        is_descending: true,
        offset: 0,
        limit: 15,
    };
    assert_eq!((read.query, read.page, read.uploader), (expected, 1, None));
    let all = "per_page=20&page=3&sort_by=size_bytes&sort_direction=ASC&search=+annual+&category=devis&client_id=7\
        &mime_type=image/png&uploaded_by=12&date_from=1970-01-02&date_to=1970-01-02&other=x";
    let (read, wrong) = page(all, Fixed::Nothing);
    assert_eq!(wrong, []);
    let filter = Filter {
        category: Some(Category::Devis),
        client: Some("7".into()),
        mime: Some("image/png".into()),
        uploaded_by: None,
        from_ms: Some(86_400_000),
        until_ms: Some(172_800_000),
        search: Some("annual".into()),
    };
    let query = Query { filter, by: SortBy::SizeBytes, is_descending: false, offset: 40, limit: 20 };
    assert_eq!((read.query, read.uploader), (query, Some(12)));
    let (read, _) = page("category=image&client_id=9", Fixed::Category("facture"));
    assert_eq!(read.query.filter.category, Some(Category::Facture));
    let (read, _) = page("category=image&client_id=9", Fixed::Client("7"));
    assert_eq!(read.query.filter.client.as_deref(), Some("7"));
    let (read, _) = page("page=18446744073709551615&per_page=100", Fixed::Nothing);
    assert_eq!(read.query.offset, u64::MAX);
}

#[test]
fn pages_that_are_none() {
    let range = "Le nombre d'éléments par page doit être compris entre 1 et 100.";
    let number = "Le numéro de page doit être un entier supérieur ou égal à 1.";
    let table = [
        ("per_page=0", "per_page", range),
        ("per_page=101", "per_page", range),
        ("per_page=-1", "per_page", range),
        ("per_page=x", "per_page", range),
        ("page=0", "page", number),
        ("page=1.5", "page", number),
        ("category=devi", "category", "La catégorie sélectionnée n'est pas valide."),
        ("uploaded_by=me", "uploaded_by", "L'identifiant de l'utilisateur doit être un entier."),
        ("date_from=hier", "date_from", "La date de début doit être une date valide (AAAA-MM-JJ)."),
        ("date_to=2024-02-30", "date_to", "La date de fin doit être une date valide (AAAA-MM-JJ)."),
        ("sort_by=id", "sort_by", "Le champ de tri sélectionné n'est pas valide."),
        ("sort_direction=up", "sort_direction", "Le sens du tri doit être asc ou desc."),
    ];
    for (query, field, words) in table {
        assert_eq!(page(query, Fixed::Nothing).1, fault(field, words), "{query}");
    }
    let long = format!("search={}", "x".repeat(256));
    assert_eq!(
        page(&long, Fixed::Nothing).1,
        fault("search", "La recherche ne doit pas dépasser 255 caractères.")
    );
    let unknown = page("", Fixed::Category("devi")).1;
    assert_eq!(unknown, fault("category", "La catégorie sélectionnée n'est pas valide."));
}
