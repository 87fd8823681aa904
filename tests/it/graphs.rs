//! Random graphs at random plans: a cut without repair equals the dense model whose removed
//! channels are masked where they are read.

pub mod net;

use crate::masked::find;
use net::{LAYERS, random};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{env, io::Write, path::PathBuf, process::Command};

const CASES: u32 = 64;
const OPSETS: [i64; 4] = [11, 13, 17, 20];
/// So many models go through the checker of the onnx package too.
const CHECKED: u64 = 12;

#[test]
fn a_cut_equals_the_masked_dense_model() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2411),
        max_shrink_iters: 64,
        // Graphs that squash all differences test nothing; they must be few.
        max_global_rejects: CASES / 8,
        ..ProptestConfig::default()
    });
    let layers = prop::collection::vec((0..LAYERS.len(), any::<u64>()), 3..9);
    let case = (any::<u64>(), 0..OPSETS.len(), layers);
    let outcome = runner.run(&case, |(seed, opset, layers)| {
        let found = find(random(OPSETS[opset], seed, &layers));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let share = random.random_range(0.2..0.8);
        let stays = found.plan(|_, _| random.random_bool(share));
        prop_assert!(
            !found.free().is_empty(),
            "nothing to prune: {:?}",
            found.frozen()
        );
        match std::panic::catch_unwind(|| found.compare(&stays)) {
            Ok((_, effect)) if effect.is_enough(&stays) => Ok(()),
            Ok((_, effect)) => Err(TestCaseError::reject(format!("{effect:?}"))),
            Err(panic) => {
                let text = panic.downcast::<String>().map(|text| *text);
                Err(TestCaseError::fail(text.unwrap_or_default()))
            }
        }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn random_models_pass_the_checker_of_the_onnx_package() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for seed in 0..CHECKED {
        let layers: Vec<_> = (0..LAYERS.len())
            .filter(|layer| (*layer as u64 + seed).is_multiple_of(3))
            .map(|layer| (layer, seed))
            .collect();
        let found = find(random(OPSETS[seed as usize % 4], seed, &layers));
        let pruned = found.check();
        for (name, model) in [("dense", &found.model), ("pruned", &pruned)] {
            let path = folder.path().join(format!("{name}{seed}.onnx"));
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(&model.encode().unwrap()).unwrap();
            paths.push(path);
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = env::var_os("ONNX_MIPP_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| root.join(".venv/bin/python"));
    let script = "import sys, onnx\n\
                  for path in sys.argv[1:]: onnx.checker.check_model(path, full_check=True)\n\
                  print(len(sys.argv) - 1)";
    let output = Command::new(&python)
        .args(["-c", script])
        .args(&paths)
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}: set ONNX_MIPP_PYTHON to a Python with onnx installed, or \
             make .venv in the root",
            python.display()
        )
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let count = String::from_utf8_lossy(&output.stdout);
    assert_eq!(count.trim(), (2 * CHECKED).to_string());
}
