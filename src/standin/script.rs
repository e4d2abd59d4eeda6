//! A script: one step per request, the last one repeating; with side scripts for single paths or models.

use std::sync::Arc;

use super::step::Step;

/// The steps of a stand-in, in the order in which requests take them.
#[derive(Clone, Debug)]
pub struct Script {
    steps: Vec<Arc<Step>>,
    by_path: Vec<(String, Script)>,
    by_model: Vec<(String, Script)>,
    position: usize,
}

impl Script {
    /// Every request is answered by its path and body.
    pub fn auto() -> Self {
        Self::from(Step::auto())
    }

    /// One step per request; the last repeats, and no step at all means automatic answers.
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps: Vec<_> = steps.into_iter().map(Arc::new).collect();
        if steps.is_empty() {
            steps.push(Arc::new(Step::auto()));
        }
        Self { steps, by_path: Vec::new(), by_model: Vec::new(), position: 0 }
    }

    /// Appends a step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(Arc::new(step));
        self
    }

    /// Requests for this path (without query) follow a script of their own. Paths come before models.
    pub fn by_path(mut self, path: &str, script: impl Into<Script>) -> Self {
        self.by_path.push((path.to_owned(), script.into()));
        self
    }

    /// Requests for this model follow a script of their own. The model is in the body, so with such a rule every body
    /// is read before its step is known: `read_body(false)` and `stop_reading` then only work by path.
    pub fn by_model(mut self, model: &str, script: impl Into<Script>) -> Self {
        self.by_model.push((model.to_owned(), script.into()));
        self
    }

    /// The step of a request of which only the head is known; none if the model decides.
    pub(super) fn take_by_head(&mut self, path: &str) -> Option<Arc<Step>> {
        let path = path.split('?').next().unwrap_or(path);
        if let Some((_, script)) = self.by_path.iter_mut().find(|(of, _)| of == path) {
            return Some(script.take());
        }
        self.by_model.is_empty().then(|| self.take())
    }

    /// The step of a request whose model is known.
    pub(super) fn take_by_model(&mut self, model: Option<&str>) -> Arc<Step> {
        let side = model.and_then(|model| self.by_model.iter_mut().find(|(of, _)| of == model));
        match side {
            Some((_, script)) => script.take(),
            None => self.take(),
        }
    }

    fn take(&mut self) -> Arc<Step> {
        let step = self.steps[self.position.min(self.steps.len() - 1)].clone();
        self.position += 1;
        step
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::auto()
    }
}

impl From<Step> for Script {
    fn from(step: Step) -> Self {
        Self::steps([step])
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Self {
        Self::steps(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(step: &Step) -> Option<u16> {
        step.manner.status
    }

    #[test]
    fn the_last_step_repeats() {
        let mut script = Script::from(Step::auto().status(500)).then(Step::auto().status(201));
        let seen: Vec<_> = (0..3).filter_map(|_| script.take_by_head("/x")).map(|step| status(&step)).collect();
        assert_eq!(seen, [Some(500), Some(201), Some(201)]);
    }

    #[test]
    fn side_scripts_keep_their_own_position() {
        let side = Script::steps([Step::auto().status(429), Step::auto().status(202)]);
        let mut script = Script::auto().by_model("up/a", side).by_path("/p", Step::auto().status(418));
        assert_eq!(script.take_by_head("/p?q=1").and_then(|step| status(&step)), Some(418));
        assert!(script.take_by_head("/other").is_none());
        assert_eq!(status(&script.take_by_model(Some("up/a"))), Some(429));
        assert_eq!(status(&script.take_by_model(Some("up/b"))), None);
        assert_eq!(status(&script.take_by_model(Some("up/a"))), Some(202));
    }
}
