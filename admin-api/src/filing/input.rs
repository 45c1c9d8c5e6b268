//! What callers send, in whichever of the encodings that such APIs read: a form, an urlencoded body, JSON, a query. One
//! set of fields comes of each, with Laravel's habits: texts are trimmed, an empty one is null, `tags[]` is a list.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{ApiError, Code};

/// What a field is given as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Nothing: to be taken away.
    Null,
    /// A text; numbers and booleans are texts too.
    Text(String),
    /// A list.
    List(Vec<Given>),
    /// What no field here is: an object.
    Other,
}

/// The fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input(BTreeMap<String, Given>);

/// Most fields of a request that are looked at.
const FIELDS_MAX: usize = 1000;

impl Given {
    fn text(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() { Self::Null } else { Self::Text(text.to_owned()) }
    }

    fn of_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(is) => Self::Text(is.to_string()),
            Value::Number(n) => Self::Text(n.to_string()),
            Value::String(text) => Self::text(&text),
            Value::Array(list) => Self::List(list.into_iter().map(Self::of_json).collect()),
            Value::Object(_) => Self::Other,
        }
    }
}

impl Input {
    /// Of JSON; no bytes are no fields.
    pub(crate) fn of_json(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => {
                Ok(Self(fields.into_iter().map(|(name, value)| (name, Given::of_json(value))).collect()))
            }
            Ok(_) | Err(_) => Err(ApiError::detailed(Code::Malformed, "The body has to be a JSON object.")),
        }
    }

    /// Of an urlencoded body or a query.
    pub(crate) fn of_urlencoded(bytes: &[u8]) -> Self {
        let mut input = Self::default();
        for (name, value) in form_urlencoded::parse(bytes).take(FIELDS_MAX) {
            input.add(&name, &value);
        }
        input
    }

    /// Adds a field: `tags[]`, `tags[0]` and such add to a list; of others the last one counts, as in PHP.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        let value = Given::text(value);
        match name.split_once('[') {
            Some((list, index)) if index.ends_with(']') && !list.is_empty() => {
                let given = self.0.entry(list.to_owned()).or_insert_with(|| Given::List(Vec::new()));
                match given {
                    Given::List(all) => all.push(value),
                    other => *other = Given::List(vec![value]),
                }
            }
            _ => drop(self.0.insert(name.to_owned(), value)),
        }
    }

    /// What is given for a field; `None`: it is not there.
    pub(crate) fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }

    /// It as text; null and what is no text count as not there.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn the_same_fields_of_every_encoding() {
        let encoded = Input::of_urlencoded(b"a=1&b=+x+&c=&tags%5B%5D=q&tags[1]=%C3%A9&a=2&d[]=");
        let json = Input::of_json(
            "{\"a\":2,\"b\":\" x \",\"c\":null,\"tags\":[\"q\",\"é\"],\"d\":[\"\"]}".as_bytes(),
        )
        .unwrap();
        assert_eq!(encoded, json);
        assert_eq!(encoded.get("a"), Some(&text("2")));
        assert_eq!(encoded.get("tags"), Some(&Given::List(vec![text("q"), text("é")])));
        assert_eq!((encoded.get("c"), encoded.get("e")), (Some(&Given::Null), None));
        assert_eq!((encoded.text("b"), encoded.text("tags")), (Some("x"), None));
    }

    #[test]
    fn bodies_that_are_none() {
        assert_eq!(Input::of_json(b"  ").unwrap(), Input::default());
        assert!(Input::of_json(b"[1]").is_err());
        assert!(Input::of_json(b"{").is_err());
        let odd = Input::of_json(b"{\"is_public\":true,\"x\":{}}").unwrap();
        assert_eq!((odd.text("is_public"), odd.get("x")), (Some("true"), Some(&Given::Other)));
        let mut mixed = Input::of_urlencoded(b"tags=a&tags[]=b&[]=c&x]=d&y[=e");
        assert_eq!(mixed.get("tags"), Some(&Given::List(vec![text("b")])));
        mixed.add("tags", "c");
        assert_eq!(mixed.text("tags"), Some("c"));
    }
}
