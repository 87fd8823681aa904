//! ONNX Runtime: finding its library, fetching it, devices and sessions.

mod error;
mod locate;
mod session;
mod setup;
mod values;

pub use error::RuntimeError;
pub use locate::locate;
pub use session::{Device, InputSpec, Runtime, RuntimeOptions, Session};
pub use setup::setup;
