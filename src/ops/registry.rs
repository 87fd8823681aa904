//! The operators that are known, by name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::graph::Node;
use crate::groups::{Operator, Rules, UNKNOWN};
use crate::onnx::proto::NodeProto;
use crate::ops::{FAMILIES, random};

/// The domain of the operators that ONNX Runtime's optimisers make.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// Operators of which the same is known.
pub struct Entry {
    /// Their domain; empty for the standard one.
    pub domain: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
    /// What is known of them.
    pub operator: &'static dyn Operator,
    /// What they mean for channels, for the page of operators: all that say the same share a row.
    /// Of operators without a rule, what else is known.
    pub channels: &'static str,
}

impl Entry {
    /// Operators of the standard domain.
    pub(super) const fn standard(
        names: &'static [&'static str],
        operator: &'static dyn Operator,
        channels: &'static str,
    ) -> Self {
        Entry {
            domain: "",
            names,
            operator,
            channels,
        }
    }

    /// Operators of com.microsoft.
    pub(super) const fn microsoft(
        names: &'static [&'static str],
        operator: &'static dyn Operator,
        channels: &'static str,
    ) -> Self {
        Entry {
            domain: MICROSOFT,
            names,
            operator,
            channels,
        }
    }
}

/// All operators, in the order of the page of operators.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES
        .iter()
        .flat_map(|files| files.iter().copied().flatten())
}

type Table = BTreeMap<(&'static str, &'static str), &'static dyn Operator>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let named = |entry: &'static Entry| {
        let names = entry.names.iter();
        names.map(|&name| ((entry.domain, name), entry.operator))
    };
    entries().flat_map(named).collect()
});

fn find(domain: &str, name: &str) -> &'static dyn Operator {
    let table: &BTreeMap<(&str, &str), _> = &TABLE;
    table.get(&(domain, name)).copied().unwrap_or(UNKNOWN)
}

/// What is known of the node's operator.
#[must_use]
pub fn of(node: &Node) -> &'static dyn Operator {
    find(&node.domain, &node.op_type)
}

/// What is known of the operator of that name in the standard domain, whichever domain the node's
/// is.
pub(super) fn named_as(node: &Node) -> &'static dyn Operator {
    find("", &node.op_type)
}

/// The operators that are known here.
pub const RULES: Known = Known;

/// See [`RULES`].
#[derive(Debug, Clone, Copy)]
pub struct Known;

impl Rules for Known {
    fn of(&self, node: &Node) -> &dyn Operator {
        of(node)
    }

    fn draws(&self, node: &NodeProto) -> bool {
        random::draws(node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_operator_is_in_one_file() {
        let mut known = BTreeSet::new();
        for entry in entries() {
            assert!(!entry.channels.is_empty(), "{:?}", entry.names);
            for name in entry.names {
                assert!(known.insert((entry.domain, name)), "{name} twice");
            }
        }
    }
}
