//! Path and method to endpoint: one table of fixed paths and a few patterns that carry a model or an id.
//!
//! Paths are matched after percent-decoding, with doubled and trailing slashes taken out, so that they are served as
//! the plain path without a redirect. Knows no headers and no bodies.

use super::dialect::Dialect;
use super::params::Shape;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sent to an upstream after its body named a model.
    Proxy {
        /// Which parameter table applies.
        shape: Shape,
        /// How the body is written.
        body: Body,
    },
    /// Sent to an upstream without a body or model: stored responses.
    Stored,
    /// GET /models and /models/{id}.
    Models,
    /// GET /model/info.
    ModelInfo,
    /// GET /model_group/info.
    GroupInfo,
    /// GET /health.
    Health,
    /// GET /health/liveliness and /health/liveness.
    Alive,
    /// GET /health/readiness.
    Ready,
    /// HEAD / and HEAD /api/hello, which Anthropic's clients send first.
    Hello,
    /// A route of LiteLLM that needs its database.
    Database,
}

/// How a request body names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A JSON object.
    Json,
    /// multipart/form-data, or a JSON object where the client sends one.
    Form,
}

/// One row of the route table.
#[derive(Debug)]
pub struct Endpoint {
    /// Stable word for metrics and logs.
    pub name: &'static str,
    /// What it leads to.
    pub kind: Kind,
    /// How errors and streams look.
    pub dialect: Dialect,
    /// Appended to a deployment's base path.
    pub upstream_path: &'static str,
    /// Allowed methods, as an `Allow` header says them.
    pub allow: &'static str,
    /// Whether the client's query string goes upstream.
    pub keep_query: bool,
    /// Served without a key.
    pub open: bool,
}

/// A request's place in the table.
#[derive(Debug)]
pub struct Match<'p> {
    /// The row.
    pub endpoint: &'static Endpoint,
    /// The model named by the path (`engines/{m}`, `deployments/{m}`), or the id of `/models/{id}`, or the tail of
    /// `/responses/{tail}`.
    pub tail: Option<Cow<'p, str>>,
}

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// No such route.
    NotFound,
    /// The route exists for other methods, named here.
    WrongMethod(&'static str),
}

const fn proxy(name: &'static str, shape: Shape, body: Body, upstream_path: &'static str) -> Endpoint {
    Endpoint {
        name,
        kind: Kind::Proxy { shape, body },
        dialect: Dialect::Chat,
        upstream_path,
        allow: "POST, OPTIONS",
        keep_query: false,
        open: false,
    }
}

const fn local(name: &'static str, kind: Kind, open: bool) -> Endpoint {
    let allow = if matches!(kind, Kind::Hello) { "HEAD" } else { "GET, HEAD, OPTIONS" };
    Endpoint { name, kind, dialect: Dialect::Chat, upstream_path: "", allow, keep_query: false, open }
}

const fn messages(name: &'static str, upstream_path: &'static str) -> Endpoint {
    let row = proxy(name, Shape::Messages, Body::Json, upstream_path);
    Endpoint { dialect: Dialect::Messages, keep_query: true, ..row }
}

