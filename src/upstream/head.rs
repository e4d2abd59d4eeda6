//! Request heads for the upstream: built fresh, so that nothing of the client's crosses but what is named here.
//!
//! What a deployment always sends is rendered once, when the configuration is loaded.

use crate::wire::head::put_line;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use pingora_error::{ErrorType, OrErr};
use pingora_http::RequestHeader;
use std::sync::OnceLock;

/// NanoGPT's own request headers that have no `x-` prefix (docs at commit f0b5f52, 2026-08-22).
static NANOGPT_HEADERS: &[&str] = &[
    "memory",
    "memory_expiration_days",
    "moderation",
    "moderation-model",
    "redaction",
    "redacted",
    "piiredaction",
    "piiredacted",
];

/// Headers that belong to the Messages dialect and always accompany it.
static ANTHROPIC_HEADERS: &[&str] = &["anthropic-version", "anthropic-beta"];

/// Client headers that are spoken to the gateway and mean nothing behind it.
static SPOKEN_TO_US: &[&str] = &["x-litellm-timeout", "x-litellm-num-retries", "x-litellm-call-id", "x-request-id"];

/// The gateway's name for a request.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers a request usually adds to its deployment's.
const HEADERS_OF_A_REQUEST: usize = 6;
/// Their bytes, with those of the first line.
const TEXT_BYTES_OF_A_REQUEST: usize = 320;

const OUR_USER_AGENT: &str = concat!("nanogate/", env!("CARGO_PKG_VERSION"));

/// What the client should be offered by the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A whole JSON document.
    Json,
    /// Server-sent events.
    Events,
    /// Whatever the route yields: audio, images.
    Anything,
}

/// The parts of a head that depend on the request.
pub struct Request<'a> {
    /// The client's headers.
    pub client: &'a HeaderMap,
    /// Method towards the upstream.
    pub method: Method,
    /// Path behind the deployment's base, beginning with a slash.
    pub path: &'a str,
    /// The client's query, when the route keeps it.
    pub query: Option<&'a str>,
    /// Exact length of the body; none for a request without one.
    pub content_length: Option<usize>,
    /// Type of the body.
    pub content_type: Option<&'a HeaderValue>,
    /// What is asked for.
    pub accepted: Accepted,
    /// The gateway's name for this request.
    pub request_id: &'a HeaderValue,
    /// The client's headers of the Messages dialect pass.
    pub messages: bool,
    /// The operator lets client headers pass.
    pub forward: bool,
    /// Tells which headers may carry a client's credential.
    pub is_credential: fn(&str) -> bool,
}

/// A deployment's share of every head.
pub struct Template {
    base_path: String,
    fixed: HeaderMap,
    /// `fixed` as it is sent.
    fixed_text: Vec<u8>,
    /// The first path that a body went to, checked, behind its base: most deployments serve one route.
    usual: OnceLock<(String, PathAndQuery)>,
}

