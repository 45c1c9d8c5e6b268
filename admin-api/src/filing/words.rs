//! What filing says (contract §5.4): each sentence in French and in English.

use crate::error::{ApiError, Code};
use crate::http::language::Language;

/// A sentence in both languages; `{}` stands for what is put in.
pub(crate) type Words = (&'static str, &'static str);

pub(crate) const UPLOADED: Words = ("Fichier téléchargé avec succès.", "File uploaded successfully.");
pub(crate) const THERE_ALREADY: Words = ("Ce fichier existe déjà.", "This file already exists.");
pub(crate) const UPDATED: Words = ("Fichier mis à jour avec succès.", "File updated successfully.");
pub(crate) const DELETED: Words = ("Fichier supprimé avec succès.", "File deleted successfully.");
pub(crate) const ORGANIZED: Words =
    ("Structure de fichiers récupérée avec succès.", "File structure retrieved successfully.");
pub(crate) const STATISTICS: Words =
    ("Statistiques de stockage récupérées avec succès.", "Storage statistics retrieved successfully.");
pub(crate) const LINKED: Words =
    ("URL de téléchargement générée avec succès.", "Download URL generated successfully.");

pub(crate) const FILE_REQUIRED: Words = ("Le fichier est obligatoire.", "The file is required.");
pub(crate) const FILE_IS_NONE: Words =
    ("Le champ file doit être un fichier.", "The file field must be a file.");
pub(crate) const FILE_TOO_LARGE: Words =
    ("Le fichier ne doit pas dépasser {}.", "The file must not be larger than {}.");
pub(crate) const FILE_NAME_TOO_LONG: Words = (
    "Le nom du fichier ne doit pas dépasser {} caractères.",
    "The file name must not be longer than {} characters.",
);
pub(crate) const FILE_NAME_INVALID: Words =
    ("Le nom du fichier n'est pas valide.", "The file name is not valid.");
pub(crate) const CATEGORY_REQUIRED: Words = ("La catégorie est obligatoire.", "The category is required.");
pub(crate) const CATEGORY_UNKNOWN: Words =
    ("La catégorie sélectionnée n'est pas valide.", "The selected category is invalid.");
pub(crate) const CLIENT_UNKNOWN: Words =
    ("Le client sélectionné n'existe pas.", "The selected client does not exist.");
pub(crate) const SUBCATEGORY_INVALID: Words =
    ("La sous-catégorie doit être une chaîne de caractères.", "The subcategory must be a string.");
pub(crate) const SUBCATEGORY_TOO_LONG: Words = (
    "La sous-catégorie ne doit pas dépasser {} caractères.",
    "The subcategory must not be longer than {} characters.",
);
pub(crate) const DESCRIPTION_INVALID: Words =
    ("La description doit être une chaîne de caractères.", "The description must be a string.");
pub(crate) const DESCRIPTION_TOO_LONG: Words = (
    "La description ne doit pas dépasser {} caractères.",
    "The description must not be longer than {} characters.",
);
pub(crate) const TAGS_NO_LIST: Words = ("Les tags doivent être un tableau.", "The tags must be an array.");
pub(crate) const TAGS_TOO_MANY: Words =
    ("Vous ne pouvez pas ajouter plus de {} tags.", "You may not add more than {} tags.");
pub(crate) const TAG_INVALID: Words =
    ("Chaque tag doit être une chaîne de caractères.", "Each tag must be a string.");
pub(crate) const TAG_TOO_LONG: Words =
    ("Chaque tag ne doit pas dépasser {} caractères.", "Each tag must not be longer than {} characters.");
pub(crate) const PUBLIC_NO_BOOLEAN: Words =
    ("Le champ is_public doit être vrai ou faux.", "The is_public field must be true or false.");
