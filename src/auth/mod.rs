//! Who is calling: headers to [`Caller`] or [`Denied`].
//!
//! Decided from the head alone, before a byte of the body is read. Knows no HTTP answers and no routes.

use crate::config::{Door, Secret};
use http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq;

/// Where a key is looked for, strongest first (reference/litellm-behaviour.md A-1). The flag says whether the value
/// may or must carry a `Bearer` scheme.
static CREDENTIAL_HEADERS: [(HeaderName, Scheme); 6] = [
    (HeaderName::from_static("x-litellm-api-key"), Scheme::Optional),
    (header::AUTHORIZATION, Scheme::Required),
    (HeaderName::from_static("api-key"), Scheme::None),
    (HeaderName::from_static("x-api-key"), Scheme::None),
    (HeaderName::from_static("x-goog-api-key"), Scheme::None),
    (HeaderName::from_static("ocp-apim-subscription-key"), Scheme::None),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Required,
    Optional,
    None,
}

/// Who a credential proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the master key.
    Master,
    /// Anybody: the operator opened the door on purpose.
    Anyone,
}

impl Caller {
    /// The word in the access line.
    pub fn name(self) -> &'static str {
        match self {
            Caller::Master => "master",
            Caller::Anyone => "anyone",
        }
    }
}

/// Why nobody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No header carried a credential.
    Missing,
    /// An `Authorization` header without `Bearer` and a key.
    Malformed,
    /// A key that is not ours.
    Wrong,
}

/// The keys that open the gateway.
pub struct Keyring {
    door: Door,
}

impl Keyring {
    /// Takes the configured door.
    pub fn new(door: Door) -> Self {
        Keyring { door }
    }

    /// Decides by the first credential header that is present and not empty, even when a later one would fit.
    ///
    /// # Errors
    /// [`Denied`] with what was wrong; a wrong key takes the same time whatever its first difference.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let Door::Key(master) = &self.door else { return Ok(Caller::Anyone) };
        let (value, scheme) = credential(headers).ok_or(Denied::Missing)?;
        let key = match scheme {
            Scheme::None => value,
            Scheme::Optional => strip_bearer(value).unwrap_or(value),
            Scheme::Required => strip_bearer(value).ok_or(Denied::Malformed)?,
        };
        if same(master, key) { Ok(Caller::Master) } else { Err(Denied::Wrong) }
    }
}

/// Whether a header can carry a client's credential, and so must never reach an upstream.
pub fn is_credential_header(name: &str) -> bool {
    CREDENTIAL_HEADERS.iter().any(|(known, _)| *known == name) || matches!(name, "cookie" | "proxy-authorization")
}

fn credential(headers: &HeaderMap) -> Option<(&[u8], Scheme)> {
    CREDENTIAL_HEADERS.iter().find_map(|(name, scheme)| {
        let value = headers.get(name)?.as_bytes().trim_ascii();
        (!value.is_empty()).then_some((value, *scheme))
    })
}

/// What follows `Bearer ` in any case; none when there is no key behind it.
fn strip_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

/// Constant in time for keys of one length; the length itself is no secret.
fn same(master: &Secret, key: &[u8]) -> bool {
    master.expose().as_bytes().ct_eq(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ask(headers: &[(&str, &str)]) -> Result<Caller, Denied> {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        Keyring::new(Door::Key(Secret::new("sk-test"))).authenticate(&map)
    }

    #[test]
    fn every_header_form_of_the_right_key_opens() {
        for header in [
            ("Authorization", "Bearer sk-test"),
            ("authorization", "bearer sk-test"),
            ("authorization", "BEARER sk-test"),
            ("x-litellm-api-key", "sk-test"),
            ("x-litellm-api-key", "Bearer sk-test"),
            ("api-key", "sk-test"),
            ("x-api-key", "sk-test"),
            ("x-goog-api-key", "sk-test"),
            ("Ocp-Apim-Subscription-Key", "sk-test"),
        ] {
            assert_eq!(ask(&[header]), Ok(Caller::Master), "{header:?}");
        }
    }

    #[test]
    fn the_first_header_present_decides_even_when_wrong() {
        assert_eq!(ask(&[("authorization", "Bearer no"), ("x-api-key", "sk-test")]), Err(Denied::Wrong));
        assert_eq!(ask(&[("authorization", "Bearer no"), ("x-litellm-api-key", "sk-test")]), Ok(Caller::Master));
        assert_eq!(ask(&[("authorization", ""), ("x-api-key", "sk-test")]), Ok(Caller::Master));
    }

    #[test]
    fn what_is_not_a_key_is_named() {
        assert_eq!(ask(&[]), Err(Denied::Missing));
        assert_eq!(ask(&[("cookie", "key=sk-test")]), Err(Denied::Missing));
        for value in ["sk-test", "Basic c2s=", "Token sk-test", "Bearer ", "Bearer"] {
            assert_eq!(ask(&[("authorization", value)]), Err(Denied::Malformed), "{value}");
        }
        for value in ["Bearer sk-tes", "Bearer sk-testx", "Bearer SK-TEST", "Bearer  sk-test"] {
            assert_eq!(ask(&[("authorization", value)]), Err(Denied::Wrong), "{value}");
        }
        assert_eq!(ask(&[("api-key", "Bearer sk-test")]), Err(Denied::Wrong));
    }

    #[test]
    fn an_open_door_asks_nothing() {
        assert_eq!(Keyring::new(Door::Open).authenticate(&HeaderMap::new()), Ok(Caller::Anyone));
    }
}