impl Template {
    /// Renders the fixed headers. `extra` overrides all others of the same name.
    ///
    /// Returns none when a value cannot be a header: the caller names the fault.
    pub fn new(
        base_path: &str,
        authority: &str,
        key: Option<&str>,
        organization: Option<&str>,
        extra: &[(String, String)],
    ) -> Option<Self> {
        let mut fixed = HeaderMap::new();
        fixed.insert(HOST, HeaderValue::from_str(authority).ok()?);
        fixed.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        fixed.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = key {
            fixed.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
        }
        if let Some(organization) = organization {
            fixed.insert(HeaderName::from_static("openai-organization"), HeaderValue::from_str(organization).ok()?);
        }
        for (name, value) in extra {
            fixed.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, secret(value)?);
        }
        let mut fixed_text = Vec::new();
        for (name, value) in &fixed {
            put_line(name, value.as_bytes(), &mut fixed_text);
        }
        // What a request adds should not make its copy grow.
        fixed.reserve(HEADERS_OF_A_REQUEST);
        Some(Template { base_path: base_path.to_owned(), fixed, fixed_text, usual: OnceLock::new() })
    }

    /// Replaces `head` by the upstream's; only its version is kept.
    ///
    /// # Errors
    /// When the path cannot be a request target.
    pub fn write(&self, head: &mut RequestHeader, request: &Request<'_>) -> pingora_error::Result<()> {
        // Built without Pingora's second map of the names' case: they go out in lower case.
        let (mut fresh, ()) = http::Request::new(()).into_parts();
        fresh.method = request.method.clone();
        fresh.uri = Uri::from(self.target(request)?);
        if head.version == Version::HTTP_2 {
            // Pingora has settled on HTTP/2 with the upstream and panics when the head forgets it.
            fresh.version = Version::HTTP_2;
        }
        fresh.headers = self.fixed.clone();
        self.each_of_request(request, |name, value| {
            fresh.headers.append(name.clone(), value.clone());
        });
        if let Some(length) = self.length(request) {
            fresh.headers.append(CONTENT_LENGTH, decimal(length));
        }
        *head = RequestHeader::from(fresh);
        Ok(())
    }

    /// The same head as HTTP/1.1 sends it, with room behind it for a body of `body_bytes`.
    ///
    /// # Errors
    /// When the path cannot be a request target.
    pub fn text(&self, request: &Request<'_>, body_bytes: usize) -> pingora_error::Result<Vec<u8>> {
        let target = self.target(request)?;
        let mut text = Vec::with_capacity(self.fixed_text.len() + TEXT_BYTES_OF_A_REQUEST + body_bytes);
        for part in [request.method.as_str(), " ", target.as_str(), " HTTP/1.1\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(&self.fixed_text);
        self.each_of_request(request, |name, value| put_line(name, value.as_bytes(), &mut text));
        if let Some(length) = self.length(request) {
            put_line(&CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes(), &mut text);
        }
        text.extend_from_slice(b"\r\n");
        Ok(text)
    }

    /// The length a request names.
    fn length(&self, request: &Request<'_>) -> Option<usize> {
        request.content_length.filter(|_| !self.fixed.contains_key(CONTENT_LENGTH))
    }

    /// What a request adds to the fixed headers, but for its length. Those have the last word.
    fn each_of_request(&self, request: &Request<'_>, mut add: impl FnMut(&HeaderName, &HeaderValue)) {
        let mut unless_fixed = |name: &HeaderName, value: &HeaderValue| {
            if !self.fixed.contains_key(name) {
                add(name, value);
            }
        };
        unless_fixed(&ACCEPT, &accept(request.accepted));
        unless_fixed(&X_REQUEST_ID, request.request_id);
        if let Some(value) = request.content_type {
            unless_fixed(&CONTENT_TYPE, value);
        }
        if request.messages || request.forward {
            for (name, value) in passing(request) {
                unless_fixed(name, value);
            }
        }
    }

    fn target(&self, request: &Request<'_>) -> pingora_error::Result<PathAndQuery> {
        let query = request.query.unwrap_or_default();
        let is_usual = |(path, _): &&(String, PathAndQuery)| path == request.path && query.is_empty();
        if let Some((_, target)) = self.usual.get().filter(is_usual) {
            return Ok(target.clone());
        }
        let mut target = String::with_capacity(self.base_path.len() + request.path.len() + query.len() + 1);
        target.push_str(&self.base_path);
        target.push_str(request.path);
        if !query.is_empty() {
            target.push('?');
            target.push_str(query);
        }
        let target = PathAndQuery::from_maybe_shared(Bytes::from(target))
            .or_err(ErrorType::InvalidHTTPHeader, "as a request target")?;
        // Paths without a body may name one stored object each.
        if request.content_length.is_some() && query.is_empty() {
            self.usual.get_or_init(|| (request.path.to_owned(), target.clone()));
        }
        Ok(target)
    }
}

/// The client's headers that may cross.
fn passing<'h>(request: &'h Request<'_>) -> impl Iterator<Item = (&'h HeaderName, &'h HeaderValue)> {
    let client = request.client;
    client.iter().filter(move |(name, _)| may_pass(name.as_str(), request) && !ends_here(name.as_str(), client))
}

fn may_pass(name: &str, request: &Request<'_>) -> bool {
    if (request.is_credential)(name) || SPOKEN_TO_US.contains(&name) {
        return false;
    }
    let anthropic = ANTHROPIC_HEADERS.contains(&name);
    if !request.forward {
        return anthropic && request.messages;
    }
    anthropic || NANOGPT_HEADERS.contains(&name) || (name.starts_with("x-") && !name.starts_with("x-stainless-"))
}

/// Whether the client's `Connection` names a header as one for the next hop alone (RFC 9110, section 7.6.1).
fn ends_here(name: &str, client: &HeaderMap) -> bool {
    let lists = client.get_all(CONNECTION).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|named| named.trim().eq_ignore_ascii_case(name))
}

/// A number as a header value, with one allocation where `HeaderValue::from` needs two.
pub fn decimal(number: usize) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).unwrap_or_else(|_| HeaderValue::from(number))
}