static CHAT: Endpoint = proxy("chat", Shape::Chat, Body::Json, "/chat/completions");
static COMPLETIONS: Endpoint = proxy("completions", Shape::Completions, Body::Json, "/completions");
static EMBEDDINGS: Endpoint = proxy("embeddings", Shape::Embeddings, Body::Json, "/embeddings");
static RESPONSES: Endpoint = {
    let row = proxy("responses", Shape::Responses, Body::Json, "/responses");
    Endpoint { dialect: Dialect::Responses, ..row }
};
static STORED: Endpoint = Endpoint {
    name: "responses_stored",
    kind: Kind::Stored,
    dialect: Dialect::Responses,
    upstream_path: "/responses",
    allow: "GET, DELETE, OPTIONS",
    keep_query: true,
    open: false,
};
static CANCEL: Endpoint = Endpoint {
    name: "responses_cancel",
    kind: Kind::Stored,
    dialect: Dialect::Responses,
    upstream_path: "/responses",
    allow: "POST, OPTIONS",
    keep_query: true,
    open: false,
};
static MESSAGES: Endpoint = messages("messages", "/messages");
static COUNT_TOKENS: Endpoint = messages("count_tokens", "/messages/count_tokens");
static IMAGES: Endpoint = proxy("images", Shape::Images, Body::Json, "/images/generations");
static IMAGE_EDITS: Endpoint = proxy("image_edits", Shape::Images, Body::Form, "/images/edits");
static SPEECH: Endpoint = proxy("speech", Shape::Audio, Body::Json, "/audio/speech");
static TRANSCRIPTIONS: Endpoint = proxy("transcriptions", Shape::Audio, Body::Form, "/audio/transcriptions");
static TRANSLATIONS: Endpoint = proxy("translations", Shape::Audio, Body::Form, "/audio/translations");
static MODERATIONS: Endpoint = proxy("moderations", Shape::Moderations, Body::Json, "/moderations");
static RERANK: Endpoint = proxy("rerank", Shape::Rerank, Body::Json, "/rerank");
static MODELS: Endpoint = local("models", Kind::Models, false);
static MODEL_INFO: Endpoint = local("model_info", Kind::ModelInfo, false);
static GROUP_INFO: Endpoint = local("model_group_info", Kind::GroupInfo, false);
static HEALTH: Endpoint = local("health", Kind::Health, true);
static ALIVE: Endpoint = local("liveness", Kind::Alive, true);
static READY: Endpoint = local("readiness", Kind::Ready, true);
static HELLO: Endpoint = local("hello", Kind::Hello, true);
static DATABASE: Endpoint = Endpoint {
    name: "database",
    kind: Kind::Database,
    dialect: Dialect::Chat,
    upstream_path: "",
    allow: "",
    keep_query: false,
    open: false,
};

/// Paths that also exist under /v1.
static WITH_AND_WITHOUT_V1: &[(&str, &Endpoint)] = &[
    ("/chat/completions", &CHAT),
    ("/completions", &COMPLETIONS),
    ("/embeddings", &EMBEDDINGS),
    ("/responses", &RESPONSES),
    ("/images/generations", &IMAGES),
    ("/images/edits", &IMAGE_EDITS),
    ("/audio/speech", &SPEECH),
    ("/audio/transcriptions", &TRANSCRIPTIONS),
    ("/audio/translations", &TRANSLATIONS),
    ("/moderations", &MODERATIONS),
    ("/rerank", &RERANK),
    ("/models", &MODELS),
    ("/model/info", &MODEL_INFO),
    ("/model_group/info", &GROUP_INFO),
];

/// Paths that exist exactly so. The doubled `v1` and `/api/v1` come from base URLs that NanoGPT's and Anthropic's
/// documentation tell people to set (reference/nanogpt-api.md, section 2).
static EXACT: &[(&str, &Endpoint)] = &[
    ("/v1/messages", &MESSAGES),
    ("/v1/v1/messages", &MESSAGES),
    ("/api/v1/messages", &MESSAGES),
    ("/v1/messages/count_tokens", &COUNT_TOKENS),
    ("/v1/v1/messages/count_tokens", &COUNT_TOKENS),
    ("/api/v1/messages/count_tokens", &COUNT_TOKENS),
    ("/health", &HEALTH),
    ("/health/liveliness", &ALIVE),
    ("/health/liveness", &ALIVE),
    ("/health/readiness", &READY),
    ("/", &HELLO),
    ("/api/hello", &HELLO),
];

