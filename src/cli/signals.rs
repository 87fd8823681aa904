//! Signals: a run that is ended leaves nothing behind.

use std::io;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::terminal;
use crate::onnx;
use crate::runtime::Stop;

/// From here on an interrupt, a termination and a hangup end the process with exit code 128 and the
/// signal's number, without temporary files; while outputs take their places, when all have done
/// so. The first interrupt of a search that has a result asks it by `stop` to end with that. A
/// hangup that was ignored at the start, as under nohup, stays so. A file that meets the limit of a
/// shell's `ulimit -f` is an error like that of a full disk.
///
/// # Errors
/// The system refuses the handlers.
pub fn watch(stop: Stop) -> io::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    onnx::explain_lost_pages()?;
    onnx::explain_abort(GIVEN_UP)?;
    explain_failed_allocations();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGINT && stop.has_result() && !stop.is_stopped() {
                    stop.stop();
                    terminal::say(
                        "interrupted: ends with the smallest model so far; again ends at once",
                    );
                    continue;
                }
                crate::metric::end_command();
                let _removed = crate::outputs::remove_all();
                // Not the ordinary end: ONNX Runtime may be at work in other threads.
                low_level::exit(128 + signal);
            }
        })
        .map(drop)
}

const GIVEN_UP: &str = "the run was given up for the reason above; if that is memory, allow more \
    (--memory-limit MB), or prune fewer layers at a time (--only, --exclude)";

/// A matrix that there is no memory for is a panic of faer.
fn explain_failed_allocations() {
    const MESSAGE: &str = "memory ran out: allow more (--memory-limit MB), or prune fewer layers at a time \
        (--only, --exclude)";
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.contains("AllocError") {
            onnx::give_up(MESSAGE)
        } else {
            usual(panic)
        }
    }));
}

/// Whether the process was started with the signal ignored, where the system tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
