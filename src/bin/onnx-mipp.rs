//! The `onnx-mipp` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = onnx_mipp::runtime::restart_without_telemetry() {
        eprintln!("onnx-mipp: warning: cannot switch ONNX Runtime's telemetry off: {error}");
    }
    ExitCode::from(onnx_mipp::cli::run(std::env::args_os()))
}
