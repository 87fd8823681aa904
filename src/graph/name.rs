//! Names of operators.

use crate::graph::Node;

/// The domain without its alias: `ai.onnx` is the standard domain, whose name is empty.
#[must_use]
pub fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Node {
    /// Operator type with its domain, where that is not the standard one.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.domain.is_empty() {
            self.op_type.clone()
        } else {
            format!("{}::{}", self.domain, self.op_type)
        }
    }
}