fn accept(accepted: Accepted) -> HeaderValue {
    HeaderValue::from_static(match accepted {
        Accepted::Json => "application/json",
        Accepted::Events => "text/event-stream",
        Accepted::Anything => "*/*",
    })
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
        for (name, value) in [
            ("host", "client.example"),
            ("authorization", "Bearer sk-client"),
            ("x-api-key", "sk-client"),
            ("cookie", "a=b"),
            ("x-stainless-lang", "js"),
            ("x-billing-mode", "paygo"),
            ("anthropic-version", "2023-06-01"),
            ("memory_expiration_days", "30"),
            ("user-agent", "client"),
            ("x-litellm-timeout", "3"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
        ] {
            head.insert_header(name, value).unwrap();
        }
        head
    }

    fn written(forward: bool, messages: bool) -> RequestHeader {
        let id = HeaderValue::from_static("r-1");
        let template =
            Template::new("/api/v1", "up.example", Some("sk-up"), None, &[("X-Extra".into(), "1".into())]).unwrap();
        let client = client();
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.version = Version::HTTP_2;
        let mut head = RequestHeader::from(head);
        let request = Request {
            client: &client.headers,
            method: Method::POST,
            path: "/chat/completions",
            query: None,
            content_length: Some(7),
            content_type: None,
            accepted: Accepted::Events,
            request_id: &id,
            messages,
            forward,
            is_credential: |name| matches!(name, "authorization" | "x-api-key" | "cookie"),
        };
        template.write(&mut head, &request).unwrap();
        assert_eq!(head.version, Version::HTTP_2);
        assert_eq!(lines(&template.text(&request, 0).unwrap()), wire_lines(&head));
        head
    }

    /// The lines of a head in a fixed order, with the names of the headers in lower case.
    fn lines(text: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(text).unwrap().strip_suffix("\r\n\r\n").expect("a head ends with a blank line");
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        for line in &mut lines[1..] {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            *line = format!("{}:{value}", name.to_ascii_lowercase());
        }
        lines[1..].sort_unstable();
        lines
    }

    fn wire_lines(head: &RequestHeader) -> Vec<String> {
        let mut head = head.clone();
        head.set_version(Version::HTTP_11);
        let wire = pingora_core::protocols::http::v1::client::http_req_header_to_wire(&head).unwrap();
        lines(&wire)
    }

    fn text<'h>(head: &'h RequestHeader, name: &str) -> Option<&'h str> {
        head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn nothing_of_the_client_crosses_by_default() {
        let head = written(false, false);
        assert_eq!(head.uri.path(), "/api/v1/chat/completions");
        assert_eq!(text(&head, "host"), Some("up.example"));
        assert_eq!(text(&head, "authorization"), Some("Bearer sk-up"));
        assert_eq!(text(&head, "content-length"), Some("7"));
        assert_eq!(text(&head, "accept-encoding"), Some("identity"));
        assert_eq!(text(&head, "x-extra"), Some("1"));
        for name in
            ["x-api-key", "cookie", "x-billing-mode", "anthropic-version", "x-stainless-lang", "x-litellm-timeout"]
        {
            assert_eq!(text(&head, name), None, "{name}");
        }
    }

    #[test]
    fn forwarding_passes_the_named_kinds_and_never_a_credential() {
        let head = written(true, false);
        assert_eq!(text(&head, "x-billing-mode"), Some("paygo"));
        assert_eq!(text(&head, "anthropic-version"), Some("2023-06-01"));
        assert_eq!(text(&head, "memory_expiration_days"), Some("30"));
        assert_eq!(text(&head, "authorization"), Some("Bearer sk-up"));
        for name in ["x-api-key", "cookie", "x-stainless-lang", "x-litellm-timeout", "connection", "x-hop"] {
            assert_eq!(text(&head, name), None, "{name}");
        }
    }

    #[test]
    fn each_path_and_query_is_its_own_whatever_came_first() {
        let (client, id) = (client(), HeaderValue::from_static("r-1"));
        let template = Template::new("/api/v1", "up.example", None, None, &[]).unwrap();
        let target = |path: &str, query: Option<&str>| {
            let request = Request {
                client: &client.headers,
                method: Method::POST,
                path,
                query,
                content_length: Some(7),
                content_type: None,
                accepted: Accepted::Json,
                request_id: &id,
                messages: false,
                forward: false,
                is_credential: |_| false,
            };
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            template.write(&mut head, &request).unwrap();
            head.uri.to_string()
        };
        for _ in 0..2 {
            assert_eq!(target("/chat/completions", None), "/api/v1/chat/completions");
            assert_eq!(target("/chat/completions", Some("a=b")), "/api/v1/chat/completions?a=b");
            assert_eq!(target("/embeddings", None), "/api/v1/embeddings");
        }
    }

    #[test]
    fn messages_keep_their_own_headers() {
        let head = written(false, true);
        assert_eq!(text(&head, "anthropic-version"), Some("2023-06-01"));
        assert_eq!(text(&head, "x-billing-mode"), None);
    }
}
