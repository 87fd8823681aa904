//! Structured pruning of ONNX models that preserves mutual information, without retraining.
//!
//! A trained model and unlabelled samples in, a smaller model with the same inputs and outputs out:
//!
//! ```standalone_crate
//! use onnx_mipp::{Budget, Calibration, Error, Model, Prune};
//!
//! let model = Model::load("fixtures/resnet_bn_torchscript.onnx")?;
//! let data = Calibration::files(["fixtures/calib.npz"]).samples(64);
//! let pruned = Prune::new().budget(Budget::Macs(0.5)).calibration(data).run(&model)?;
//! assert!(pruned.report.macs.after <= 0.5 * pruned.report.macs.before);
//! # let folder = tempfile::tempdir().unwrap();
//! # std::env::set_current_dir(folder.path()).unwrap();
//! pruned.save("half.onnx")?;
//! # Ok::<(), Error>(())
//! ```
//!
//! [`Prune`] says what can be asked for. It needs an ONNX Runtime library, which is found where the
//! `onnx-mipp` program finds it: `ORT_DYLIB_PATH`, a virtual environment, the cache that `onnx-mipp
//! setup` fills ([`RuntimeOptions::library`] names one).
//!
//! A run is a row of stages with plain values between them, of which each can be used alone:
//! [`stages`].
//!
//! ```text
//! Model -> Subject -> Statistics -> Plan -> Model -> Report
//! ```

#[doc(hidden)]
pub mod allowance;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod combine;
#[doc(hidden)]
pub mod data;
mod digest;
#[doc(hidden)]
pub mod flags;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod groups;
#[doc(hidden)]
pub mod linalg;
#[doc(hidden)]
pub mod metric;
#[doc(hidden)]
pub mod mi;
#[doc(hidden)]
pub mod onnx;
#[doc(hidden)]
pub mod ops;
mod outputs;
#[doc(hidden)]
pub mod pipeline;
#[doc(hidden)]
pub mod profile;
mod prune;
mod ranges;
mod regular;
#[doc(hidden)]
pub mod repair;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod select;
#[doc(hidden)]
pub mod shapes;
#[doc(hidden)]
pub mod shown;
pub mod stages;
#[doc(hidden)]
pub mod statistics;
#[doc(hidden)]
pub mod subgraph;
#[doc(hidden)]
pub mod surgery;
mod synthetic;
#[doc(hidden)]
pub mod taps;
#[doc(hidden)]
pub mod trials;
#[doc(hidden)]
pub mod tune;
#[doc(hidden)]
pub mod verify;

#[doc(inline)]
pub use data::{Color, Exif, ImageOptions, Layout};
#[doc(inline)]
pub use groups::{Heads, Scope};
#[doc(inline)]
pub use metric::Metric;
#[doc(inline)]
pub use onnx::Model;
#[doc(inline)]
pub use pipeline::{Calibration, Error, Event, Observer, Pruned, Silent};
#[doc(inline)]
pub use profile::Profile;
pub use prune::Prune;
#[doc(inline)]
pub use repair::Repair;
#[doc(inline)]
pub use report::{Compared, Inspection, Note, Report};
#[doc(inline)]
pub use runtime::{Device, RuntimeOptions, Stop};
#[doc(inline)]
pub use select::{Budget, Hardware, Limits, Plan};
#[doc(inline)]
pub use statistics::Estimator;
