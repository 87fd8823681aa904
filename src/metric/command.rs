//! A shell's command that prints a number. It runs in a process group of its own, so that what it
//! starts ends with it.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::MetricError;
use crate::shown;

/// What stands for the model's path.
pub const MODEL: &str = "{model}";
/// What stands for that of the original in a command that measures both in turns.
pub const ORIGINAL: &str = "{original}";
/// How often it is looked whether the command has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a command's output that are kept: its end.
const KEPT: usize = 1 << 16;
/// Lines of what a failed command said that are shown.
const SHOWN_LINES: usize = 5;

/// Lifts the limit on memory that this program has set for itself.
#[cfg(unix)]
const LIFT_LIMIT: &str = "ulimit -S -d \"$(ulimit -H -d)\" 2>/dev/null; ";

/// The process group of the command that runs.
static RUNNING: Mutex<Option<u32>> = Mutex::new(None);

/// Ends the command that runs, if one does.
pub(crate) fn end() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(process) = *running {
        end_group(process);
    }
}

#[cfg(unix)]
fn end_group(process: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let group = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn end_group(_process: u32) {}

#[derive(Clone)]
pub(super) struct Command {
    text: String,
    limit: Duration,
}

impl Command {
    pub fn new(text: &str, limit: Duration) -> Self {
        let text = text.to_owned();
        Command { text, limit }
    }

    /// Refuses a command that would not know of the model.
    pub fn check(&self, option: &'static str) -> Result<(), MetricError> {
        if self.text.contains(MODEL) {
            return Ok(());
        }
        let command = self.shown();
        Err(MetricError::NoModel { option, command })
    }

    /// Whether it measures the original too.
    pub fn is_paired(&self) -> bool {
        self.text.contains(ORIGINAL)
    }

    /// The number that it prints on its last line for a model; `option` names it in messages. It
    /// ends when `is_stopped` says so.
    pub fn number(
        &self,
        model: &Path,
        option: &'static str,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<f64, MetricError> {
        let line = self.last_line(&[(MODEL, model)], option, is_stopped)?;
        let number = line.as_deref().and_then(|line| line.parse().ok());
        number.ok_or_else(|| self.no_number(option, "a number", line))
    }

    /// The two numbers that it prints there, for the original and for a model.
    pub fn numbers(
        &self,
        [original, model]: [&Path; 2],
        option: &'static str,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<[f64; 2], MetricError> {
        let paths = [(ORIGINAL, original), (MODEL, model)];
        let line = self.last_line(&paths, option, is_stopped)?;
        let words = line.as_deref().unwrap_or_default().split_whitespace();
        let numbers: Result<Vec<f64>, _> = words.map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[before, after]) => Ok([before, after]),
            _ => Err(self.no_number(option, "two numbers (the original's first)", line)),
        }
    }

    fn no_number(
        &self,
        option: &'static str,
        expected: &'static str,
        found: Option<String>,
    ) -> MetricError {
        MetricError::NoNumber {
            option,
            command: self.shown(),
            expected,
            found: found.map_or("nothing".to_owned(), |line| {
                format!("'{}'", shown::line(&line))
            }),
        }
    }

    /// The last line that it prints, blank ones aside, with these paths in it.
    fn last_line(
        &self,
        paths: &[(&str, &Path)],
        option: &'static str,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Option<String>, MetricError> {
        let started = |error| MetricError::Start {
            option,
            command: self.shown(),
            error,
        };
        let mut child = self.shell(paths).spawn().map_err(started)?;
        let process = child.id();
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        let printed = child.stdout.take().map(kept);
        let said = child.stderr.take().map(kept);
        let status = self.wait(&mut child, is_stopped);
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(status) = status.map_err(started)? else {
            end_group(process);
            // On systems without groups, at least the shell.
            let _ = child.kill();
            let _ = child.wait();
            let (command, seconds) = (self.shown(), self.limit.as_secs());
            return Err(if is_stopped() {
                MetricError::Stopped { option, command }
            } else {
                MetricError::TimedOut {
                    option,
                    command,
                    seconds,
                }
            });
        };
        let [printed, said] = [printed, said].map(joined);
        if !status.success() {
            return Err(MetricError::Failed {
                option,
                command: self.shown(),
                status: in_words(status),
                said: ending(&said),
            });
        }
        let mut lines = printed.lines().rev().map(str::trim);
        Ok(lines.find(|line| !line.is_empty()).map(str::to_owned))
    }

    fn shown(&self) -> String {
        shown::line(&self.text).into_owned()
    }

    fn shell(&self, paths: &[(&str, &Path)]) -> std::process::Command {
        let quoted = |path: &Path| {
            let path = path.to_string_lossy();
            if cfg!(unix) {
                format!("'{}'", path.replace('\'', r"'\''"))
            } else {
                format!("\"{path}\"")
            }
        };
        let filled = paths.iter().fold(self.text.clone(), |text, (name, path)| {
            text.replace(name, &quoted(path))
        });
        #[cfg(unix)]
        let mut shell = {
            use std::os::unix::process::CommandExt;
            let mut shell = std::process::Command::new("sh");
            shell.arg("-c").arg(format!("{LIFT_LIMIT}{filled}"));
            shell.process_group(0);
            shell
        };
        #[cfg(not(unix))]
        let mut shell = {
            let mut shell = std::process::Command::new("cmd");
            shell.arg("/C").arg(filled);
            shell
        };
        shell
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        shell
    }

    /// Its status; `None` where it takes longer than it may, or is to end.
    fn wait(
        &self,
        child: &mut Child,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<Option<ExitStatus>> {
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if is_stopped() || begin.elapsed() > self.limit {
                return Ok(None);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Reads all of an output, in a thread of its own so that no pipe is ever full, and keeps its end.
fn kept(mut output: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut end = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            end.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if end.len() > 2 * KEPT {
                end.drain(..end.len() - KEPT);
            }
        }
        end
    })
}

