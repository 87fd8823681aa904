//! What the program says of strange models and data: every error names a file, and no name of a
//! stranger acts on the terminal or passes for a line of the program.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_mipp::onnx::Model;
use onnx_mipp::onnx::proto::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tempfile::TempDir;

use crate::program::{Run, mipp, text};
use crate::small;

/// A terminal's title, a cleared screen, colour, a line of its own, C1's CSI, DEL and a reversed
/// order.
const EVIL: &str =
    "\x1b]0;owned\x07\x1b[2J\x1b[31m<script>\r\nonnx-mipp: all is well\u{9b}31m\u{7f}\u{202e}";

fn evil(name: &str) -> String {
    format!("{name}{EVIL}")
}

/// The small model with a strange name for everything that has one.
fn strange() -> Model {
    let mut model = small::model();
    let graph = small::graph(&mut model);
    for node in &mut graph.node {
        for name in node
            .name
            .iter_mut()
            .chain(&mut node.input)
            .chain(&mut node.output)
        {
            *name = evil(name);
        }
    }
    for tensor in &mut graph.initializer {
        tensor.name = Some(evil(tensor.name()));
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        value.name = Some(evil(value.name()));
    }
    graph.name = Some(evil("graph"));
    model
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\n' || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is wrong with a text that a stranger had a hand in.
fn wildness(text: &str) -> Option<&'static str> {
    let forged = |line: &str| line.starts_with("onnx-mipp: all is well");
    if text.contains(is_control) {
        Some("it acts")
    } else {
        text.lines().any(forged).then_some("a line is forged")
    }
}

#[track_caller]
fn is_tame(text: &str) {
    assert_eq!(wildness(text), None, "{text:?}");
}

/// What is wrong with what a run says; each error has to name one of the `files`.
fn fault(run: &Run, files: &[&Path]) -> Option<&'static str> {
    let wild = wildness(&run.err).or(wildness(&run.out));
    let name = |file: &&Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    match (run.code, run.err.split_once("onnx-mipp: error: ")) {
        _ if wild.is_some() => wild,
        (Some(0), None) => None,
        (Some(1), Some((_, message))) => {
            let is_named = files.iter().map(name).any(|name| message.contains(&name));
            (!is_named).then_some("it names no file")
        }
        _ => Some("it is no orderly end"),
    }
}

/// A model and data in a folder of their own.
struct Case {
    folder: TempDir,
    what: String,
    /// What is more on the command line.
    more: Vec<String>,
}

impl Case {
    fn new(what: &str, model: &[u8], data: &[u8]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("in.onnx"), model).unwrap();
        fs::write(folder.path().join("data.npy"), data).unwrap();
        let (what, more) = (what.to_owned(), Vec::new());
        Case { folder, what, more }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many of `inspect` and a pruning end in an error, and what is wrong with what they say.
    fn judge(&self) -> (usize, Vec<String>) {
        let [model, data, out] = ["in.onnx", "data.npy", "out.onnx"].map(|name| self.path(name));
        let words = [
            text(&model),
            text(&out),
            "--calib",
            text(&data),
            "--threads",
            "1",
            "--repair",
            "once",
        ];
        let default = ["--ratio".to_owned(), "0.5".to_owned()];
        let more = if self.more.is_empty() {
            &default
        } else {
            self.more.as_slice()
        };
        let pruned = mipp(words.into_iter().chain(more.iter().map(String::as_str)));
        let inspected = mipp(["inspect", text(&model), "--threads", "1"]);
        let mut files = vec![model.as_path(), &data];
        files.extend(self.more.iter().map(Path::new).filter(|path| path.exists()));
        let runs = [
            (&pruned, files.as_slice()),
            (&inspected, &[model.as_path()]),
        ];
        let faults = runs.iter().filter_map(|(run, files)| {
            let fault = fault(run, files)?;
            Some(format!(
                "{}: {fault}: {:?} {:?}",
                self.what, run.code, run.err
            ))
        });
        let errors = runs.iter().filter(|(run, _)| run.code == Some(1)).count();
        (errors, faults.collect())
    }
}

fn encoded(model: &Model) -> Vec<u8> {
    use prost::Message;
    model.proto.encode_to_vec()
}

fn data() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    small::calibration(file.path());
    fs::read(file.path()).unwrap()
}

type Change = fn(&mut GraphProto);

