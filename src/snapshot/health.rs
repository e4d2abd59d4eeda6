//! What health routes say, on both ports: from live traffic alone, without a call to anybody.

use super::{Live, Snapshot};
use crate::routing::vitals::State;
use serde_json::{Value, json};

impl Snapshot {
    /// `/health` in LiteLLM's shape; names only when `named`.
    pub fn health(&self, named: bool, now_ms: u64) -> Value {
        let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
        for deployment in &self.deployments {
            let state = deployment.vitals.state(now_ms);
            let well = state == State::Closed && deployment.missing_variable.is_none();
            let (failures, status) = deployment.vitals.failures();
            let list = if well { &mut healthy } else { &mut unhealthy };
            list.push(json!({
                "model": &*deployment.upstream_model,
                "model_name": &*deployment.group,
                "model_id": &*deployment.id,
                "state": state.name(),
                "failures_in_row": failures,
                "last_failure_status": status,
            }));
        }
        let (healthy_count, unhealthy_count) = (healthy.len(), unhealthy.len());
        if !named {
            healthy.clear();
            unhealthy.clear();
        }
        json!({
            "healthy_endpoints": healthy,
            "unhealthy_endpoints": unhealthy,
            "healthy_count": healthy_count,
            "unhealthy_count": unhealthy_count,
        })
    }
}

impl Live {
    /// `/health/readiness`: status and body, with LiteLLM's member about its database.
    pub fn readiness(&self) -> (u16, Value) {
        let (status, word) = if self.is_draining() { (503, "draining") } else { (200, "healthy") };
        (status, json!({"status": word, "db": "Not connected"}))
    }
}
