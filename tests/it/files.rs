//! The user's files: what is read stays as it is, what is written appears whole or not at all.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onnx_mipp::onnx;
use tempfile::TempDir;

use crate::program::{fixture, listing, mipp, python, text};

const RESNET: &str = "resnet_bn_torchscript.onnx";

/// A folder with the data and a model whose weights lie in a file of their own.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        fs::copy(fixture("calib.npz"), desk.path("calib.npz")).unwrap();
        let script = "import onnx, sys
onnx.save(onnx.load(sys.argv[1]), sys.argv[2], save_as_external_data=True, location='model.onnx.data', size_threshold=0)";
        let model = desk.path("model.onnx");
        python(["-c", script, text(&fixture(RESNET)), text(&model)]).done();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The arguments of a short run from `input` to `output`.
    fn run(&self, input: &str, output: &str, more: &[&str]) -> Vec<String> {
        let paths = [self.path(input), self.path(output), self.path("calib.npz")];
        let [input, output, data] = paths.map(|path| text(&path).to_owned());
        let mut words = vec![input, output, "--calib".to_owned(), data];
        let few = ["--samples", "16", "--macs", "0.5", "--repair", "once"];
        words.extend(few.iter().chain(more).map(|word| (*word).to_owned()));
        words
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let names = listing(self.0.path()).into_iter();
        let read = names.filter(|name| self.path(name).is_file());
        read.map(|name| {
            let bytes = fs::read(self.path(&name)).unwrap();
            (name, bytes)
        })
        .collect()
    }
}

#[test]
fn a_copy_that_points_to_the_data_of_the_target_keeps_them() {
    let desk = Desk::new();
    fs::copy(desk.path("model.onnx"), desk.path("original.onnx")).unwrap();
    let before = onnx::load(&desk.path("original.onnx")).unwrap().digest();
    // Twice: the data of the first result leave with it, those of the user stay.
    for more in [[].as_slice(), &["--exclude", "/stem/**"]] {
        mipp(desk.run("original.onnx", "model.onnx", more)).done();
        let after = onnx::load(&desk.path("original.onnx")).unwrap().digest();
        assert_eq!(after, before);
        assert_ne!(
            onnx::load(&desk.path("model.onnx")).unwrap().digest(),
            before
        );
        assert_eq!(
            listing(desk.0.path()).len(),
            5,
            "{:?}",
            listing(desk.0.path())
        );
    }
}

#[test]
fn no_output_takes_the_place_of_anything_that_is_read() {
    let desk = Desk::new();
    fs::write(desk.path("options.toml"), "samples = 16\n").unwrap();
    let plan = desk.path("plan.json");
    mipp(desk.run(
        "model.onnx",
        "first.onnx",
        &[
            "--plan-out",
            text(&plan),
            "--stats-out",
            text(&desk.path("a.stats")),
        ],
    ))
    .done();
    symlink(desk.path("model.onnx.data"), desk.path("link")).unwrap();
    fs::hard_link(desk.path("calib.npz"), desk.path("hard")).unwrap();
    let before = desk.contents();
    let options = desk.path("options.toml");
    let stats = desk.path("a.stats");
    for (option, name, what) in [
        ("--report", "calib.npz", "calibration data"),
        ("--report", "hard", "calibration data"),
        ("--plan-out", "model.onnx.data", "input's data"),
        ("--plan-out", "link", "input's data"),
        ("--report", "options.toml", "file of options"),
        ("--report", "a.stats", "file of statistics that is read"),
    ] {
        let path = desk.path(name);
        let read = ["--config", text(&options), "--stats", text(&stats)];
        let words = [read.as_slice(), &[option, text(&path)]].concat();
        let mut words = desk.run("model.onnx", "out.onnx", &words);
        // Once is enough.
        words.retain(|word| word != "--samples" && word != "16");
        mipp(words).fails(1, &[name, &format!("this is the {what} itself")]);
    }
    let own = ["--plan", text(&plan), "--report", text(&plan)];
    let mut words = desk.run("model.onnx", "out.onnx", &own);
    words.retain(|word| word != "--macs" && word != "0.5");
    mipp(words).fails(1, &["plan.json", "plan that is read"]);
    let data = desk.run("model.onnx", "model.onnx.data", &[]);
    mipp(data).fails(1, &["model.onnx.data", "input's data"]);
    assert_eq!(desk.contents(), before);
}

