//! The `onnx-mipp` program: reads the command line, runs the library, says what happened.

mod args;
mod config;
mod files;
mod runs;
#[cfg(unix)]
mod signals;
mod terminal;
mod values;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser};
use serde::Serialize;

use crate::flags::with_flags;
use crate::outputs::{OutputError, Outputs};
use crate::pipeline::{Opening, Options};
use crate::runtime::Stop;
use crate::shown;
use args::{
    Arguments, Command, CompareArguments, InspectArguments, OutputArguments, PruneArguments,
    SweepArguments,
};
use runs::Run;
use terminal::Terminal;

const NAME: &str = "onnx-mipp";

/// Runs the program with these arguments, the first of which is its name, and returns its exit
/// code: 0 when it did what was asked, 1 on an error, 2 when the arguments cannot be understood.
///
/// Reports go to stdout, everything else to stderr; what cannot be said there is no error. The
/// process should have [`crate::runtime::restart_without_telemetry`] behind it; it ends here on a
/// signal, and leaves nothing behind.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let stop = Stop::default();
    #[cfg(unix)]
    if let Err(error) = signals::watch(stop.clone()) {
        terminal::warning(&format!("a signal will leave temporary files: {error}"));
    }
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match config::matches(Arguments::command().name(NAME), &arguments) {
        Ok(matches) => Arguments::from_arg_matches(&matches),
        Err(config::Error::File(message)) => {
            terminal::error(&message);
            return 1;
        }
        Err(config::Error::Usage(error)) => Err(error),
    };
    let result = match parsed {
        Ok(parsed) => follow(parsed, &command_line(&arguments), &stop),
        Err(error) => {
            // Asking for help comes this way too, with code 0. A closed pipe is no matter.
            match shown::page(&error.render().to_string()) {
                Cow::Borrowed(_) => drop(error.print()),
                // What was typed came from a folder of strange files.
                Cow::Owned(_) => terminal::error(&config::plain(&error)),
            }
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match result {
        Ok(()) => 0,
        Err(message) => {
            terminal::error(&message);
            1
        }
    }
}

/// The options of a run from the text of a file, as `--config` reads it; nothing that it names is
/// opened.
///
/// # Errors
/// What the program would say about the text.
pub fn config_options(text: &str) -> Result<Options, String> {
    let command = Arguments::command().name(NAME);
    let typed = command
        .clone()
        .try_get_matches_from([NAME, "IN.onnx", "--dry-run"]);
    let typed = typed.map_err(|error| config::plain(&error))?;
    let words = config::options(text, &command, &typed)?;
    let line = [NAME, "IN.onnx", "--dry-run"].map(OsString::from);
    let parsed = Arguments::try_parse_from(line.into_iter().chain(words));
    let parsed = parsed.map_err(|error| config::plain(&error))?;
    parsed.prune.options()
}

fn follow(arguments: Arguments, line: &str, stop: &Stop) -> Result<(), String> {
    match arguments.command {
        Some(Command::Setup { cuda }) => setup(cuda),
        Some(Command::Inspect(arguments)) => inspect(&arguments),
        Some(Command::Compare(arguments)) => compare(&arguments),
        Some(Command::Sweep(arguments)) => sweep(&arguments, line),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man { folder }) => man(folder.as_deref()),
        None => prune(&arguments.prune, line, stop),
    }
}

fn inspect(arguments: &InspectArguments) -> Result<(), String> {
    let opening = arguments.opening()?;
    hold(&opening);
    // Nothing is judged here, so what there is to tell about the synthetic inputs is left out.
    let found = runs::inspect(&arguments.input, &opening)?;
    if arguments.json {
        json(&found)
    } else {
        print(&found.to_string())
    }
}

fn prune(arguments: &PruneArguments, line: &str, stop: &Stop) -> Result<(), String> {
    let needed = "IN.onnx and OUT.onnx are needed; see `onnx-mipp --help`";
    let input = arguments.input.as_deref().ok_or(needed)?;
    let output = arguments.output.as_deref();
    if output.is_none() && !arguments.dry_run {
        return Err(needed.to_owned());
    }
    let (mut options, paths) = (arguments.options()?, arguments.paths());
    options.opening.runtime.stop = stop.clone();
    hold(&options.opening);
    let terminal = Terminal::new(&arguments.shown);
    let run = Run {
        input,
        options,
        paths,
        line,
        observer: &terminal,
    };
    let report = terminal.done(run.prune(output))?;
    show(&report, &arguments.shown)
}