/// One fault each.
const CHANGES: [(&str, Change); 26] = [
    ("no initializer", |g| drop(g.initializer.remove(0))),
    ("no outputs", |g| g.output.clear()),
    ("an output of nothing", |g| {
        g.output[0].name = Some(evil("gone"))
    }),
    ("no inputs", |g| g.input.clear()),
    ("an input without a type", |g| g.input[0].r#type = None),
    ("a cycle", |g| {
        g.node[0].input[0] = g.node[1].output[0].clone()
    }),
    ("two nodes of one name", |g| {
        g.node[1].name = g.node[0].name.clone()
    }),
    ("a value made twice", |g| {
        g.node[1].output = g.node[0].output.clone()
    }),
    ("nothing read", |g| g.node[1].input.clear()),
    ("an unknown operator", |g| {
        g.node[1].op_type = Some(evil("Op"))
    }),
    ("an unknown domain", |g| {
        g.node[1].domain = Some(evil("domain"))
    }),
    ("another operator", |g| {
        g.node[1].op_type = Some("Gemm".into())
    }),
    ("an unknown attribute", |g| {
        let mut attribute = g.node[0].attribute[0].clone();
        attribute.name = Some(evil("attribute"));
        g.node[1].attribute.push(attribute);
    }),
    ("negative pads", |g| {
        g.node[0].attribute[0].ints = vec![-9; 4]
    }),
    ("too few pads", |g| g.node[0].attribute[0].ints.truncate(3)),
    ("a text for pads", |g| {
        g.node[0].attribute[0].r#type = Some(attribute_proto::AttributeType::String as i32);
        g.node[0].attribute[0].s = Some(EVIL.as_bytes().to_vec().into());
    }),
    ("a negative size", |g| g.initializer[0].dims[0] = -1),
    ("a large size", |g| g.initializer[0].dims[0] = i64::MAX),
    ("another size", |g| {
        g.initializer[2].dims = vec![16, 8, 1, 1]
    }),
    ("an unknown type", |g| g.initializer[0].data_type = Some(99)),
    ("a bias of another length", |g| {
        g.node[0].input[2] = g.node[2].input[2].clone()
    }),
    ("cut values", |g| {
        let raw = g.initializer[0].raw_data.clone().unwrap();
        g.initializer[0].raw_data = Some(raw.slice(..raw.len() - 3));
    }),
    ("values that overflow", |g| {
        let raw = g.initializer[0].raw_data.clone().unwrap();
        let huge = f32::MAX.to_le_bytes().repeat(raw.len() / 4);
        g.initializer[0].raw_data = Some(huge.into());
    }),
    ("an external file that is not there", |g| {
        external(g, "gone\x1b[31m.bin")
    }),
    ("an external file elsewhere", |g| {
        external(g, "../../\x1b[2Jsecret")
    }),
    ("a graph input of texts", |g| {
        let mut value = small::value(&evil("texts"), &[None]);
        if let Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..
        }) = &mut value.r#type
        {
            tensor.elem_type = Some(8);
        }
        g.input.push(value);
    }),
];

fn external(graph: &mut GraphProto, location: &str) {
    let tensor = &mut graph.initializer[0];
    tensor.raw_data = None;
    tensor.data_location = Some(tensor_proto::DataLocation::External as i32);
    tensor.external_data.push(StringStringEntryProto {
        key: Some("location".to_owned()),
        value: Some(location.to_owned()),
    });
}

/// Bytes that are changed, left out, doubled or cut off at places that are the same in every run.
fn mutant(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let mut bytes = bytes.to_vec();
    // The start is where the structure is.
    let reach = if below(2) == 0 {
        bytes.len()
    } else {
        bytes.len().min(400)
    };
    for _ in 0..=below(3) {
        let at = below(reach.min(bytes.len()));
        match below(4) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = [0, 0x1b, 0x7f, 0x80, 0xff][below(5)],
            2 => bytes.truncate(at + 1),
            _ => drop(bytes.splice(at..at, [0xff; 9])),
        }
    }
    bytes
}

