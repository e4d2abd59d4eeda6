//! Paths: under which bases the endpoints are found, and what each of them asks for.

use super::fault::Dialect;

/// The base paths that differ in what they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Plain,
    /// Reasoning comes as `reasoning_content`.
    Legacy,
    /// Reasoning is merged into the content.
    Thinking,
    /// Has no responses.
    Subscription,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    Chat,
    Completions,
    Responses,
    ResponsesInfo,
    StoredResponse(&'a str),
    DeleteResponse(&'a str),
    Messages,
    CountTokens,
    Embeddings,
    Images,
    Speech,
    Transcription,
    Moderations,
    Rerank,
    Models,
    Model(&'a str),
}

const BASES: [(&str, Base); 6] = [
    ("/api/subscription/v1", Base::Subscription),
    ("/api/v1thinking", Base::Thinking),
    ("/api/v1legacy", Base::Legacy),
    ("/api/paid/v1", Base::Plain),
    ("/api/v1", Base::Plain),
    ("/v1", Base::Plain),
];

/// The endpoint at a path without query; else the status that says it is not there.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Result<(Base, Endpoint<'a>), u16> {
    let found = BASES.iter().find_map(|(prefix, base)| Some((*base, path.strip_prefix(prefix)?)));
    let (base, route) = found.filter(|(_, route)| route.starts_with('/')).ok_or(404_u16)?;
    if base == Base::Subscription && route.starts_with("/responses") {
        return Err(404);
    }
    // Clients that append /v1/messages to a base that has its /v1 already.
    let route = if route.starts_with("/v1/messages") { &route[3..] } else { route };
    let posted = method == "POST";
    let endpoint = match route {
        "/chat/completions" if posted => Endpoint::Chat,
        "/completions" if posted => Endpoint::Completions,
        "/responses" if posted => Endpoint::Responses,
        "/responses" if method == "GET" => Endpoint::ResponsesInfo,
        "/messages" if posted => Endpoint::Messages,
        "/messages/count_tokens" if posted => Endpoint::CountTokens,
        "/embeddings" if posted => Endpoint::Embeddings,
        "/images/generations" | "/images/edits" | "/images/variations" | "/images" if posted => Endpoint::Images,
        "/audio/speech" if posted => Endpoint::Speech,
        "/audio/transcriptions" | "/audio/translations" if posted => Endpoint::Transcription,
        "/moderations" if posted => Endpoint::Moderations,
        "/rerank" if posted => Endpoint::Rerank,
        "/models" if matches!(method, "GET" | "HEAD") => Endpoint::Models,
        _ => return by_id(method, route).map(|endpoint| (base, endpoint)),
    };
    Ok((base, endpoint))
}

fn by_id<'a>(method: &str, route: &'a str) -> Result<Endpoint<'a>, u16> {
    let id = |prefix| route.strip_prefix(prefix).filter(|id| !id.is_empty());
    match (method, id("/models/"), id("/responses/")) {
        ("GET" | "HEAD", Some(model), _) => Ok(Endpoint::Model(model)),
        ("GET", _, Some(response)) => Ok(Endpoint::StoredResponse(response)),
        ("DELETE", _, Some(response)) => Ok(Endpoint::DeleteResponse(response)),
        _ if route.starts_with("/chat/completions") => Err(405),
        _ => Err(404),
    }
}

impl Endpoint<'_> {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Messages,
            Self::Responses => Dialect::Responses,
            _ => Dialect::Chat,
        }
    }

    /// Answers without a key.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Models | Self::Model(_))
    }

    /// Has the pace of a model.
    pub(super) fn generates(&self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Responses | Self::Messages)
    }

    /// Members without which the answer is 400.
    pub(super) fn required(&self) -> &'static [&'static str] {
        match self {
            Self::Chat | Self::CountTokens => &["model", "messages"],
            Self::Messages => &["model", "max_tokens", "messages"],
            Self::Completions => &["model", "prompt"],
            Self::Responses | Self::Embeddings => &["model", "input"],
            Self::Rerank => &["model", "documents"],
            Self::Moderations | Self::Speech => &["input"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_leads_to_the_same_endpoints() {
        for (path, base) in [
            ("/v1/chat/completions", Base::Plain),
            ("/api/v1/chat/completions", Base::Plain),
            ("/api/v1legacy/chat/completions", Base::Legacy),
            ("/api/v1thinking/chat/completions", Base::Thinking),
            ("/api/subscription/v1/chat/completions", Base::Subscription),
        ] {
            assert_eq!(find("POST", path), Ok((base, Endpoint::Chat)), "{path}");
        }
    }

    #[test]
    fn odd_paths_have_their_own_ends() {
        assert_eq!(find("POST", "/api/v1/v1/messages"), Ok((Base::Plain, Endpoint::Messages)));
        assert_eq!(find("GET", "/v1/models/zai-org/glm-4.7"), Ok((Base::Plain, Endpoint::Model("zai-org/glm-4.7"))));
        assert_eq!(find("DELETE", "/v1/responses/r1"), Ok((Base::Plain, Endpoint::DeleteResponse("r1"))));
        assert_eq!(find("POST", "/api/subscription/v1/responses"), Err(404));
        assert_eq!(find("POST", "/v1/chat/completions/chat/completions"), Err(405));
        assert_eq!(find("POST", "/v2/chat/completions"), Err(404));
    }
}
