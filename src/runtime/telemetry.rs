//! Keeps ONNX Runtime from reporting on its user.

use std::io;
use std::process::Command;

/// ONNX Runtime's own switch, read when its environment is made.
const SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// Restarts this program with `ORT_DISABLE_TELEMETRY=1`, unless the variable is set already. The
/// official packages otherwise keep a record of each process (its name, the machine) in the user's
/// cache folder, meant for upload; switching it off through the API comes too late for the first
/// record, and a process cannot safely change its own environment. Call it first in `main`; it
/// returns only when the variable is set.
///
/// # Errors
/// When the program cannot be started again.
pub fn restart_without_telemetry() -> io::Result<()> {
    if std::env::var_os(SWITCH).is_some() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(SWITCH, "1");
    replace(again)
}

#[cfg(unix)]
fn replace(mut command: Command) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> io::Result<()> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}
