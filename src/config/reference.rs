//! `os.environ/NAME`: what is a reference to the environment, and what only looks like one.
//!
//! LiteLLM sends a misplaced reference to the provider as if it were the key. Here it is a fault. This file judges texts
//! and refuses to look anything up.

use super::syntax::looks_secret;

/// What a text is in this respect.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference<'t> {
    /// A text like any other.
    No,
    /// The whole text is a reference to this variable.
    To(&'t str),
    /// It was meant as one; the advice says what to write.
    Misspelt(String),
}

/// Judges a whole value.
pub(super) fn reference(text: &str) -> Reference<'_> {
    if let Some(name) = text.strip_prefix("os.environ/")
        && is_variable(name)
    {
        if looks_secret(name) {
            return Reference::Misspelt(
                "a key stands where the name of its variable belongs; write the key alone, or put it into a variable"
                    .to_owned(),
            );
        }
        return Reference::To(name);
    }
    if text.contains("os.environ/") {
        return Reference::Misspelt(
            "`os.environ/NAME` is only resolved when it is the whole value; put the complete text into one variable"
                .to_owned(),
        );
    }
    match braced(text).or_else(|| lookalike(text)) {
        Some(name) if !looks_secret(name) => Reference::Misspelt(format!(
            "this file has no `${{NAME}}`, `$NAME` or similar; write the whole value as `os.environ/{name}`"
        )),
        Some(_) => Reference::Misspelt("write the key alone, or `os.environ/` and the name of its variable".to_owned()),
        None => Reference::No,
    }
}

/// `${NAME}` and `${NAME:-default}`, anywhere.
fn braced(text: &str) -> Option<&str> {
    text.split("${").skip(1).find_map(|rest| {
        let inside = &rest[..rest.find('}')?];
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        Some(&inside[..end]).filter(|name| is_variable(name))
    })
}

/// `$NAME`, `os.environ.NAME`, `os.environ["NAME"]`, `os.getenv("NAME")`, `environ/NAME`, `env/NAME`, as a whole value.
fn lookalike(text: &str) -> Option<&str> {
    let starts =
        ["$", "os.environ.", "os.environ[", "os.environ:", "os.getenv(", "os.env/", "environ/", "env/", "env."];
    let rest = starts.iter().find_map(|start| text.strip_prefix(start))?;
    let name = rest.trim_matches(|c: char| matches!(c, '"' | '\'' | ']' | ')' | '/'));
    // Lower-case words after `env/` are somebody's model name; variables are written in capitals.
    (is_variable(name) && !name.bytes().any(|b| b.is_ascii_lowercase())).then_some(name)
}

/// A name the environment can hold.
pub(super) fn is_variable(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_values_are_references_and_parts_are_not() {
        assert_eq!(reference("os.environ/NANOGPT_API_KEY"), Reference::To("NANOGPT_API_KEY"));
        for text in
            ["sk-plain", "glm-4.7", "https://nano-gpt.com/api/v1", "a$b", "$5", "env/prod-model", "cost ${", "${}", "$"]
        {
            assert_eq!(reference(text), Reference::No, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_answered_with_advice() {
        for text in ["Bearer os.environ/K", "os.environ/K/v1", "os.environ/", "os.environ/ K", " os.environ/K"] {
            let Reference::Misspelt(advice) = reference(text) else { panic!("{text}") };
            assert!(advice.contains("whole value"), "{advice}");
        }
        for text in [
            "${K1}",
            "x-${K1}-y",
            "${K1:-d}",
            "$K1",
            "os.environ.K1",
            "os.environ[\"K1\"]",
            "os.getenv('K1')",
            "environ/K1",
        ] {
            let Reference::Misspelt(advice) = reference(text) else { panic!("{text}") };
            assert!(advice.ends_with("`os.environ/K1`"), "{advice}");
        }
    }
}
