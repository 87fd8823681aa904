//! ONNX Runtime: finding its library, fetching it, devices and sessions.

mod device;
mod error;
mod locate;
mod outside;
mod profile;
mod session;
mod setup;
mod start;
mod stop;
mod telemetry;
mod values;

pub use device::Device;
pub use error::RuntimeError;
pub use locate::locate;
pub use profile::tagged;
pub(crate) use session::shape_text;
pub use session::{InputSpec, Session};
pub use setup::setup;
pub use start::{Runtime, RuntimeOptions};
pub use stop::Stop;
pub use telemetry::restart_without_telemetry;

#[cfg(test)]
mod tests;
