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
//! [`Prune`] says what can be asked for. It needs an ONNX Runtime library, which is found where the `onnx-mipp` program
//! finds it: `ORT_DYLIB_PATH`, a virtual environment, the cache that `onnx-mipp setup` fills
//! ([`RuntimeOptions::library`] names one).
//!
//! A run is a row of stages with plain values between them, of which each can be used alone: [`stages`].
//!
//! ```text
//! Model -> Subject -> Statistics -> Plan -> Model -> Report
//! ```

#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(hidden)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
#[doc(inline)]
pub use calibrate::reader::{Color, Exif, ImageOptions, Layout};
pub use pipeline::{Calibration, Error, Event, Observer, Pruned, Silent};
pub use report::{Inspection, Note, Report};
pub use runtime::{Device, RuntimeOptions, Stop};
pub use select::{Budget, Limits, Plan};
pub mod allowance;
pub use calibrate::Estimator;
pub mod cli;
pub mod combine;
pub mod data;
mod digest;
pub mod graph;
pub use groups::Scope;
pub mod groups;
pub mod linalg;
pub mod mi;
pub use onnx::Model;
pub mod onnx;
pub mod ops;
mod outputs;
pub mod pipeline;
pub use prune::Prune;
mod prune;
mod regular;
pub mod repair;
pub mod report;
pub mod runtime;
pub mod select;
pub mod shapes;
pub mod shown;
pub mod stages;
pub mod statistics;
pub mod subgraph;
pub use surgery::Repair;
pub mod surgery;
mod synthetic;
pub mod taps;
pub mod trials;
pub mod verify;
