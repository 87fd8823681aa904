//! A measure of a model's quality that the user brings: a command or a function that reads the
//! model's file and gives a number.

mod command;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use command::Command;
pub use command::MODEL;
use command::ORIGINAL;
pub(crate) use command::end as end_command;

/// Why a model could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A command without a place for the model.
    #[error(
        "`{option}`: expected a command with {MODEL} where the model's path goes, found '{command}'"
    )]
    NoModel {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
    },
    /// A command that measures two models, where each is measured by itself.
    #[error(
        "`{option}`: expected a command with {MODEL} alone, found {ORIGINAL}: the original is measured by itself"
    )]
    Paired {
        /// What it is for.
        option: &'static str,
    },
    /// The command cannot be started.
    #[error("`{option}`: the command '{command}' does not start: {error}")]
    Start {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The command fails.
    #[error("`{option}`: the command '{command}' ended with {status}{said}")]
    Failed {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it said, with what leads to it; empty where it said nothing.
        said: String,
    },
    /// The command takes too long.
    #[error(
        "`{option}`: the command '{command}' was ended after {seconds} s without a number; allow it more with \
         `metric_timeout`"
    )]
    TimedOut {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
        /// The seconds that it was given.
        seconds: u64,
    },
    /// The run was stopped meanwhile, and the command with it.
    #[error("`{option}`: the command '{command}' was ended with the run")]
    Stopped {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
    },
    /// The command says something else.
    #[error(
        "`{option}`: the command '{command}' has to print {expected} alone on the last line of its output, found {found}"
    )]
    NoNumber {
        /// What it is for.
        option: &'static str,
        /// The command.
        command: String,
        /// What it has to print.
        expected: &'static str,
        /// The last line.
        found: String,
    },
    /// The function fails.
    #[error("`{option}` failed: {error}")]
    Function {
        /// What it is for.
        option: &'static str,
        /// What it says.
        error: String,
    },
    /// A number that says nothing.
    #[error("`{option}`: {of} measures {found}, expected {expected}")]
    NotFinite {
        /// What it is for.
        option: &'static str,
        /// What is expected.
        expected: &'static str,
        /// Which model.
        of: &'static str,
        /// The number.
        found: f64,
    },
}

type Function = dyn Fn(&Path) -> Result<f64, String> + Send + Sync;

/// A measure of a model. Larger is better unless it is [`Metric::lower`].
#[derive(Clone)]
pub struct Metric {
    measure: Measure,
    is_lower: bool,
}

#[derive(Clone)]
enum Measure {
    Function(Arc<Function>),
    Command(Command),
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_lower {
            "Metric::lower"
        } else {
            "Metric"
        };
        f.debug_struct(name).finish_non_exhaustive()
    }
}

impl Metric {
    /// What a function makes of a model's file.
    pub fn new(measure: impl Fn(&Path) -> Result<f64, String> + Send + Sync + 'static) -> Self {
        Metric {
            measure: Measure::Function(Arc::new(measure)),
            is_lower: false,
        }
    }

    /// What a shell's command prints on its last line, where `{model}` stands for the model's path.
    /// It is ended after `limit`.
    ///
    /// As a clock it may name the `{original}` too: it then prints two numbers, that of the
    /// original first, and measures both in turns as it knows best.
    #[must_use]
    pub fn command(text: &str, limit: Duration) -> Self {
        Metric {
            measure: Measure::Command(Command::new(text, limit)),
            is_lower: false,
        }
    }

    /// The same, where smaller is better.
    #[must_use]
    pub fn lower(self) -> Self {
        Metric {
            is_lower: true,
            ..self
        }
    }

    /// Refuses what cannot measure any model; `option` names it in messages.
    pub(crate) fn check(&self, option: &'static str) -> Result<(), MetricError> {
        match &self.measure {
            Measure::Command(command) => command.check(option),
            Measure::Function(_) => Ok(()),
        }
    }

    /// The number of the model in a file; `option` says in messages what it is for, and `of` which
    /// model that is. A command ends when `is_stopped` says so.
    ///
    /// # Errors
    /// It cannot be measured, or is not finite.
    pub(crate) fn measure(
        &self,
        path: &Path,
        (option, of): (&'static str, &'static str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<f64, MetricError> {
        let found = match &self.measure {
            Measure::Command(command) => command.number(path, option, is_stopped)?,
            Measure::Function(function) => {
                function(path).map_err(|error| MetricError::Function { option, error })?
            }
        };
        finite(found, (option, of))
    }

    /// Whether it is a command that measures the original and a model in one call.
    pub(crate) fn is_paired(&self) -> bool {
        matches!(&self.measure, Measure::Command(command) if command.is_paired())
    }

    /// The numbers of the original and of a model, in one call where it [can](Self::is_paired).
    ///
    /// # Errors
    /// They cannot be measured, or are not finite.
    pub(crate) fn measure_both(
        &self,
        [original, model]: [&Path; 2],
        option: &'static str,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<[f64; 2], MetricError> {
        let [first, second] = [(option, "the original"), (option, "the smaller model")];
        match &self.measure {
            Measure::Command(command) if command.is_paired() => {
                let found = command.numbers([original, model], option, is_stopped)?;
                let [before, after] = found;
                Ok([finite(before, first)?, finite(after, second)?])
            }
            _ => Ok([
                self.measure(original, first, is_stopped)?,
                self.measure(model, second, is_stopped)?,
            ]),
        }
    }

    /// By how much the second is worse than the first; below 0 where it is better.
    #[must_use]
    pub(crate) fn drop(&self, before: f64, after: f64) -> f64 {
        if self.is_lower {
            after - before
        } else {
            before - after
        }
    }
}

fn finite(found: f64, (option, of): (&'static str, &'static str)) -> Result<f64, MetricError> {
    if found.is_finite() {
        return Ok(found);
    }
    let expected = "a finite number";
    Err(MetricError::NotFinite {
        option,
        expected,
        of,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: (&str, &str) = ("metric", "the original");

    #[test]
    fn what_is_no_number_is_refused() {
        for found in [f64::NAN, f64::INFINITY] {
            let metric = Metric::new(move |_| Ok(found));
            let error = metric.measure(Path::new("x"), WHAT, &|| false).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("`metric`: the original measures "),
                "{error}"
            );
        }
        let failing = Metric::new(|_| Err("no data".to_owned()));
        let error = failing
            .measure(Path::new("x"), WHAT, &|| false)
            .unwrap_err();
        assert_eq!(error.to_string(), "`metric` failed: no data");
    }

    #[test]
    fn a_drop_is_towards_the_worse() {
        let higher = Metric::new(|_| Ok(1.0));
        assert_eq!(higher.drop(0.75, 0.5), 0.25);
        assert_eq!(higher.lower().drop(0.75, 0.5), -0.25);
    }
}
