//! A budget of latency: where the time goes is profiled, candidates are measured.

use std::cell::Cell;

use crate::clock::{self, ClockRequest, Progress};
use crate::groups::Widths;
use crate::onnx::Model;
use crate::pipeline::evidence::Evidence;
use crate::pipeline::open::Subject;
use crate::pipeline::quality::{Gauge, Gauges};
use crate::pipeline::{Error, Options};
use crate::profile::{Kernel, Profile, ProfileError};
use crate::report::Note;
use crate::select::{self, Budget, CostModel, Limits};
use crate::surgery;
use crate::verify::{Check, Runs, Timing};

/// What says how long a run takes.
#[derive(Clone, Copy)]
pub(super) enum Clock<'a> {
    /// ONNX Runtime here.
    Here,
    /// The user's command or function.
    Elsewhere(&'a Elsewhere<'a>),
    /// A profile from elsewhere, as the model of the time that follows from it.
    Profile,
}

impl<'a> Clock<'a> {
    pub fn of(options: &Options, gauges: &'a Gauges<'_>) -> Clock<'a> {
        match (&gauges.clock, &options.profile) {
            (Some(elsewhere), _) => Clock::Elsewhere(elsewhere),
            (None, Some(_)) => Clock::Profile,
            (None, None) => Clock::Here,
        }
    }
}

/// The user's clock. Where it does not measure both models itself, each stands between two
/// measurements of the original, so that a device that gets slower or faster meanwhile is seen, and
/// allowed for.
pub(super) struct Elsewhere<'a> {
    gauge: Gauge<'a>,
    /// The last measurement of the original.
    last: Cell<Option<f64>>,
}

/// Two measurements of the original nearer to each other than this share stand for a quiet machine.
const QUIET: f64 = 0.03;
/// A model is measured so often at most.
const MOST_TURNS: usize = 3;

