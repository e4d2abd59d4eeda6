//! LiteLLM's configuration file: read whole, every fault reported at once with its place.
