//! The three wire formats the gateway speaks, as data: where each keeps what the gateway must know.
//!
//! A dialect says how errors look and how a stream ends well. It knows nothing of routes, models or providers.

/// A wire format of requests, answers and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions and its siblings (completions, embeddings, images, audio …).
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
}

impl Dialect {
    /// The word used in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Chat => "chat",
            Dialect::Responses => "responses",
            Dialect::Messages => "messages",
        }
    }

    /// What goes out on an open stream while the upstream says nothing.
    ///
    /// Comments are skipped by every client captured (reference/nanogpt-api.md, section 8); Anthropic defines an
    /// event of its own for the purpose.
    pub fn keepalive(self) -> &'static [u8] {
        match self {
            Dialect::Chat | Dialect::Responses => b": keep-alive\n\n",
            Dialect::Messages => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        }
    }

    /// Whether a frame with this `type` member is the last of a whole stream (Responses, Messages).
    pub fn is_final_event(self, event_type: &str) -> bool {
        match self {
            Dialect::Chat => false,
            Dialect::Responses => {
                matches!(event_type, "response.completed" | "response.incomplete" | "response.failed")
            }
            Dialect::Messages => event_type == "message_stop",
        }
    }
}