impl<'a> Elsewhere<'a> {
    pub fn of(gauge: Gauge<'a>) -> Elsewhere<'a> {
        let last = Cell::new(None);
        Elsewhere { gauge, last }
    }

    /// Milliseconds of the original.
    pub fn original(&self, original: &Model) -> Result<f64, Error> {
        if self.gauge.is_paired() {
            let [before, _] = self.gauge.both(original)?;
            return Ok(before);
        }
        self.gauge.original()
    }

    /// Milliseconds of the original and of a smaller model: of the first turn in which the original
    /// stays as it was, or of several the middle one.
    pub fn timing(&self, model: &Model) -> Result<Timing, Error> {
        if self.gauge.is_paired() {
            let [before, after] = self.gauge.both(model)?;
            return Ok(Timing::told(before, after));
        }
        let mut turns = Vec::with_capacity(MOST_TURNS);
        let mut first = self.last.get().map_or_else(|| self.gauge.again(), Ok)?;
        while turns.len() < MOST_TURNS {
            let after = self.gauge.measure(model)?;
            let second = self.gauge.again()?;
            self.last.set(Some(second));
            let turn = Timing::told(0.5 * (first + second), after);
            if (second - first).abs() <= QUIET * first {
                return Ok(turn);
            }
            turns.push(turn);
            first = second;
        }
        Ok(Timing::middle(turns))
    }
}

/// The time of a run as a function of the widths: from the user's profile of the original, or from
/// profiles of it and of narrower models on the device in use.
pub(super) fn model(
    subject: &Subject<'_>,
    given: Option<&Profile>,
    limits: &Limits,
) -> Result<CostModel, Error> {
    let (graph, groups) = (&subject.graph, &subject.groups);
    if let Some(profile) = given {
        tell(subject, profile)?;
        return Ok(CostModel::time(graph, groups, profile));
    }
    subject.observer.stage("profiling");
    let request = ClockRequest {
        model: &subject.model,
        graph,
        groups,
        limits,
        runtime: &subject.runtime,
        sample: &subject.samples.one()?,
    };
    let progress = |step| match step {
        Progress::Models(total) => {
            (subject.observer).counting("profiling narrower models", total, "models");
        }
        Progress::Done => subject.observer.advance(1),
    };
    Ok(clock::measure(request, &progress)?)
}

/// Says how much of a profile is of the model's nodes.
fn tell(subject: &Subject<'_>, profile: &Profile) -> Result<(), Error> {
    let layers = profile.kernels.iter();
    let layers = layers.filter(|kernel| kernel.milliseconds > 0.0).count();
    let strangers = select::strangers(&subject.graph, &subject.groups, profile);
    if strangers.len() == layers {
        let first = profile.kernels.first().map(|kernel| kernel.name.clone());
        return Err(ProfileError::Strange {
            layers,
            first: first.unwrap_or_default(),
        }
        .into());
    }
    let lost: f64 = strangers.iter().map(|kernel| kernel.milliseconds).sum();
    let matched = layers - strangers.len();
    let share = 100.0 * (1.0 - lost / profile.run);
    let mut text = format!(
        "profile: {matched} of {layers} layers, which take {share:.1} % of the time, are known as nodes of the model"
    );
    if let Some(longest) = strangers.first() {
        let Kernel {
            name, milliseconds, ..
        } = longest;
        text += &format!("; the longest of the others is '{name}' ({milliseconds:.3} ms)");
    }
    subject.observer.notes(&[text.into()]);
    Ok(())
}

/// The share of the original's time that a budget allows, where the model of the time is known.
pub(super) fn asked(
    subject: &Subject<'_>,
    budget: Budget,
    (clock, time): (Clock<'_>, &CostModel),
) -> Result<f64, Error> {
    let Budget::Milliseconds(wanted) = budget else {
        return Ok(budget.value());
    };
    let before = match clock {
        Clock::Here => times(subject, &subject.model)?.before,
        Clock::Elsewhere(elsewhere) => elsewhere.original(&subject.original)?,
        Clock::Profile => time.total(&subject.groups.widths()),
    };
    Ok(wanted / before)
}

/// The time of a run at these widths over the original's: measured, but for a profile.
pub(super) fn share(
    subject: &Subject<'_>,
    widths: &Widths,
    (clock, time): (Clock<'_>, &CostModel),
) -> Result<f64, Error> {
    match clock {
        Clock::Here => Ok(times(subject, &at_widths(subject, widths)?)?.share()),
        Clock::Elsewhere(elsewhere) => Ok(elsewhere.timing(&at_widths(subject, widths)?)?.share()),
        Clock::Profile => Ok(time.total(widths) / time.total(&subject.groups.widths())),
    }
}

/// A model of these widths: neither weights nor which channels stay make a difference to its time.
fn at_widths(subject: &Subject<'_>, widths: &Widths) -> Result<Model, Error> {
    let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
    Ok(surgery::at_widths(model, graph, groups, widths)?)
}

/// What a profile says of the time of a run at these widths, where nothing was measured.
pub(super) fn foretold(
    subject: &Subject<'_>,
    evidence: &Evidence,
    clock: Clock<'_>,
    widths: &Widths,
) -> Option<Note> {
    let (Clock::Profile, Evidence::Timed(.., time)) = (clock, evidence) else {
        return None;
    };
    let share = time.total(widths) / time.total(&subject.groups.widths());
    let text = format!(
        "by the profile a run takes {share:.3} of the time; it was not measured (`latency_command` does)"
    );
    Some(text.into())
}

/// How long the original and another model take here.
fn times(subject: &Subject<'_>, other: &Model) -> Result<Timing, Error> {
    let one = subject.samples.one()?;
    let mut check = Check::open(&subject.model, &[other], &subject.runtime)?;
    let found = check.latency(&one, Runs::MANY)?.pop();
    Ok(found.unwrap_or(Timing::told(f64::NAN, f64::NAN)))
}
