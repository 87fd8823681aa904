//! Progress on stderr: a bar on a terminal, plain lines in a log.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use onnx_mipp::pipeline::Event;

/// Says what a run does.
pub struct Terminal {
    quiet: bool,
    verbose: bool,
    is_terminal: bool,
    begin: Instant,
    bar: RefCell<Option<ProgressBar>>,
}

impl Terminal {
    /// `quiet` says nothing but warnings; `verbose` adds times.
    pub fn new(quiet: bool, verbose: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Terminal {
            quiet,
            verbose,
            is_terminal,
            begin: Instant::now(),
            bar: RefCell::new(None),
        }
    }

    /// Shows one event.
    pub fn tell(&self, event: Event) {
        match event {
            Event::Note(note) if !self.quiet || note.starts_with("WARNING") => self.line(&note),
            Event::Note(_) => {}
            _ if self.quiet => {}
            Event::Stage(stage) => self.stage(stage, None),
            Event::Counting { stage, total, what } => self.stage(stage, Some((total, what))),
            Event::Advance(more) => {
                if let Some(bar) = self.bar.borrow().as_ref() {
                    bar.inc(more as u64);
                }
            }
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

    fn stage(&self, stage: &'static str, total: Option<(usize, &'static str)>) {
        self.clear();
        if !self.is_terminal {
            match total {
                Some((total, what)) => self.line(&format!("{stage} ({total} {what})")),
                None => self.line(stage),
            }
            return;
        }
        let bar = match total {
            Some((total, _)) => ProgressBar::new(total as u64),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{msg} {wide_bar} {pos}/{len} {eta}",
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
        let time = match self.verbose {
            true => format!("[{:7.2} s] ", self.begin.elapsed().as_secs_f64()),
            false => String::new(),
        };
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.println(format!("{time}{text}")),
            None => eprintln!("{time}{text}"),
        }
    }

    fn clear(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
