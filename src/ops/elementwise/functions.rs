//! Functions of single elements of which nothing more is to be known.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Backward, Operator, Size, Walk};
use crate::ops::elementwise::{KEEP, MEET, broadcast, derivatives};
use crate::ops::{Entry, sizes};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::standard(
        &["And", "GreaterOrEqual", "LessOrEqual", "Or", "PRelu", "Xor"],
        &Plain,
        MEET,
    ),
    Entry::standard(&["Mean"], &Mean, MEET),
    Entry::standard(
        &["Greater", "Less", "Mod"],
        &Arithmetic {
            reads_all_slots: false,
            derivative: None,
        },
        MEET,
    ),
    Entry::standard(&["Pow"], &Arithmetic::of_one(derivatives::pow), MEET),
    Entry::standard(
        &["Max", "Min"],
        &Arithmetic {
            reads_all_slots: true,
            derivative: None,
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
            "Elu",
            "IsInf",
            "IsNaN",
            "Log",
            "Mish",
            "Not",
            "Selu",
            "Shrink",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Swish",
            "Tan",
            "ThresholdedRelu",
        ],
        &Plain,
        KEEP,
    ),
    Entry::standard(
        &["Ceil", "Floor", "Round"],
        &Arithmetic {
            reads_all_slots: false,
            derivative: None,
        },
        KEEP,
    ),
    Entry::standard(&["Abs"], &Arithmetic::of_one(derivatives::abs), KEEP),
    Entry::standard(&["Neg"], &Arithmetic::of_one(derivatives::neg), KEEP),
    Entry::standard(
        &["Reciprocal"],
        &Arithmetic::of_one(derivatives::reciprocal),
        KEEP,
    ),
    Entry::standard(&["Sqrt"], &Arithmetic::of_one(derivatives::sqrt), KEEP),
    Entry::standard(&["Dropout"], &Smooth(derivatives::unchanged), KEEP),
    Entry::standard(&["Erf"], &Smooth(derivatives::erf), KEEP),
    Entry::standard(&["Exp"], &Smooth(derivatives::exp), KEEP),
    Entry::standard(&["Gelu"], &Smooth(derivatives::gelu), KEEP),
    Entry::standard(&["HardSigmoid"], &Smooth(derivatives::hard_sigmoid), KEEP),
    Entry::standard(&["HardSwish"], &Smooth(derivatives::hard_swish), KEEP),
    Entry::standard(&["LeakyRelu"], &Smooth(derivatives::leaky_relu), KEEP),
    Entry::standard(&["Sigmoid"], &Smooth(derivatives::sigmoid), KEEP),
    Entry::standard(&["Tanh"], &Smooth(derivatives::tanh), KEEP),
    Entry::microsoft(&["BiasGelu", "FastGelu", "Gelu", "QuickGelu"], &Plain, KEEP),
];

struct Plain;

impl Operator for Plain {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }
}

/// Gives its input the gradient.
type Derivative = fn(NodeView<'_>, &mut Backward<'_>) -> Option<()>;

/// A function whose derivative is known.
struct Smooth(Derivative);

impl Operator for Smooth {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        broadcast::trace(view, walk)
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        (self.0)(view, back)
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
    derivative: Option<Derivative>,
}

impl Arithmetic {
    const fn of_one(derivative: Derivative) -> Self {
        Arithmetic {
            reads_all_slots: false,
            derivative: Some(derivative),
        }
    }
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

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        self.derivative
            .and_then(|derivative| derivative(view, back))
    }

    fn reads_all_slots(&self) -> bool {
        self.reads_all_slots
    }
}