fn joined(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader
        .and_then(|reader| reader.join().ok())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn in_words(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    status.code().map_or("no exit code".to_owned(), |code| {
        format!("exit code {code}")
    })
}

/// The last lines of what was said.
fn ending(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines.len().saturating_sub(SHOWN_LINES);
    let lines: Vec<_> = lines
        .iter()
        .skip(last)
        .map(|line| shown::line(line))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(", saying: {}", lines.join(" | "))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn run(text: &str, seconds: u64) -> Result<f64, String> {
        let command = Command::new(text, Duration::from_secs(seconds));
        command.check("metric").map_err(|error| error.to_string())?;
        let found = command.number(Path::new("/tmp/it's a model.onnx"), "metric", &|| false);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_line_is_the_number() {
        assert_eq!(
            run("echo warming up; echo 0.25; echo; : {model}", 60),
            Ok(0.25)
        );
        assert_eq!(run("echo -1e-3 # {model}", 60), Ok(-1e-3));
    }

    #[test]
    fn a_command_that_names_the_original_measures_both() {
        let both = |text: &str| {
            let command = Command::new(text, Duration::from_secs(60));
            assert!(command.is_paired());
            let paths = [Path::new("/tmp/first one"), Path::new("/tmp/second")];
            let found = command.numbers(paths, "latency_command", &|| false);
            found.map_err(|error| error.to_string())
        };
        let told = "echo; [ {original}{model} = '/tmp/first one/tmp/second' ] && echo 4 2.5; echo";
        assert_eq!(both(told), Ok([4.0, 2.5]));
        for said in ["4", "4 2 1", "4 ms", ""] {
            let error = both(&format!("echo '{said}'; : {{original}} {{model}}")).unwrap_err();
            let expected = "has to print two numbers (the original's first) alone on the last line";
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_path_is_one_word_whatever_is_in_it() {
        assert_eq!(
            run("[ {model} = \"/tmp/it's a model.onnx\" ] && echo 1", 60),
            Ok(1.0)
        );
    }

    #[test]
    fn what_goes_wrong_is_said() {
        for (text, expected) in [
            ("echo 1", "with {model} where"),
            ("echo 12 % # {model}", "found '12 %'"),
            ("true {model}", "found nothing"),
            (
                "echo no such file >&2; exit 3; {model}",
                "ended with exit code 3, saying: no such file",
            ),
            ("kill -9 $$; {model}", "ended with signal 9"),
        ] {
            let error = run(text, 60).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// Also what the shell has started ends: the last `sleep` holds the output open.
    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let begin = Instant::now();
        let error = run("sleep 600 & sleep 600; echo {model}", 0).unwrap_err();
        assert!(error.contains("ended after 0 s"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn it_ends_with_the_run() {
        let command = Command::new("sleep 600; echo {model}", Duration::from_secs(600));
        let begin = Instant::now();
        let is_stopped = || begin.elapsed() > Duration::from_millis(50);
        let error = command.number(Path::new("x"), "metric", &is_stopped);
        let words = "the command 'sleep 600; echo {model}' was ended with the run";
        assert!(error.unwrap_err().to_string().ends_with(words));
        assert!(begin.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn much_output_is_no_matter() {
        let text =
            "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; echo; echo 7; : {model}";
        assert_eq!(run(text, 60), Ok(7.0));
    }
}