/// First path segments of LiteLLM's routes that need its database (proxy/_types.py LiteLLMRoutes, 1.106.2).
static DATABASE_SEGMENTS: &[&str] = &[
    "key",
    "user",
    "team",
    "spend",
    "global",
    "organization",
    "customer",
    "end_user",
    "budget",
    "tag",
    "credentials",
    "invitation",
    "sso",
    "audit",
];

/// Routes of LiteLLM that change models or settings at run time, kept in its database.
static DATABASE_PATHS: &[&str] = &[
    "/model/new",
    "/model/update",
    "/model/delete",
    "/v2/model/info",
    "/config/update",
    "/config/yaml",
    "/add/allowed_ip",
    "/delete/allowed_ip",
];

static FIXED: LazyLock<HashMap<String, &'static Endpoint>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for (path, endpoint) in WITH_AND_WITHOUT_V1 {
        table.insert(format!("/v1{path}"), *endpoint);
        table.insert((*path).to_owned(), *endpoint);
    }
    table.extend(EXACT.iter().map(|(path, endpoint)| ((*path).to_owned(), *endpoint)));
    table.extend(DATABASE_PATHS.iter().map(|path| ((*path).to_owned(), &DATABASE)));
    table
});

/// Makes now what the first request would have to wait for.
pub fn prepare() {
    LazyLock::force(&FIXED);
}

/// Finds the endpoint of `path` (without its query) for `method`.
///
/// # Errors
/// [`Lost`] when no route has this path, or none with this method.
pub fn find<'p>(method: &str, path: &'p str) -> Result<Match<'p>, Lost> {
    let plain = plain_path(path);
    let found = match FIXED.get(plain.as_ref()) {
        Some(endpoint) => Match { endpoint, tail: None },
        None => find_pattern(plain).ok_or(Lost::NotFound)?,
    };
    let allow = found.endpoint.allow;
    let mut allowed = allow.split(',').map(str::trim_start);
    if matches!(found.endpoint.kind, Kind::Database) || allowed.any(|allowed| allowed == method) {
        Ok(found)
    } else if matches!(found.endpoint.kind, Kind::Hello) {
        Err(Lost::NotFound)
    } else {
        Err(Lost::WrongMethod(allow))
    }
}

fn find_pattern(plain: Cow<'_, str>) -> Option<Match<'_>> {
    let path = plain.as_ref();
    if let Some((endpoint, model)) = model_in_path(path) {
        let tail = Some(cut(&plain, model));
        return Some(Match { endpoint, tail });
    }
    let bare = path.strip_prefix("/v1").unwrap_or(path);
    if let Some(id) = bare.strip_prefix("/models/") {
        return Some(Match { endpoint: &MODELS, tail: Some(cut(&plain, id)) });
    }
    if let Some(tail) = bare.strip_prefix("/responses/") {
        let endpoint = match tail.split_once('/') {
            None => &STORED,
            Some((_, "cancel")) => &CANCEL,
            Some((_, "input_items")) => &STORED,
            Some(_) => return None,
        };
        return Some(Match { endpoint, tail: Some(cut(&plain, tail)) });
    }
    let first = path[1..].split('/').next().unwrap_or_default();
    (path.len() > first.len() + 1 && DATABASE_SEGMENTS.contains(&first))
        .then_some(Match { endpoint: &DATABASE, tail: None })
}

/// `/engines/{model}/…` and `/openai/deployments/{model}/…`; the model may hold slashes.
fn model_in_path(path: &str) -> Option<(&'static Endpoint, &str)> {
    let bare = path.strip_prefix("/v1").unwrap_or(path);
    let rest = bare.strip_prefix("/engines/").or_else(|| bare.strip_prefix("/openai/deployments/"))?;
    let suffixes = [("/chat/completions", &CHAT), ("/completions", &COMPLETIONS), ("/embeddings", &EMBEDDINGS)];
    suffixes.into_iter().find_map(|(suffix, endpoint)| {
        rest.strip_suffix(suffix).filter(|model| !model.is_empty()).map(|model| (endpoint, model))
    })
}

/// The same part of the path, borrowed where the path was.
fn cut<'p>(plain: &Cow<'p, str>, part: &str) -> Cow<'p, str> {
    match plain {
        Cow::Borrowed(path) => {
            let start = part.as_ptr() as usize - path.as_ptr() as usize;
            Cow::Borrowed(&path[start..start + part.len()])
        }
        Cow::Owned(_) => Cow::Owned(part.to_owned()),
    }
}

