//! Functions of single elements of which nothing more is to be known.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Operator, Size, Walk};
use crate::ops::elementwise::{KEEP, MEET, broadcast};
use crate::ops::{Entry, sizes};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["And", "GreaterOrEqual", "LessOrEqual", "Or", "PRelu", "Xor"],
        &Plain,
        MEET,
    ),
    Entry::standard(&["Mean"], &Mean, MEET),
    Entry::standard(
        &["Greater", "Less", "Mod", "Pow"],
        &Arithmetic {
            reads_all_slots: false,
        },
        MEET,
    ),
    Entry::standard(
        &["Max", "Min"],
        &Arithmetic {
            reads_all_slots: true,
        },
        MEET,
    ),
    Entry::standard(
        &[
            "Acos",
            "Acosh",
            "Asin",
            "Asinh",
            "Atan",
            "Atanh",
            "BitwiseNot",
            "Celu",
            "Cos",
            "Cosh",
            "Dropout",
            "Elu",
            "Erf",
            "Exp",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "IsInf",
            "IsNaN",
            "LeakyRelu",
            "Log",
            "Mish",
            "Not",
            "Selu",
            "Shrink",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Swish",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
        ],
        &Plain,
        KEEP,
    ),
    Entry::standard(
        &["Abs", "Ceil", "Floor", "Neg", "Reciprocal", "Round", "Sqrt"],
        &Arithmetic {
            reads_all_slots: false,
        },
        KEEP,
    ),
    Entry::microsoft(&["BiasGelu", "FastGelu", "Gelu", "QuickGelu"], &Plain, KEEP),
];

struct Plain;

impl Operator for Plain {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }
}

struct Mean;

impl Operator for Mean {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn reads_all_slots(&self) -> bool {
        true
    }
}

/// What exporters compute sizes with, too.
struct Arithmetic {
    reads_all_slots: bool,
}

impl Operator for Arithmetic {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn computes_sizes(&self) -> bool {
        true
    }

    fn sizes(&self, view: NodeView<'_>, walk: &Walk<'_>) -> Option<Vec<Size>> {
        sizes::computed(view, walk)
    }

    fn reads_all_slots(&self) -> bool {
        self.reads_all_slots
    }
}
