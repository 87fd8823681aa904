//! The front door of the library: it does what the program does, and says what is wrong in its own
//! words.

use std::fs;
use std::path::Path;

use onnx_mipp::flags::with_flags;
use onnx_mipp::{Budget, Calibration, Device, Limits, Model, Prune, Repair, RuntimeOptions};

use crate::program::{fixture, mipp, runtime, text};

const RESNET: &str = "resnet_bn_torchscript.onnx";

/// What `program` asks for too.
fn library() -> Prune {
    let here = RuntimeOptions {
        device: Device::Cpu,
        ..RuntimeOptions::default()
    };
    Prune::new()
        .calibration(Calibration::files([fixture("calib.npz")]).samples(64))
        .budget(Budget::Macs(0.5))
        .repair(Repair::Once)
        .runtime(here)
}

fn program(output: &Path, options: &[&str]) {
    let (model, data) = (fixture(RESNET), fixture("calib.npz"));
    let start = [text(&model), text(output), "--calib", text(&data), "-q"];
    let ends = ["--samples", "64", "--macs", "0.5", "--repair", "once"];
    mipp([start.as_slice(), &ends, options].concat()).done();
}

#[test]
fn the_library_and_the_program_are_one() {
    // Says how to run the tests where ONNX Runtime is missing.
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let [theirs, ours, stats] =
        ["theirs.onnx", "ours.onnx", "a.stats"].map(|name| folder.path().join(name));
    program(&theirs, &["--device", "cpu"]);
    let model = Model::load(fixture(RESNET)).unwrap();
    let pruned = library().save_statistics(&stats).run(&model).unwrap();
    pruned.save(&ours).unwrap();
    assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap());
    // Statistics that were saved tell what the data did, and so does the plan.
    let calibration = Calibration::files([fixture("calib.npz")]).samples(64);
    let again = library().calibration(calibration.statistics([&stats]));
    assert!(again.run(&model).unwrap().model == pruned.model);
    let planned = library().plan(pruned.plan.clone()).run(&model).unwrap();
    assert!(planned.model == pruned.model);
    assert_eq!(planned.report.asked, "a plan");
    assert_eq!(pruned.report.command, None);
}

#[test]
fn a_sweep_gives_the_models_of_single_runs() {
    runtime();
    let model = Model::load(fixture(RESNET)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("a.stats");
    let budgets = [Budget::Macs(0.75), Budget::Ratio(0.5)];
    let run = library().save_statistics(&stats);
    let swept = run.sweep(&model, &budgets).unwrap();
    assert!(stats.is_file());
    // The budget of the run itself does not count in the sweep.
    for (pruned, asked) in swept.iter().zip(["--macs 0.75", "--ratio 0.5"]) {
        assert_eq!(pruned.report.asked, asked);
        assert_eq!(pruned.report.repair, "once");
    }
    let alone = Prune::new().budget(Budget::Ratio(0.5));
    let alone = alone.calibration(Calibration::files([fixture("calib.npz")]).samples(64));
    let alone = alone.repair(Repair::Once).run(&model).unwrap();
    assert!(alone.model == swept[1].model);
    let refused = [(&[][..], "none"), (&[Budget::Agreement(0.9)], "agreement")];
    for (budgets, found) in refused {
        let error = library().sweep(&model, budgets).unwrap_err().to_string();
        assert!(error.ends_with(&format!("found {found}")), "{error}");
    }
    let error = library().sweep(&model, &[Budget::Macs(2.0)]).unwrap_err();
    assert!(error.to_string().starts_with("`macs`: expected"), "{error}");
}

#[test]
fn models_in_memory_are_compared_as_their_files() {
    runtime();
    let [first, second] = [RESNET, "mobilenet_bn_torchscript.onnx"].map(fixture);
    let [one, other] = [&first, &second].map(|path| Model::load(path).unwrap());
    let found = library().compare(&one, &other).unwrap();
    let data = fixture("calib.npz");
    let asked = ["compare", text(&first), text(&second), "--calib"];
    let ends = [text(&data), "--samples", "64", "--device", "cpu", "--json"];
    let told = mipp([asked.as_slice(), &ends].concat()).done().out;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    // Through text as the other: reading a number may change its last bit.
    let ours = serde_json::to_string(&found).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    assert_eq!(ours["comparison"], told["comparison"]);
    assert_eq!(ours["bytes"], told["bytes"]);
    assert_eq!(found.original, None);
    assert!(found.to_string().starts_with("A is a model in memory\n"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = Model::load(fixture(RESNET)).unwrap();
    let limits = Limits {
        align: 0,
        ..Limits::default()
    };
    let runs = [
        (
            library().budget(Budget::Macs(2.0)),
            "`macs`: expected a number above 0 and up to 1, found 2",
        ),
        (
            library().budget(Budget::Ratio(f64::NAN)),
            "`ratio`: expected a number from 0 on and below 1, found NaN",
        ),
        (
            library().limits(limits),
            "`align`: expected a whole number from 1 to 1048576, found 0",
        ),
        (
            library().calibration(Calibration::default().samples(0)),
            "`samples`: expected a whole number from 1 to 100000000, found 0",
        ),
        (library().only(["[a"]), "`only`: error parsing glob '[a'"),
    ];
    for (run, words) in runs {
        let error = run.run(&model).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn errors_name_options_as_their_readers_do() {
    runtime();
    let model = Model::load(fixture(RESNET)).unwrap();
    let error = library().exclude(["no-such"]).inspect(&model).unwrap_err();
    let words = error.to_string();
    assert!(
        words.starts_with("`exclude` 'no-such' matches no node"),
        "{words}"
    );
    let flags = with_flags(&words);
    assert!(
        flags.starts_with("--exclude 'no-such' matches no node"),
        "{flags}"
    );
}
