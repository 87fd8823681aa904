//! Messages name an option as the library does, in backticks; here it gets its flag.

use std::borrow::Cow;

/// What the library calls an option, and what the command line does.
const NAMES: &[(&str, &str)] = &[
    ("agreement", "--agreement"),
    ("align", "--align"),
    ("batch", "--batch"),
    ("best_effort", "--best-effort"),
    ("calibration", "--calib"),
    ("color", "--color"),
    ("crop", "--crop"),
    ("device", "--device"),
    ("estimator", "--estimator"),
    ("exclude", "--exclude"),
    ("exif", "--exif"),
    ("heads", "--heads"),
    ("latency", "--latency"),
    ("latency_command", "--latency-command"),
    ("layout", "--layout"),
    ("library", "--onnxruntime"),
    ("macs", "--macs"),
    ("max_change", "--max-change"),
    ("max_drop", "--max-drop"),
    ("mean", "--mean"),
    ("memory", "--memory"),
    ("memory_limit", "--memory-limit"),
    ("metric", "--metric"),
    ("metric_timeout", "--metric-timeout"),
    ("mi", "--mi"),
    ("min_channels", "--min-channels"),
    ("normalized", "--prune-normalized"),
    ("only", "--only"),
    ("params", "--params"),
    ("plan", "--plan"),
    ("profile", "--profile"),
    ("ratio", "--ratio"),
    ("repair", "--repair"),
    ("resize", "--resize"),
    ("samples", "--samples"),
    ("save_statistics", "--stats-out"),
    ("scale", "--scale"),
    ("shape", "--shape"),
    ("size", "--size"),
    ("statistics", "--stats"),
    ("target", "--target"),
    ("std", "--std"),
    ("Prune::inspect", "`onnx-mipp inspect`"),
    ("Pruned::plan", "--plan-out"),
];

/// The flags that messages may name.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    let flags = NAMES.iter().map(|(_, flag)| *flag);
    flags.filter(|flag| flag.starts_with("--"))
}

/// A message of the library in the words of the command line: "lower `min_channels`" becomes
/// "lower --min-channels". Other words in backticks stay.
#[must_use]
pub fn with_flags(text: &str) -> Cow<'_, str> {
    if !text.contains('`') {
        return Cow::Borrowed(text);
    }
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        made.push_str(before);
        let flag = after.split_once('`').and_then(|(name, behind)| {
            let (_, flag) = NAMES.iter().find(|(known, _)| *known == name)?;
            Some((flag, behind))
        });
        (rest, _) = match flag {
            Some((flag, behind)) => (behind, made.push_str(flag)),
            None => (after, made.push('`')),
        };
    }
    made.push_str(rest);
    Cow::Owned(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library_get_their_flags_and_the_rest_stays() {
        let with = |text| with_flags(text).into_owned();
        assert_eq!(with("no name"), "no name");
        assert_eq!(
            with("lower `align` and `min_channels`"),
            "lower --align and --min-channels"
        );
        assert_eq!(
            with("run `onnx-mipp setup`, `shape` or `x"),
            "run `onnx-mipp setup`, --shape or `x"
        );
        assert_eq!(with("a`b`shape`"), "a`b--shape");
        assert_eq!(
            with("`Prune::inspect` says why"),
            "`onnx-mipp inspect` says why"
        );
    }
}
