//! The bundled stand-in upstream: an OpenAI-compatible server with no model behind it.
