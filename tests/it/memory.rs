//! Peak memory must not grow with the number of calibration samples.

use std::path::Path;

use npyz::NpyFile;

use crate::program::{fixture, python, text};
use crate::small;

/// Runs a command and prints the peak of its resident memory in kilobytes. glibc raises the size
/// from which blocks go back to the system with the blocks that are freed, in whatever order the
/// threads do it: left to itself, the same command's peaks lie a fifth apart. With one thread, one
/// arena and that size held, they agree within half a percent.
const SCRIPT: &str = "import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL,
                         env=dict(os.environ, RAYON_NUM_THREADS='1', MALLOC_ARENA_MAX='1',
                                  MALLOC_MMAP_THRESHOLD_='65536'))
_, status, usage = os.wait4(child.pid, 0)
if status: sys.exit(f'ended with status {status}')
print(usage.ru_maxrss)";

fn peak(model: &Path, data: &Path, options: &[&str]) -> f64 {
    let output = tempfile::tempdir().unwrap();
    let output = output.path().join("out.onnx");
    let program = env!("CARGO_BIN_EXE_onnx-mipp");
    let start = [
        "-c",
        SCRIPT,
        program,
        text(model),
        text(&output),
        "--calib",
        text(data),
        "-q",
        "--threads",
        "1",
    ];
    let run = python([start.as_slice(), options].concat()).done();
    assert!(output.is_file());
    run.out.trim().parse().unwrap()
}

/// Fails when twice the samples take more than a tenth more memory.
fn holds(model: &Path, [once, twice]: [&Path; 2], options: &[&str]) {
    let (once, twice) = (peak(model, once, options), peak(model, twice, options));
    assert!(
        twice <= 1.1 * once,
        "{once} kB, and {twice} kB for twice the samples"
    );
}

#[test]
fn activations_are_not_kept() {
    // The activations of the convolutions' inputs take half a megabyte per sample: kept, 512 of
    // them would take more than all else.
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(fixture("calib.npz")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let array = NpyFile::new(archive.by_name("input.npy").unwrap()).unwrap();
    assert_eq!(array.shape(), [512, 1, 28, 28]);
    let values: Vec<f32> = array.into_vec().unwrap();
    let (once, twice) = (
        folder.path().join("once.npy"),
        folder.path().join("twice.npy"),
    );
    // With 1024, rows read most positions of a sample, which then come out as they are; with more
    // samples they read few of each, which are gathered, from then on the same number whatever the
    // samples.
    small::npy_f32(&once, &[2048, 1, 28, 28], &values.repeat(4));
    small::npy_f32(&twice, &[4096, 1, 28, 28], &values.repeat(8));
    let model = fixture("resnet_bn_torchscript.onnx");
    // With less than they are, so that both runs fill what is allowed.
    let options = ["--macs", "0.5", "--memory", "16"];
    holds(&model, [&once, &twice], &options);
}

#[test]
fn samples_are_not_kept() {
    // 110 kB per sample: kept, 512 more of them take 57 MB, a third of all.
    const SIDE: usize = 96;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut model = small::model();
    let graph = small::graph(&mut model);
    let side = Some(SIDE as i64);
    graph.input = vec![small::value("x", &[None, Some(3), side, side])];
    graph.output = vec![small::value("y", &[None, Some(8), side, side])];
    small::write(&model, &path("in.onnx"));
    let sample = small::noise(3 * SIDE * SIDE, 3);
    for (name, count) in [("once.npy", 512), ("twice.npy", 1024)] {
        small::npy_f32(&path(name), &[count, 3, SIDE, SIDE], &sample.repeat(count));
    }
    holds(
        &path("in.onnx"),
        [&path("once.npy"), &path("twice.npy")],
        &["--ratio", "0.5", "--batch", "8"],
    );
}