fn compare(arguments: &CompareArguments) -> Result<(), String> {
    let opening = arguments.opening()?;
    hold(&opening);
    let terminal = Terminal::new(&arguments.output);
    let (original, other) = (&arguments.original, &arguments.other);
    let found = terminal.done(runs::compare(original, other, &opening, &terminal))?;
    show(&found, &arguments.output)
}

fn sweep(arguments: &SweepArguments, line: &str) -> Result<(), String> {
    let (options, paths) = (arguments.options()?, arguments.paths());
    hold(&options.opening);
    let terminal = Terminal::new(&arguments.shown);
    let run = Run {
        input: &arguments.input,
        options,
        paths,
        line,
        observer: &terminal,
    };
    let found = terminal.done(run.sweep(&arguments.out_dir, &arguments.budgets()))?;
    show(&found, &arguments.shown)
}

/// Has the system hold this process to what the run may take. Where it refuses, what is counted is
/// still held.
fn hold(opening: &Opening) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Those of ONNX Runtime's sessions, of which some are open at a time, and our own.
    let threads = 4 * opening.runtime.threads.unwrap_or(cores) + 2 * cores;
    let _ = opening.allowance.enforce(threads);
}

fn setup(cuda: bool) -> Result<(), String> {
    let mut log = |line: &str| terminal::say(line);
    let path = crate::runtime::setup(cuda, &mut log);
    let path = path.map_err(|error| with_flags(&error.to_string()).into_owned())?;
    print(&path.display().to_string())
}

fn completions(shell: clap_complete::Shell) -> Result<(), String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn man(folder: Option<&Path>) -> Result<(), String> {
    let command = Arguments::command().name(NAME);
    if let Some(folder) = folder {
        return man_pages(command, folder).map_err(|error| error.to_string());
    }
    print(&page(&clap_mangen::Man::new(command))?)
}

/// A page for the program and one for each of its commands.
fn man_pages(mut command: clap::Command, folder: &Path) -> Result<(), OutputError> {
    command.build();
    let commands = command
        .get_subcommands()
        .filter(|found| !found.is_hide_set());
    let mut outputs = Outputs::default();
    for command in std::iter::once(&command).chain(commands) {
        let man = clap_mangen::Man::new(command.clone());
        let target = outputs.target(&folder.join(man.get_filename()), "manual page")?;
        let text = page(&man).map_err(|error| target.refused(&error))?;
        outputs.document(&target, &text)?;
    }
    outputs.publish(crate::onnx::locations_in)
}

fn page(man: &clap_mangen::Man) -> Result<String, String> {
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| error.to_string())?;
    String::from_utf8(page).map_err(|error| error.to_string())
}

/// The command as one may type it again.
fn command_line(arguments: &[OsString]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    let quoted = |word: &OsString| {
        let word = word.to_string_lossy();
        if !word.is_empty() && word.chars().all(is_plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = arguments.iter().skip(1).map(quoted);
    let all: Vec<String> = std::iter::once(NAME.to_owned()).chain(words).collect();
    all.join(" ")
}

/// The end of a command on stdout: as JSON where that was asked for, else as text unless quiet.
fn show<T: Serialize + std::fmt::Display>(found: &T, how: &OutputArguments) -> Result<(), String> {
    if how.json {
        json(found)
    } else if how.quiet {
        Ok(())
    } else {
        print(&found.to_string())
    }
}

fn json(value: &impl Serialize) -> Result<(), String> {
    print(&crate::report::json(value)?)
}

/// Prints to stdout; a reader that went away is no error.
fn print(text: &str) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", shown::page(text.trim_end())) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod schemas;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn flags_in_messages_are_those_of_the_program() {
        let command = Arguments::command();
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let known: std::collections::BTreeSet<&str> = options.collect();
        for flag in crate::flags::all() {
            assert!(known.contains(flag.trim_start_matches("--")), "{flag}");
        }
    }

    #[test]
    fn options_come_from_a_text() {
        let options = config_options("macs = 0.5\nsamples = 7\n").unwrap();
        assert_eq!(options.opening.calibration.reader.samples, Some(7));
        assert!(
            config_options("maks = 0.5")
                .unwrap_err()
                .contains("did you mean 'macs'")
        );
        assert!(
            config_options("samples = 0")
                .unwrap_err()
                .contains("samples")
        );
    }
}
