//! A value that must never be seen in a log, an error, a metric or a page.
//!
//! `Debug` and `Display` print `***`, so a secret inside a larger value stays one. It refuses to know what it protects,
//! and it has no `PartialEq`: comparing credentials is the auth room's work and has to take constant time there.

use std::fmt;

/// A credential. `expose` is the only way to its text.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text as it is; blanks are the caller's business.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Secret(text.into())
    }

    /// The text itself. Every call site is a place where the secret may leave: keep them few.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn is_never_printed() {
        let secret = Secret::new("sk-nano-1");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "sk-nano-1");
    }
}
