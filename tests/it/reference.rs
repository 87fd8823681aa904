//! docs/reference against the program: the page of the command line is what it prints, and what it
//! writes fits the JSON Schemas.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::program::{Run, fixture, mipp, python, root, text};

const RESNET: &str = "resnet_bn_torchscript.onnx";

/// Before the commands' help.
const HEAD: &str = "\
# Command line

`onnx-mipp IN.onnx OUT.onnx --calib DATA` prunes a model; the commands below look at models, compare
them and set the program up. Options may also stand in a file ([formats](formats.md#options)).

This page is what the program's `--help` prints. A test compares them, and
`UPDATE_DOCS=1 cargo test --test it command_line` writes the page anew.
";

fn help(words: &[&str]) -> String {
    let run = mipp([words, &["--help"]].concat()).done();
    assert_eq!(run.err, "");
    run.out
}

/// The names under "Commands:" of the program's help.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn the_page_of_the_command_line_is_the_help() {
    let whole = help(&[]);
    let mut page = format!(
        "{HEAD}\n## onnx-mipp\n\n```text\n{}\n```\n",
        whole.trim_end()
    );
    let commands = commands(&whole);
    assert!(commands.len() >= 6, "{commands:?}");
    for name in commands {
        let help = help(&[name]);
        page += &format!(
            "\n## onnx-mipp {name}\n\n```text\n{}\n```\n",
            help.trim_end()
        );
    }
    let path = root().join("docs/reference/command-line.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == page,
        "{} is not what --help prints: run the test with UPDATE_DOCS=1",
        path.display()
    );
    let version = mipp(["--version"]).done().out;
    assert_eq!(
        version.trim(),
        concat!("onnx-mipp ", env!("CARGO_PKG_VERSION"))
    );
}

/// A folder of outputs, and the schemas that they have to fit.
struct Desk {
    folder: tempfile::TempDir,
    pairs: Vec<(&'static str, PathBuf)>,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            folder: tempfile::tempdir().unwrap(),
            pairs: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keeps a JSON text for the check, and returns it read.
    fn keep(&mut self, schema: &'static str, content: &str) -> Value {
        let path = self.path(&format!("{}.json", self.pairs.len()));
        fs::write(&path, content).unwrap();
        self.pairs.push((schema, path));
        serde_json::from_str(content).unwrap()
    }

    fn keep_file(&mut self, schema: &'static str, path: &Path) -> Value {
        self.keep(schema, &fs::read_to_string(path).unwrap())
    }

    /// Runs the program on few samples, and keeps what it prints.
    fn report(&mut self, schema: &'static str, words: &[&str]) -> Value {
        let data = fixture("calib.npz");
        let few = [
            "--calib",
            text(&data),
            "--samples",
            "64",
            "--quiet",
            "--json",
        ];
        let run = mipp([words, few.as_slice()].concat()).done();
        self.keep(schema, &run.out)
    }

    fn validate(&self) -> Run {
        let script = root().join("tests/it/validate.py");
        let pairs = self
            .pairs
            .iter()
            .flat_map(|(schema, path)| [*schema, text(path)]);
        python([text(&script)].into_iter().chain(pairs))
    }
}

#[test]
fn reports_and_plans_fit_their_schemas() {
    let mut desk = Desk::new();
    let model = fixture(RESNET);
    let resnet = text(&model);
    let [half, plan, page] = ["half.onnx", "plan.json", "page.html"].map(|name| desk.path(name));
    let files = ["--plan-out", text(&plan), "--report", text(&page)];
    let words = [&[resnet, text(&half), "--macs", "0.5"], files.as_slice()].concat();
    let report = desk.report("report.json", &words);
    assert!(report["trade_off"].as_array().unwrap().len() > 1);
    desk.keep_file("plan.json", &plan);

    let report = desk.report("report.json", &[resnet, "--dry-run"]);
    assert!(report["search"].is_object());
    let report = desk.report("report.json", &[resnet, "--dry-run", "--latency", "0.8"]);
    assert!(report["candidates"][0].is_object());
    let compared = desk.report("compare.json", &["compare", resnet, text(&half)]);
    assert!(compared["comparison"]["divergence"].is_object());
    let folder = desk.folder.path().to_owned();
    let words = [
        "sweep",
        resnet,
        "--macs",
        "0.8,0.5",
        "--out-dir",
        text(&folder),
    ];
    desk.report("sweep.json", &words);

    let report = mipp([resnet, "--dry-run", "--quiet", "--json"]).done();
    let report = desk.keep("report.json", &report.out);
    assert!(report["comparison"].is_null());
    let found = mipp(["inspect", resnet, "--json"]).done();
    desk.keep("inspection.json", &found.out);
    // Where linear layers alone read and make channels, combinations stay.
    let mobilenet = fixture("mobilenet_bn_torchscript.onnx");
    let plan = desk.path("combined.json");
    let words = [
        text(&mobilenet),
        "--dry-run",
        "--ratio",
        "0.5",
        "--repair",
        "once",
        "--plan-out",
        text(&plan),
    ];
    desk.report("report.json", &words);
    let plan = desk.keep_file("plan.json", &plan);
    let groups = plan["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["combined"] == json!(true)));
    desk.validate().done();
}

#[test]
fn files_of_statistics_are_as_described() {
    let mut desk = Desk::new();
    let (model, file) = (fixture(RESNET), desk.path("x.stats"));
    let words = [text(&model), "--dry-run", "--stats-out", text(&file)];
    desk.report("report.json", &words);
    let bytes = fs::read(&file).unwrap();
    let (content, digest) = bytes.split_at(bytes.len() - 32);
    assert_eq!(Sha256::digest(content).as_slice(), digest);
    let rest = content.strip_prefix(b"onnx-mipp statistics 3\n\0").unwrap();
    let (length, rest) = rest.split_first_chunk().unwrap();
    let (header, sums) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    desk.keep("statistics.json", str::from_utf8(header).unwrap());
    assert!(sums.len() > 8 && sums.len().is_multiple_of(8));
    desk.validate().done();
}

#[test]
fn what_a_schema_does_not_describe_is_refused() {
    let group = json!({"name": "a", "channels": 2, "kept": [0]});
    let plan = |group: Value| json!({ "groups": [group] }).to_string();
    let mut other = [group.clone(), group.clone(), group.clone(), group.clone()];
    other[0]["new"] = json!(1);
    other[1]["kept"] = json!([-1]);
    other[2].as_object_mut().unwrap().remove("channels");
    other[3]["name"] = json!(null);
    let mut desk = Desk::new();
    desk.keep("plan.json", &plan(group));
    desk.validate().done();
    for wrong in other {
        let mut desk = Desk::new();
        desk.keep("plan.json", &plan(wrong));
        desk.validate().fails(1, &["does not fit plan.json"]);
    }
}
