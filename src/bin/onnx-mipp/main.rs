//! The `onnx-mipp` program: reads the command line, runs the library, says what happened.

mod args;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, InspectArguments, PruneArguments};
use terminal::Terminal;

fn main() -> ExitCode {
    if let Err(error) = onnx_mipp::runtime::restart_without_telemetry() {
        eprintln!("onnx-mipp: warning: cannot switch ONNX Runtime's telemetry off: {error}");
    }
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("onnx-mipp: error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    match arguments.command {
        Some(Command::Setup { cuda }) => setup(cuda),
        Some(Command::Inspect(arguments)) => inspect(&arguments),
        None => prune(&arguments.prune),
    }
}

fn inspect(arguments: &InspectArguments) -> Result<(), String> {
    let options = arguments.options()?;
    // Nothing is judged here, so what there is to tell about the synthetic inputs is left out.
    let found = onnx_mipp::pipeline::inspect(&arguments.input, &options, &|_| {});
    let found = found.map_err(|error| error.to_string())?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?)
    } else {
        print(&found.to_string())
    }
}

fn prune(arguments: &PruneArguments) -> Result<(), String> {
    let (Some(input), Some(output)) = (&arguments.input, &arguments.output) else {
        return Err("IN.onnx and OUT.onnx are needed; see `onnx-mipp --help`".to_owned());
    };
    let terminal = Terminal::new(arguments.quiet, arguments.verbose);
    let options = arguments.options()?;
    let tell = |event| terminal.tell(event);
    let report = onnx_mipp::pipeline::prune(input, output, &options, &tell);
    let report = terminal.done(report).map_err(|error| error.to_string())?;
    if arguments.quiet {
        return Ok(());
    }
    print(&report.to_string())
}

fn setup(cuda: bool) -> Result<(), String> {
    let mut log = |line: &str| eprintln!("{line}");
    let path = onnx_mipp::runtime::setup(cuda, &mut log).map_err(|error| error.to_string())?;
    print(&path.display().to_string())
}

/// Prints to stdout; a reader that went away is no error.
fn print(text: &str) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}