/// Decoded, with one slash where several stand and none at the end.
fn plain_path(path: &str) -> Cow<'_, str> {
    // A searcher for two bytes takes longer to make than a path to look through.
    let has_empty_segment = path.as_bytes().windows(2).any(|pair| pair == b"//");
    let untidy = path.contains('%') || has_empty_segment || (path.len() > 1 && path.ends_with('/'));
    if !untidy && path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len() + 1);
    for segment in percent_decode(path).split('/').filter(|segment| !segment.is_empty()) {
        plain.push('/');
        plain.push_str(segment);
    }
    if plain.is_empty() {
        plain.push('/');
    }
    Cow::Owned(plain)
}

/// Decodes `%XX`; a `%` that starts no escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &str, path: &str) -> String {
        match find(method, path) {
            Ok(found) => match found.tail {
                Some(tail) => format!("{} {tail}", found.endpoint.name),
                None => found.endpoint.name.to_owned(),
            },
            Err(lost) => format!("{lost:?}"),
        }
    }

    #[test]
    fn plain_and_bare_paths_meet() {
        for path in ["/v1/chat/completions", "/chat/completions", "//v1/chat//completions/", "/v1/chat%2Fcompletions"] {
            assert_eq!(name("POST", path), "chat", "{path}");
        }
        assert_eq!(name("POST", "/V1/chat/completions"), "NotFound");
        assert_eq!(name("POST", "/api/v1/chat/completions"), "NotFound");
    }

    #[test]
    fn models_in_paths_keep_their_slashes() {
        assert_eq!(name("POST", "/engines/zai-org%2Fglm-4.7/chat/completions"), "chat zai-org/glm-4.7");
        assert_eq!(name("POST", "/openai/deployments/m/completions"), "completions m");
        assert_eq!(name("GET", "/v1/models/zai-org/glm-4.7"), "models zai-org/glm-4.7");
        assert_eq!(name("POST", "/engines/chat/completions"), "completions chat");
        assert_eq!(name("POST", "/engines/completions"), "NotFound");
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        assert_eq!(find("GET", "/v1/chat/completions").unwrap_err(), Lost::WrongMethod("POST, OPTIONS"));
        assert_eq!(find("DELETE", "/v1/models").unwrap_err(), Lost::WrongMethod("GET, HEAD, OPTIONS"));
        assert_eq!(find("GET", "/").unwrap_err(), Lost::NotFound);
    }

    #[test]
    fn stored_responses_and_their_cancel() {
        assert_eq!(name("GET", "/v1/responses/resp_1"), "responses_stored resp_1");
        assert_eq!(name("POST", "/v1/responses/resp_1/cancel"), "responses_cancel resp_1/cancel");
        assert_eq!(name("GET", "/v1/responses/resp_1/nope"), "NotFound");
    }

    #[test]
    fn database_routes_are_known_by_their_first_segment() {
        assert_eq!(name("POST", "/key/generate"), "database");
        assert_eq!(name("GET", "/spend/logs"), "database");
        assert_eq!(name("GET", "/key"), "NotFound");
        assert_eq!(name("GET", "/keys/x"), "NotFound");
    }

    #[test]
    fn odd_escapes_do_not_break_the_path() {
        assert_eq!(percent_decode("a%2"), "a%2");
        assert_eq!(percent_decode("%zz%41"), "%zzA");
        assert_eq!(percent_decode("%é"), "%é");
    }
}
