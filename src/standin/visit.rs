//! What the connections share (the stage) and what one of them knows (the visit): which step answers which request.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::Pace;
use super::auto::{self, Received};
use super::record::Log;
use super::script::Script;
use super::step::Step;

const CONTROL_PATH: &str = "/__standin/";

/// The log, the script and the settings of one stand-in.
pub(super) struct Stage {
    pub(super) log: Arc<Log>,
    script: Mutex<Script>,
    pace: Pace,
    control: bool,
}

/// One connection on that stage.
pub(super) struct Visit {
    stage: Arc<Stage>,
    pub(super) connection: u64,
    pub(super) tls: bool,
}

impl Stage {
    pub(super) fn new(pace: Pace, control: bool, log: Arc<Log>) -> Self {
        Self { log, script: Mutex::default(), pace, control }
    }

    pub(super) fn set_script(&self, script: Script) {
        *self.script() = script;
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step for a request whose head is known; none if its model decides.
    pub(super) fn take_by_head(&self, path: &str) -> Option<Arc<Step>> {
        self.script().take_by_head(path)
    }

    /// What to play: the step taken by the head or else by the model, with automatic answers worked out.
    pub(super) fn answer(
        &self,
        early: Option<Arc<Step>>,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Step {
        let step = early.unwrap_or_else(|| {
            let document: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            self.script().take_by_model(document["model"].as_str())
        });
        if step.is_auto() {
            auto::answer(&Received { method, path, headers, body }, self.pace).bent_by(&step)
        } else {
            Step::clone(&step)
        }
    }

    pub(super) fn controls(&self, path: &str) -> bool {
        self.control && path.starts_with(CONTROL_PATH)
    }

    /// Obeys a control request; those are never recorded.
    pub(super) fn control(&self, method: &str, path: &str, body: &[u8]) -> Step {
        match (method, path.trim_start_matches(CONTROL_PATH)) {
            ("POST", "script") => match serde_json::from_slice::<Script>(body) {
                Ok(script) => {
                    self.set_script(script);
                    Step::json(200, json!({"ok": true}))
                }
                Err(fault) => Step::json(400, json!({"error": fault.to_string()})),
            },
            ("GET", "requests") => {
                let counts = self.log.counts();
                let (open, active) = (counts.open, counts.active);
                let totals = json!({"requests": counts.requests, "connections": counts.connections,
                    "open_connections": open, "active": active});
                Step::json(200, totals)
            }
            _ => Step::json(404, json!({"error": "control knows POST script and GET requests"})),
        }
    }
}

impl Visit {
    pub(super) fn new(stage: Arc<Stage>, connection: u64, tls: bool) -> Self {
        Self { stage, connection, tls }
    }
}

impl Deref for Visit {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}