#[test]
fn a_run_that_fails_at_its_last_file_leaves_none() {
    let desk = Desk::new();
    let before = desk.contents();
    // The folder of the report goes while the run works.
    fs::create_dir(desk.path("gone")).unwrap();
    let files = ["plan.json", "gone/report.json"].map(|name| desk.path(name));
    let files = ["--plan-out", text(&files[0]), "--report", text(&files[1])];
    let mut child = start(&desk.run("model.onnx", "out.onnx", &files), |_| {});
    fs::remove_dir(desk.path("gone")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(desk.contents(), before);
}

#[test]
fn what_is_no_regular_file_is_not_read() {
    let desk = Desk::new();
    assert!(
        Command::new("mkfifo")
            .arg(desk.path("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let named = |name: &str, extension: &str| {
        let path = desk.path(&format!("{name}.{extension}"));
        symlink(desk.path("pipe"), &path).unwrap();
        path
    };
    let words = ["pipe.onnx", "no regular file"];
    named("pipe", "onnx");
    mipp(desk.run("pipe.onnx", "out.onnx", &[])).fails(1, &words);
    for extension in ["npy", "npz", "pb", "png"] {
        let path = named("data", extension);
        let paths = [desk.path("model.onnx"), desk.path("out.onnx")];
        let run = mipp([text(&paths[0]), text(&paths[1]), "--calib", text(&path)]);
        run.fails(1, &[text(&path), "no regular file"]);
    }
    for option in ["--stats", "--config"] {
        let path = desk.path("pipe");
        let words = desk.run("model.onnx", "out.onnx", &[option, text(&path)]);
        mipp(words).fails(1, &["pipe", "no regular file"]);
    }
}

#[test]
fn links_of_a_model_cache_open_and_lead_nowhere_else() {
    let desk = Desk::new();
    for folder in ["blobs", "snapshots"] {
        fs::create_dir(desk.path(folder)).unwrap();
    }
    for (name, blob) in [("model.onnx", "blobs/1"), ("model.onnx.data", "blobs/2")] {
        fs::rename(desk.path(name), desk.path(blob)).unwrap();
        symlink(
            Path::new("..").join(blob),
            desk.path("snapshots").join(name),
        )
        .unwrap();
    }
    let inspect = |path: &Path| mipp(["inspect", text(path)]);
    let model = desk.path("snapshots/model.onnx");
    let session = "import onnxruntime as o, sys; o.InferenceSession(sys.argv[1])";
    python(["-c", session, text(&model)]).done();
    inspect(&model).done();
    mipp(desk.run("snapshots/model.onnx", "out.onnx", &[])).done();
    // A link to the model alone, whose data lie beside it.
    fs::rename(desk.path("blobs/2"), desk.path("blobs/model.onnx.data")).unwrap();
    symlink(desk.path("blobs/1"), desk.path("snapshots/alone.onnx")).unwrap();
    fs::remove_file(desk.path("snapshots/model.onnx.data")).unwrap();
    inspect(&desk.path("snapshots/alone.onnx")).done();
    // Out of the folder of the model itself there is no way.
    fs::rename(desk.path("blobs/model.onnx.data"), desk.path("secret")).unwrap();
    symlink(desk.path("secret"), desk.path("blobs/model.onnx.data")).unwrap();
    inspect(&desk.path("snapshots/alone.onnx")).fails(1, &["outside the model's folder"]);
}

#[test]
fn a_stream_that_cannot_be_written_costs_no_model() {
    let desk = Desk::new();
    let words = desk.run("model.onnx", "out.onnx", &[]);
    let run = |out: Stdio, err: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"));
        let status = command.args(&words).stdout(out).stderr(err).status();
        let made = desk.path("out.onnx").exists();
        let _ = fs::remove_file(desk.path("out.onnx"));
        (status.unwrap().code(), made)
    };
    let full = || Stdio::from(fs::File::create("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    assert_eq!(run(Stdio::null(), closed()), (Some(0), true));
    assert_eq!(run(Stdio::null(), full()), (Some(0), true));
    assert_eq!(run(closed(), Stdio::null()), (Some(0), true));
    // The report was asked for and is lost.
    assert_eq!(run(full(), Stdio::null()), (Some(1), true));
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"));
    let status = command
        .args(["none.onnx", "out.onnx"])
        .stderr(full())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// Starts the program and waits until it calibrates.
fn start(words: &[String], set: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"));
    command
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    set(&mut command);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = lines
        .map_while(Result::ok)
        .any(|line| line.contains("calibrating"));
    assert!(begun);
    child
}

#[test]
fn a_signal_ends_a_run_at_once_and_leaves_nothing() {
    let desk = Desk::new();
    let before = desk.contents();
    let temporary = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // Much to do, and activations that go to a temporary file.
        let long = [
            "--memory",
            "0",
            "--samples",
            "1000",
            "--repair",
            "sequential",
        ];
        let mut words = desk.run("model.onnx", "out.onnx", &[]);
        words.truncate(4);
        words.extend(long.map(str::to_owned));
        let mut child = start(&words, |command| {
            command.env("TMPDIR", temporary.path());
        });
        let begin = Instant::now();
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "SIG{signal}");
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(desk.contents(), before);
        assert_eq!(listing(temporary.path()), Vec::<String>::new());
    }
}

#[test]
fn what_a_killed_run_left_is_told() {
    let desk = Desk::new();
    let words = desk.run("model.onnx", "out.onnx", &[]);
    let left = desk.path(".onnx-mipp-abc.tmp");
    let sentence = format!("a run that was killed left {}; it", text(&left));
    assert!(!mipp(&words).done().err.contains(&sentence));
    fs::write(&left, "").unwrap();
    let told = mipp(&words).done().err;
    assert!(told.contains(&sentence), "{told}");
    // One that a run is at work on.
    let file = fs::File::open(&left).unwrap();
    file.lock().unwrap();
    assert!(!mipp(&words).done().err.contains(&sentence));
}

#[test]
fn a_killed_run_leaves_the_old_model_or_the_new_one() {
    let desk = Desk::new();
    let words = desk.run("model.onnx", "out.onnx", &["--threads", "1", "-q"]);
    mipp(&words).done();
    let new = onnx::load(&desk.path("out.onnx")).unwrap().digest();
    let keep: Vec<_> = desk.contents();
    mipp(desk.run("model.onnx", "out.onnx", &["--exclude", "/stem/**"])).done();
    let old = onnx::load(&desk.path("out.onnx")).unwrap().digest();
    assert_ne!(old, new);
    let begin = Instant::now();
    mipp(&words).done();
    let whole = begin.elapsed();
    for part in 1..=5 {
        mipp(desk.run("model.onnx", "out.onnx", &["--exclude", "/stem/**"])).done();
        let mut child = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"))
            .args(&words)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * part / 5);
        let _ = child.kill();
        child.wait().unwrap();
        let found = onnx::load(&desk.path("out.onnx")).unwrap().digest();
        assert!(found == old || found == new);
        // What lies around is named and may go.
        let left = listing(desk.0.path()).into_iter();
        let left: Vec<String> = left.filter(|name| name.ends_with(".tmp")).collect();
        let run = mipp(desk.run("model.onnx", "out.onnx", &[])).done();
        let sentence = format!("a run that was killed left {}", text(desk.0.path()));
        assert_eq!(
            run.err.contains(&sentence),
            !left.is_empty(),
            "{left:?}: {}",
            run.err
        );
        left.iter()
            .for_each(|name| fs::remove_file(desk.path(name)).unwrap());
    }
    mipp(&words).done();
    let whole: Vec<_> = desk.contents();
    let keep: Vec<_> = keep.iter().map(|(name, _)| name).collect();
    assert_eq!(whole.iter().map(|(name, _)| name).collect::<Vec<_>>(), keep);
}

#[test]
fn manual_pages_go_to_regular_files_alone() {
    let desk = tempfile::tempdir().unwrap();
    mipp(["man", text(desk.path())]).done();
    let pages = listing(desk.path());
    assert!(
        pages.contains(&"onnx-mipp.1".to_owned()) && pages.len() > 5,
        "{pages:?}"
    );
    let page = desk.path().join("onnx-mipp.1");
    fs::remove_file(&page).unwrap();
    fs::create_dir(&page).unwrap();
    mipp(["man", text(desk.path())]).fails(1, &["onnx-mipp.1", "is a directory"]);
}
