//! Progress on stderr: a bar on a terminal, plain lines in a log.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstream::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::OutputArguments;
use crate::pipeline::{Event, Observer};
use crate::shown;

/// A log hears of a counting stage this often.
const LOG_PAUSE: Duration = Duration::from_secs(20);

/// Says what a run does.
pub struct Terminal {
    quiet: bool,
    verbose: bool,
    is_terminal: bool,
    begin: Instant,
    bar: RefCell<Option<ProgressBar>>,
    counted: Cell<Option<Counted>>,
}

/// How far a counting stage is, for logs.
#[derive(Clone, Copy)]
struct Counted {
    stage: &'static str,
    what: &'static str,
    done: usize,
    total: usize,
    begin: Instant,
    told: Instant,
}

impl Counted {
    /// "calibrating: 120 of 448 samples, about 40 s left".
    fn line(&self) -> String {
        let Counted {
            stage,
            what,
            done,
            total,
            ..
        } = self;
        let each = self.begin.elapsed().as_secs_f64() / (*done).max(1) as f64;
        let left = each * total.saturating_sub(*done) as f64;
        format!("{stage}: {done} of {total} {what}, about {left:.0} s left")
    }
}

/// An error of the program, the last line of a run.
pub fn error(message: &str) {
    let word = painted("error:", AnsiColor::Red.on_default().bold());
    say(&format!("onnx-mipp: {word} {}", shown::message(message)));
}

/// Something that did not work but does not matter to the result.
#[cfg(unix)]
pub fn warning(message: &str) {
    say(&format!("onnx-mipp: warning: {message}"));
}

/// A line on stderr. Where nothing can be said, for the reader went away or the disk of its log is
/// full, the work goes on.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The text in a style, where stderr is a terminal and NO_COLOR does not forbid it.
fn painted(text: &str, style: Style) -> String {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        ColorChoice::Never => text.to_owned(),
        _ => format!("{style}{text}{style:#}"),
    }
}

impl Observer for Terminal {
    fn hear(&self, event: Event) {
        match event {
            Event::Note(note) => match shown::message(&note.with_flags()).strip_prefix("WARNING") {
                Some(rest) => {
                    let word = painted("WARNING", AnsiColor::Yellow.on_default().bold());
                    self.line(&format!("{word}{rest}"));
                }
                None if self.quiet => {}
                None => self.line(&shown::message(&note.with_flags())),
            },
            _ if self.quiet => {}
            Event::Stage(stage) => self.stage(stage, None),
            Event::Counting { stage, total, what } => self.stage(stage, Some((total, what))),
            Event::Advance(more) => self.advance(more),
        }
    }
}

impl Terminal {
    /// Quiet says nothing but warnings; verbose adds times.
    pub fn new(how: &OutputArguments) -> Self {
        Terminal {
            quiet: how.quiet,
            verbose: how.verbose,
            is_terminal: std::io::stderr().is_terminal(),
            begin: Instant::now(),
            bar: RefCell::new(None),
            counted: Cell::new(None),
        }
    }

    /// Clears the bar and passes the result on.
    pub fn done<T>(&self, result: T) -> T {
        self.clear();
        if self.verbose {
            self.line(&format!(
                "done after {:.2} s",
                self.begin.elapsed().as_secs_f64()
            ));
        }
        result
    }

    fn advance(&self, more: usize) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.inc(more as u64);
        }
        let Some(mut counted) = self.counted.get() else {
            return;
        };
        counted.done += more;
        if counted.told.elapsed() >= LOG_PAUSE && counted.done < counted.total {
            counted.told = Instant::now();
            self.line(&counted.line());
        }
        self.counted.set(Some(counted));
    }

    fn stage(&self, stage: &'static str, total: Option<(usize, &'static str)>) {
        self.clear();
        if !self.is_terminal {
            match total {
                Some((total, what)) => self.line(&format!("{stage} ({total} {what})")),
                None => self.line(stage),
            }
            let now = Instant::now();
            self.counted.set(total.map(|(total, what)| Counted {
                stage,
                what,
                done: 0,
                total,
                begin: now,
                told: now,
            }));
            return;
        }
        let bar = match total {
            Some((total, _)) => ProgressBar::new(total as u64),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{msg} {wide_bar} {pos}/{len}, {eta} left",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(stage);
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar.replace(Some(bar));
    }

    fn line(&self, text: &str) {
        let time = if self.verbose {
            format!("[{:7.2} s] ", self.begin.elapsed().as_secs_f64())
        } else {
            String::new()
        };
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.println(format!("{time}{text}")),
            None => say(&format!("{time}{text}")),
        }
    }

    fn clear(&self) {
        self.counted.set(None);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_how_long_is_left() {
        let begin = Instant::now().checked_sub(Duration::from_secs(30)).unwrap();
        let counted = Counted {
            stage: "calibrating",
            what: "samples",
            done: 120,
            total: 200,
            begin,
            told: begin,
        };
        let expected = "calibrating: 120 of 200 samples, about 20 s left";
        assert_eq!(counted.line(), expected);
    }
}
