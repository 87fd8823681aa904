//! The `onnx-mipp` program.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = onnx_mipp::runtime::restart_without_telemetry() {
        let warning = "onnx-mipp: warning: cannot switch ONNX Runtime's telemetry off";
        let _ = writeln!(std::io::stderr(), "{warning}: {error}");
    }
    ExitCode::from(onnx_mipp::cli::run(std::env::args_os()))
}
