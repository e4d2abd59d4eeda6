//! Bad days on demand: words in a model name that make an automatic answer fail, dawdle or break off.

use serde_json::Value;

use super::super::Pace;
use super::super::step::{End, Frame, Kind, Step};
use super::fault::{Dialect, late};

/// What a model name asks for; a name may ask for several things.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Provoked {
    status: Option<u16>,
    error_frame: bool,
    slow: bool,
    end: Option<End>,
}

impl Provoked {
    /// Words are told apart by anything but letters and digits, so that `executor` provokes nothing.
    pub(super) fn of(model: &str) -> Self {
        let mut provoked = Self::default();
        let mut before = "";
        for word in model.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            match word {
                "slow" => provoked.slow = true,
                "cut" => provoked.end = Some(End::Cut),
                "reset" => provoked.end = Some(End::Reset),
                "stall" => provoked.end = Some(End::Stall),
                "frame" if before == "error" => provoked.error_frame = true,
                _ if before == "error" => {
                    provoked.status = word.parse().ok().filter(|status| (400..600).contains(status))
                }
                _ => {}
            }
            before = word;
        }
        provoked
    }

    /// The status to refuse with, if that is asked for; an error frame without a stream is a plain 500.
    pub(super) fn status(&self, streams: bool) -> Option<u16> {
        self.status.or((self.error_frame && !streams).then_some(500))
    }

    pub(super) fn pace(&self) -> Option<Pace> {
        self.slow.then_some(Pace { first_token_ms: 3000, token_gap_ms: 250 })
    }

    /// Breaks the answer in the middle, if that is asked for.
    pub(super) fn spoil(&self, mut step: Step, dialect: Dialect) -> Step {
        if self.end.is_none() && !self.error_frame {
            return step;
        }
        if let Kind::Sse(frames) = &mut step.kind {
            frames.truncate(frames.len().div_ceil(2));
            if self.error_frame {
                let model = model_of(frames);
                frames.push(Frame::Text(late(dialect, &model, frames.len())));
            }
        }
        match self.end {
            Some(end) => step.end(end),
            None => step,
        }
    }
}

fn model_of(frames: &[Frame]) -> Value {
    match frames.first() {
        Some(Frame::Json(frame)) => frame["model"].clone(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_the_name_provoke() {
        assert_eq!(Provoked::of("standin/error-429").status(true), Some(429));
        assert_eq!(Provoked::of("standin/error-503:online").status(false), Some(503));
        assert_eq!(Provoked::of("standin/error-frame").status(false), Some(500));
        assert_eq!(Provoked::of("standin/error-frame").status(true), None);
        assert_eq!(Provoked::of("x/slow-cut"), Provoked { slow: true, end: Some(End::Cut), ..Default::default() });
    }

    #[test]
    fn ordinary_names_provoke_nothing() {
        for model in ["zai-org/glm-4.7", "x/executor", "x/error-200", "x/stallion", ""] {
            assert_eq!(Provoked::of(model), Provoked::default(), "{model}");
        }
    }
}