#[test]
fn errors_name_a_file_and_strange_names_do_nothing() {
    let (model, data) = (encoded(&strange()), data());
    let mut cases = vec![Case::new("as it is", &model, &data)];
    for (what, change) in CHANGES {
        let mut changed = strange();
        change(small::graph(&mut changed));
        cases.push(Case::new(what, &encoded(&changed), &data));
    }
    let mut without = strange();
    without.proto.graph = None;
    cases.push(Case::new("no graph", &encoded(&without), &data));
    let mut old = strange();
    old.proto.opset_import[0].version = Some(3);
    cases.push(Case::new("an old opset", &encoded(&old), &data));
    for seed in 0..40 {
        let changed = mutant(&model, seed);
        cases.push(Case::new(&format!("model {seed}"), &changed, &data));
        let changed = mutant(&data, seed);
        cases.push(Case::new(&format!("data {seed}"), &model, &changed));
    }
    cases.extend(option_cases(&model, &data));
    cases.extend(file_cases(&model, &data));
    let found: Vec<(usize, Vec<String>)> = cases.par_iter().map(Case::judge).collect();
    let errors: usize = found.iter().map(|(errors, _)| errors).sum();
    let faults = found.iter().flat_map(|(_, faults)| faults);
    let faults: Vec<&str> = faults.map(String::as_str).collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(errors > 120, "only {errors} errors");
}

/// Options that cannot be done.
fn option_cases(model: &[u8], data: &[u8]) -> Vec<Case> {
    let options = [
        (
            "an idle pattern",
            vec!["--exclude", "gone\u{9b}31m\nonnx-mipp: all is well"],
        ),
        ("no such budget", vec!["--macs", "0.0001"]),
        (
            "a shape of nothing",
            vec!["--shape", "gone\x1b[31m=1,3,8,8"],
        ),
        ("another shape", vec!["--shape", "x=1,3,8,8"]),
        ("too few samples", vec!["--samples", "1", "--batch", "4"]),
    ];
    let case = |(what, more): (&str, Vec<&str>)| {
        let mut case = Case::new(what, model, data);
        case.more = more.into_iter().map(str::to_owned).collect();
        case
    };
    options.into_iter().map(case).collect()
}

/// Files beside the model that are not what an option takes.
fn file_cases(model: &[u8], data: &[u8]) -> Vec<Case> {
    let files = [
        (
            "--plan",
            format!("{{\"groups\": [{{\"name\": {EVIL:?}}}]}}").into_bytes(),
        ),
        ("--plan", b"{\"version\": \"\x1b[31m\"".to_vec()),
        ("--plan", plan(&evil("other"))),
        ("--stats", b"onnx-mipp \x1b[31m".to_vec()),
        (
            "--config",
            format!("macs = 0.5\n\"{}\" = 1\n", "\\u001b[31mevil").into_bytes(),
        ),
        ("--config", b"macs = \"\x1b[31m\"\n".to_vec()),
    ];
    let case = |(option, content): (&str, Vec<u8>)| {
        let mut case = Case::new(option, model, data);
        let path = case.path("extra.file");
        fs::write(&path, content).unwrap();
        case.more = vec![option.to_owned(), text(&path).to_owned()];
        case
    };
    files.into_iter().map(case).collect()
}

/// A plan of one group of this name.
fn plan(name: &str) -> Vec<u8> {
    let group = serde_json::json!({"name": name, "channels": 16, "kept": [0, 1], "places": []});
    serde_json::json!({"version": "0.1.0", "groups": [group]})
        .to_string()
        .into_bytes()
}

#[test]
fn strange_names_stand_in_reports_and_are_themselves_in_json() {
    let case = Case::new("reports", &encoded(&strange()), &data());
    let [model, data, page] = ["in.onnx", "data.npy", "page.html"].map(|name| case.path(name));
    let words = [
        text(&model),
        "--dry-run",
        "--ratio",
        "0.5",
        "--repair",
        "once",
        "--calib",
        text(&data),
    ];
    let run = mipp(words.into_iter().chain(["--report", text(&page)])).done();
    is_tame(&run.out);
    assert!(run.out.contains(r"first\u{1b}]0;owned"), "{}", run.out);
    let page = fs::read_to_string(page).unwrap();
    assert!(!page.contains(is_control), "{page:?}");
    // The page's own.
    assert_eq!(page.matches("<script").count(), 1);
    let run = mipp(words.into_iter().chain(["--json"])).done();
    is_tame(&run.out);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["groups"][0]["name"], evil("first"));
    let run = mipp(["inspect", text(&model)]).done();
    is_tame(&run.out);
}

#[test]
#[cfg(unix)]
fn strange_files_are_named_without_acting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(format!("a{}.onnx", EVIL.replace('/', "")));
    fs::write(&path, "no model").unwrap();
    let run = mipp(["inspect", text(&path)]).fails(1, &[r"\u{1b}[2J"]);
    is_tame(&run.err);
    is_tame(&mipp(["inspect", text(&path), EVIL]).fails(2, &[]).err);
}
