//! Reading attributes with their defaults.

use crate::graph::Node;

impl Node {
    /// An integer attribute, or `default` where the node has none.
    #[must_use]
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes
            .get(name)
            .and_then(|a| a.i)
            .unwrap_or(default)
    }

    /// A float attribute, or `default` where the node has none.
    #[must_use]
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes
            .get(name)
            .and_then(|a| a.f)
            .unwrap_or(default)
    }

    /// A list of integers, if the node has it.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|a| a.ints.as_slice())
    }

    /// A text attribute, or `default` where the node has none.
    #[must_use]
    pub fn text(&self, name: &str, default: &str) -> String {
        match self.attributes.get(name).and_then(|a| a.s.as_ref()) {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => default.to_owned(),
        }
    }

    /// Whether the node has this attribute.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// Whether any attribute holds a subgraph.
    #[must_use]
    pub fn has_subgraph(&self) -> bool {
        self.attributes
            .values()
            .any(|a| a.g.is_some() || !a.graphs.is_empty())
    }
}