pub(crate) const PER_PAGE_RANGE: Words = (
    "Le nombre d'éléments par page doit être compris entre 1 et {}.",
    "The number of items per page must be between 1 and {}.",
);
pub(crate) const PAGE_INVALID: Words = (
    "Le numéro de page doit être un entier supérieur ou égal à 1.",
    "The page must be an integer of at least 1.",
);
pub(crate) const SEARCH_TOO_LONG: Words =
    ("La recherche ne doit pas dépasser {} caractères.", "The search must not be longer than {} characters.");
pub(crate) const MIME_INVALID: Words = ("Le type MIME n'est pas valide.", "The MIME type is not valid.");
pub(crate) const UPLOADER_INVALID: Words =
    ("L'identifiant de l'utilisateur doit être un entier.", "The user's identifier must be an integer.");
pub(crate) const FROM_INVALID: Words = (
    "La date de début doit être une date valide (AAAA-MM-JJ).",
    "The start date must be a valid date (YYYY-MM-DD).",
);
pub(crate) const TO_INVALID: Words = (
    "La date de fin doit être une date valide (AAAA-MM-JJ).",
    "The end date must be a valid date (YYYY-MM-DD).",
);
pub(crate) const SORT_UNKNOWN: Words =
    ("Le champ de tri sélectionné n'est pas valide.", "The selected sort field is invalid.");
pub(crate) const DIRECTION_UNKNOWN: Words =
    ("Le sens du tri doit être asc ou desc.", "The sort direction must be asc or desc.");
pub(crate) const NAME_TAKEN: Words =
    ("Le fichier ne peut pas être placé ici.", "The file cannot be placed here.");

/// A sentence in a language.
pub(crate) fn say(language: Language, (french, english): Words) -> &'static str {
    match language {
        Language::French => french,
        Language::English => english,
    }
}

/// What is wrong with which field, in the order found.
#[derive(Debug)]
pub(crate) struct Bag {
    language: Language,
    fields: Vec<(String, Vec<String>)>,
}

impl Bag {
    pub(crate) fn new(language: Language) -> Self {
        Self { language, fields: Vec::new() }
    }

    /// Notes what is wrong.
    pub(crate) fn add(&mut self, field: &str, words: Words) {
        self.add_with(field, words, "");
    }

    /// The same, with what is put in.
    pub(crate) fn add_with(&mut self, field: &str, words: Words, put_in: &str) {
        let said = say(self.language, words).replace("{}", put_in);
        match self.fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, all)) => all.push(said),
            None => self.fields.push((field.to_owned(), vec![said])),
        }
    }

    /// Whether nothing was wrong.
    ///
    /// # Errors
    /// `Validation` with the fields.
    pub(crate) fn end(self) -> Result<(), ApiError> {
        if self.fields.is_empty() {
            return Ok(());
        }
        Err(ApiError { fields: self.fields, ..Code::Validation.into() })
    }
}

/// A limit in bytes as people write it.
pub(crate) fn limit(language: Language, bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match (bytes.is_multiple_of(MIB), language) {
        (true, Language::French) => format!("{} Mo", bytes / MIB),
        (true, Language::English) => format!("{} MB", bytes / MIB),
        (false, Language::French) => format!("{bytes} octets"),
        (false, Language::English) => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_keeps_the_order_and_the_language() {
        let mut bag = Bag::new(Language::French);
        bag.add("file", FILE_REQUIRED);
        bag.add("category", CATEGORY_REQUIRED);
        bag.add_with("file", FILE_TOO_LARGE, &limit(Language::French, 10 << 20));
        let error = bag.end().unwrap_err();
        let expected = [
            (
                "file".to_owned(),
                vec![
                    "Le fichier est obligatoire.".to_owned(),
                    "Le fichier ne doit pas dépasser 10 Mo.".to_owned(),
                ],
            ),
            ("category".to_owned(), vec!["La catégorie est obligatoire.".to_owned()]),
        ];
        assert_eq!((error.code, error.fields.as_slice()), (Code::Validation, &expected[..]));
        assert!(Bag::new(Language::English).end().is_ok());
        assert_eq!(limit(Language::English, 1000), "1000 bytes");
        assert_eq!(say(Language::English, DELETED), "File deleted successfully.");
    }
}
