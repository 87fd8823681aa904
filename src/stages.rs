//! The stages of a run one by one, for those who want one alone. The folder `examples` of the
//! repository uses each.
//!
//! [`open`] comes first: it reads a model, runs it once on a few samples where that is needed, and
//! finds the groups of channels that leave together. What it returns, a [`Subject`], is what
//! [`statistics`] and [`apply`] take.

pub use crate::graph::{Graph, GroupId, Id, Node, NodeId, Table, Value, ValueId};
pub use crate::groups::{Consumer, Group, Groups, Reason};
pub use crate::pipeline::{Opening, Subject, apply, open, statistics};
pub use crate::report::sentence;
pub use crate::runtime::{Runtime, restart_without_telemetry};
pub use crate::statistics::{Covariance, Observed, Statistics};
