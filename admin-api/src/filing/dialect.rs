//! How filing says that something went wrong: French, with `Accept-Language: en` English (contract §5.4, D9).

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::dialect::{Around, fields};
use crate::error::{ApiError, Code};
use crate::http::language::Language;

/// The status of a code: what is not valid is 422.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::Validation | Code::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        _ => code.status(),
    }
}

/// The sentence of a code.
fn words(code: Code, language: Language) -> &'static str {
    let (french, english) = match code {
        Code::AuthRequired | Code::AuthInvalid | Code::AuthExpired => {
            ("Non authentifié.", "Unauthenticated.")
        }
        Code::PermissionDenied => ("Cette action n'est pas autorisée.", "This action is unauthorized."),
        Code::BadSignature => (
            "Le lien de téléchargement est invalide ou a expiré.",
            "The download link is invalid or has expired.",
        ),
        Code::NotFound | Code::Gone => ("Fichier non trouvé.", "File not found."),
        Code::NoRoute => ("Ressource non trouvée.", "Resource not found."),
        Code::MethodNotAllowed => ("Méthode non autorisée.", "Method not allowed."),
        Code::Conflict | Code::Locked => (
            "Le fichier est en cours de modification, veuillez réessayer.",
            "The file is being changed, please try again.",
        ),
        Code::Precondition => {
            ("Une condition de la requête n'est pas remplie.", "A condition of the request does not hold.")
        }
        Code::UnsupportedMediaType => {
            ("Le type de contenu n'est pas pris en charge.", "The content type is not supported.")
        }
        Code::RangeNotSatisfiable => {
            ("La plage demandée est hors du fichier.", "The requested range lies outside the file.")
        }
        Code::Malformed => ("La requête est illisible.", "The request cannot be read."),
        Code::Validation | Code::TooLarge => {
            ("Les données fournies ne sont pas valides.", "The given data was invalid.")
        }
        Code::ChecksumMismatch => (
            "Le contenu reçu ne correspond pas à sa somme de contrôle.",
            "The content does not match its checksum.",
        ),
        Code::Incomplete => ("Le contenu n'a pas été reçu en entier.", "The content was not received whole."),
        Code::QuotaExceeded => ("Quota de stockage dépassé.", "Storage quota exceeded."),
        Code::RateLimited => ("Trop de requêtes.", "Too many requests."),
        Code::NoSpace => ("Espace de stockage insuffisant.", "Insufficient storage."),
        Code::Unavailable => (
            "Le service est momentanément indisponible, veuillez réessayer.",
            "The service is unavailable for the moment, please try again.",
        ),
        Code::Upstream => (
            "Un service dont celui-ci dépend a refusé la requête.",
            "A service that this one needs refused the request.",
        ),
        Code::Internal => (
            "Une erreur est survenue lors du traitement de la requête.",
            "An error occurred while processing the request.",
        ),
    };
    match language {
        Language::French => french,
        Language::English => english,
    }
}

/// `{"message"}`, with `errors` for fields, and `error` of a 500 where `[filing] debug` is set.
pub(crate) fn body(error: &ApiError, around: &Around<'_>) -> Value {
    let own = words(error.code, around.language);
    let message = error.message.as_deref().unwrap_or(own);
    let mut body = serde_json::Map::new();
    body.insert("message".into(), json!(message));
    if !error.fields.is_empty() {
        body.insert("errors".into(), fields(error));
    }
    if let (true, Some(cause)) = (around.tells_causes, &error.cause) {
        body.insert("error".into(), json!(cause));
    }
    body.into()
}
