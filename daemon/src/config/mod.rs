//! The configuration: TOML file < environment `COFFRE_SECTION__KEY` < flags (contract §6, D32).
//!
//! A wrong setting is refused with the place it stands (file, variable, flag), its key and the reason. Unknown keys are wrong
//! settings. Variables without two underscores are not ours: container platforms invent `COFFRE_PORT` and the like.

mod check;
mod keys;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::error::{Error, Result};
pub(crate) use check::{needs_public_url, public_url_reason};
pub(crate) use keys::{Config, Durability, Index, Jwt, LogFormat, LogLevel, Passthrough, Secret};

/// Name of the variables' metadata; [`place_of`] turns it into the variable's name.
const ENVIRONMENT: &str = "environment";
/// Name of the flags' metadata.
const FLAGS: &str = "flags";
const PREFIX: &str = "COFFRE_";

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`, else `$CONFIGURATION_DIRECTORY/coffre.toml` when it is there.
    pub(crate) file: Option<PathBuf>,
    /// All variables of the process; others than ours are passed over.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Key and value of each flag given: `("s3.listen", "127.0.0.1:0")`.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// A setting that was given, for `config check` and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// `s3.listen`.
    pub(crate) key: String,
    /// File, variable or flag.
    pub(crate) place: String,
    /// Whether the key belongs to a feature this version does not have.
    pub(crate) is_unused: bool,
}

/// The configuration with what is worth telling about it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What was given, in the keys' order; all else is at its default.
    pub(crate) given: Vec<Given>,
}

impl Sources {
    /// The process's own.
    pub(crate) fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        let file = file.or_else(|| {
            let dir = PathBuf::from(std::env::var_os("CONFIGURATION_DIRECTORY")?);
            Some(dir.join("coffre.toml")).filter(|path| path.exists())
        });
        Self { file, environment: std::env::vars_os().collect(), flags }
    }

    /// Reads, joins and checks everything.
    pub(crate) fn load(&self) -> Result<Loaded> {
        let mut figment = Figment::new();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|e| Error::ConfigFile {
                place: path.display().to_string(),
                reason: format!("cannot be read: {e}"),
            })?;
            figment =
                figment.merge(Named { name: path.display().to_string(), data: parse_toml(path, &text)? });
        }
        figment = figment.merge(Named { name: ENVIRONMENT.into(), data: self.variables()? }).merge(Named {
            name: FLAGS.into(),
            data: nest(self.flags.iter().map(|(key, text)| (*key, text.as_str())))?,
        });
        // Lossy: numbers and booleans arrive as text from variables and flags.
        let config: Config = figment.extract_lossy().map_err(refuse)?;
        check::check(&config).map_err(|(key, reason)| Error::Setting {
            place: place_of_key(&figment, key),
            key: key.into(),
            reason,
        })?;
        let given = given(&figment);
        Ok(Loaded { config, given })
    }

    fn variables(&self) -> Result<Dict> {
        let mut ours = Vec::new();
        for (name, value) in &self.environment {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if !rest.contains("__") {
                continue;
            }
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let Some(value) = value.to_str() else {
                let place = variable_of(&key);
                return Err(Error::Setting { place, key, reason: "is not UTF-8".into() });
            };
            ours.push((key, value));
        }
        nest(ours.iter().map(|(key, value)| (key.as_str(), *value)))
    }
}

/// Reads the file's text. A syntax error is told by line and reason, not by its line's text, which may hold a secret.
fn parse_toml(path: &Path, text: &str) -> Result<Dict> {
    Toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        Error::ConfigFile {
            place: path.display().to_string(),
            reason: format!("line {line}: {}", e.message()),
        }
    })
}

/// `a.b.c = text` as nested tables.
fn nest<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Dict> {
    let mut root = Dict::new();
    for (key, text) in settings {
        let mut segments: Vec<&str> = key.split('.').collect();
        let last = segments.pop().unwrap_or_default();
        let mut table = &mut root;
        for segment in segments {
            let next = table.entry(segment.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            let Value::Dict(_, inner) = next else {
                let reason = format!("{segment} is given both as a value and as a section");
                return Err(Error::Setting { place: variable_of(key), key: key.into(), reason });
            };
            table = inner;
        }
        table.insert(last.to_owned(), value_of(text));
    }
    Ok(root)
}

/// Text stays text (a token `0123` is not a number); lists and tables are read as figment reads them.
fn value_of(text: &str) -> Value {
    if text.starts_with(['[', '{']) {
        let parsed: Result<Value, std::convert::Infallible> = text.parse();
        return parsed.unwrap_or_else(|never| match never {});
    }
    Value::from(text)
}

/// One source of settings with a name for messages.
struct Named {
    name: String,
    data: Dict,
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// The flag that sets a key: `s3.listen` is `--s3-listen`.
fn flag_of(key: &str) -> String {
    format!("--{}", key.replace(['.', '_'], "-"))
}

fn place_of(metadata: Option<&Metadata>, key: &str) -> String {
    match metadata.map(|metadata| metadata.name.as_ref()) {
        Some(ENVIRONMENT) => variable_of(key),
        Some(FLAGS) => flag_of(key),
        Some(file) => file.to_owned(),
        None => "default".to_owned(),
    }
}

fn place_of_key(figment: &Figment, key: &str) -> String {
    place_of(figment.find_metadata(key), key)
}

/// Says a reader's error in our words.
fn refuse(error: figment::Error) -> Error {
    let error = error.into_iter().next().expect("an error has at least itself");
    let key = error.path.join(".");
    let reason = match &error.kind {
        Kind::UnknownField(_, known) => format!("no such key; known here: {}", known.join(", ")),
        Kind::UnknownVariant(_, known) => format!("has to be one of {}", known.join(", ")),
        // Not the value itself: it may be a secret in the wrong place.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("has to be {expected}"),
        Kind::MissingField(field) => format!("{field} is missing"),
        other => other.to_string(),
    };
    Error::Setting { place: place_of(error.metadata.as_ref(), &key), key, reason }
}

fn given(figment: &Figment) -> Vec<Given> {
    fn walk(figment: &Figment, prefix: &str, value: &Value, into: &mut Vec<Given>) {
        if let Value::Dict(_, table) = value {
            for (name, inner) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                walk(figment, &key, inner, into);
            }
        } else {
            let place = place_of(figment.get_metadata(value.tag()), prefix);
            into.push(Given { key: prefix.to_owned(), place, is_unused: check::is_unused(prefix) });
        }
    }
    let mut into = Vec::new();
    if let Ok(value) = figment.extract::<Value>() {
        walk(figment, "", &value, &mut into);
    }
    into
}
