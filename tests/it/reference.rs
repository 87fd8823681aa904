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

    /// Fails where one does not fit, or its schema would take it with a field of another type or
    /// without one.
    fn validate(&self) -> Run {
        self.check(&[])
    }

    /// Fails where one fits.
    fn refuse(&self) -> Run {
        self.check(&["--refused"])
    }

    fn check(&self, how: &[&str]) -> Run {
        let script = root().join("tests/it/validate.py");
        let pairs = self
            .pairs
            .iter()
            .flat_map(|(schema, path)| [*schema, text(path)]);
        let words = [text(&script)].into_iter().chain(how.iter().copied());
        python(words.chain(pairs))
    }
}

#[test]
fn reports_and_plans_fit_their_schemas() {
    let mut desk = Desk::new();
    let model = fixture(RESNET);
    let resnet = text(&model);
    let [half, plan, page] = ["half.onnx", "plan.json", "page.html"].map(|name| desk.path(name));
    let files = ["--plan-out", text(&plan), "--report", text(&page)];
    let budget = ["--macs", "0.5", "--repair", "once"];
    let words = [&[resnet, text(&half)], &budget[..], &files].concat();
    let report = desk.report("report.json", &words);
    assert!(report["trade_off"].as_array().unwrap().len() > 1);
    desk.keep_file("plan.json", &plan);

    let report = desk.report("report.json", &[resnet, "--dry-run"]);
    assert!(report["search"].is_object());
    let profile = desk.path("profile.json");
    let layer = json!({"name": "/stem/stem.0/Conv", "averageMs": 1});
    fs::write(&profile, json!([layer]).to_string()).unwrap();
    let clock = ["--latency-command", "echo {model} && echo 5"];
    let profile = ["--profile", text(&profile), "--repair", "none"];
    let budget = ["--dry-run", "--latency", "0.8", "--best-effort"];
    let words = [&[resnet], &budget[..], &clock, &profile].concat();
    let report = desk.report("report.json", &words);
    assert!(report["candidates"][0].is_object());
    let compared = desk.report("compare.json", &["compare", resnet, text(&half)]);
    assert!(compared["comparison"]["divergence"].is_object());
    let folder = desk.folder.path().to_owned();
    let words = [
        "sweep",
        resnet,
        "--macs",
        "0.8,0.5",
        "--repair",
        "none",
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
fn reports_of_sizes_and_qualities_fit_their_schema() {
    let mut desk = Desk::new();
    let model = fixture(RESNET);
    let resnet = text(&model);
    let size = ["--size", "0.6", "--repair", "none"];
    desk.report(
        "report.json",
        &[&[resnet, "--dry-run"], size.as_slice()].concat(),
    );
    let quality = [
        "--agreement",
        "0.7",
        "--max-drop",
        "0.1",
        "--metric",
        "echo {model} && echo 0.5",
    ];
    let words = [&[resnet, "--dry-run"], quality.as_slice()].concat();
    let report = desk.report("report.json", &words);
    let bounds = report["search"]["bounds"].as_array().unwrap();
    assert!(
        report["metric"].is_object() && bounds.len() == 2,
        "{bounds:?}"
    );
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
    desk.refuse().fails(1, &["fits plan.json"]);
    let mut desk = Desk::new();
    for wrong in other {
        desk.keep("plan.json", &plan(wrong));
    }
    desk.refuse().done();
    desk.validate().fails(1, &["does not fit plan.json"]);
}

/// Files of options that a command reads.
struct Options {
    schema: &'static str,
    /// The command without the file.
    words: &'static [&'static str],
    right: &'static [&'static str],
    wrong: &'static [&'static str],
}

const OPTIONS: [Options; 4] = [
    Options {
        schema: "config.json",
        words: &["no-such.onnx", "out.onnx"],
        right: &[
            "macs = 0.5",
            "size = \"3.5MB\"\nlatency = 0.5",
            "size = 3500000\ntarget = \"tensorrt-int8\"",
            "calib = \"a.npz\"\nmean = [0.5, 1]\nstd = 1\nshape = [\"x=1,3,8,8\"]",
            "heads = \"inside\"\nseed = 7\ndevice = \"cpu\"\nquiet = false\nrepair = \"none\"",
        ],
        wrong: &[
            "maks = 0.5",
            "config = \"other.toml\"",
            "macs = 0",
            "macs = 2.0",
            "macs = [0.5]",
            "ratio = 1.0",
            "size = -1",
            "samples = 0",
            "samples = 1.5",
            "target = \"toaster\"",
            "heads = \"most\"",
            "quiet = 1",
            "align = [1, 2]",
            "std = []",
            "calib = true",
        ],
    },
    Options {
        schema: "config-sweep.json",
        // Without a budget on the command line it does not look at the file.
        words: &["sweep", "no-such.onnx", "--mi", "0.9"],
        right: &["macs = [0.5, 1]\nsize = [\"3MB\", 0.5]", "ratio = 0.5"],
        wrong: &["plan = \"p.json\"", "align = 0"],
    },
    Options {
        schema: "config-compare.json",
        words: &["compare", "no-such.onnx", "nor-this.onnx"],
        right: &["threads = 2\ncalib = [\"a.npz\", \"b.npz\"]"],
        wrong: &["macs = 0.5", "threads = 0"],
    },
    Options {
        schema: "config-inspect.json",
        words: &["inspect", "no-such.onnx"],
        right: &["exclude = [\"/head/**\"]\nmemory-limit = 512"],
        wrong: &["macs = 0.5", "json = \"yes\""],
    },
];

#[test]
fn files_of_options_fit_their_schemas_where_the_program_reads_them() {
    let page = fs::read_to_string(root().join("docs/reference/formats.md")).unwrap();
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let (mut right, mut wrong) = (Desk::new(), Desk::new());
    for file in OPTIONS {
        let (schema, words) = (file.schema, file.words);
        let path = right.path("options.toml");
        let run = |options: &str| {
            fs::write(&path, options).unwrap();
            let config = ["--config", text(&path)];
            mipp([words, config.as_slice()].concat())
        };
        let json = |options: &str| toml::from_str::<Value>(options).unwrap().to_string();
        let of_page = [example].into_iter().filter(|_| schema == "config.json");
        for options in file.right.iter().copied().chain(of_page) {
            // The model is what the program then looks for.
            let error = run(options).fails(1, &["no-such.onnx"]).err;
            assert!(!error.contains("options.toml"), "{options}: {error}");
            right.keep(schema, &json(options));
        }
        for options in file.wrong {
            run(options).fails(1, &["options.toml"]);
            wrong.keep(schema, &json(options));
        }
    }
    right.validate().done();
    wrong.refuse().done();
}
