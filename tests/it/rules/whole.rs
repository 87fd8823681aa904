//! Rules through the whole program, with its default repair: valid files that ONNX Runtime runs
//! alike with its optimisers and without.

use super::{attention, stacks, unfused, vision};
use crate::builder::Builder;
use crate::program::{mipp, python, text};
use onnx_mipp::onnx::Model;

const CHECK: &str = "
import sys
import numpy as np, onnx, onnxruntime as ort

def run(path, level, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return session.run(None, {session.get_inputs()[0].name: x})[0]

levels = ort.GraphOptimizationLevel
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    shape = [d.dim_value or 3 for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    left, right = run(path, levels.ORT_DISABLE_ALL, x), run(path, levels.ORT_ENABLE_ALL, x)
    error = np.abs(left - right).max() / np.abs(left).max()
    assert np.isfinite(left).all() and error < 1e-4, (path, error)
    print('good')
";

#[test]
fn each_rule_goes_through_the_program() {
    let models: [(&str, Builder); 8] = [
        ("fused", unfused::residual()),
        ("multi-query", attention::multi_query(false)),
        ("repeated", attention::multi_query(true)),
        ("experts", stacks::experts(false)),
        ("einsum", stacks::experts(true)),
        ("unpooled", vision::unpooled(true)),
        ("deformed", vision::deformed([1, 1], [6, 8, 3, 3], false)),
        ("masked", vision::deformed([1, 1], [6, 8, 3, 3], true)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    for (name, b) in models {
        let input = folder.path().join(format!("{name}.onnx"));
        let output = folder.path().join(format!("{name}-cut.onnx"));
        let model = Model { proto: b.finish() };
        std::fs::write(&input, model.encode().unwrap()).unwrap();
        let options = ["--ratio", "0.3", "--align", "1"];
        let run = mipp([text(&input), text(&output)].into_iter().chain(options)).done();
        let size = |path| std::fs::metadata(path).unwrap().len();
        assert!(size(&output) < size(&input), "{name}: {}", run.out);
        made.push(output);
    }
    let paths = made.iter().map(|path| text(path));
    let run = python(["-c", CHECK].into_iter().chain(paths)).done();
    assert_eq!(run.out.lines().count(), made.len());
}
