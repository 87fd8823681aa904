//! Every command that README.md and the pages below docs/ print is run as printed, in a folder with
//! the fixtures (of the calibration data, the first images) and files of the names that the pages
//! use.
//!
//! Commands are the blocks marked `sh`, the lines after `$` in blocks marked `console`, indented
//! blocks that begin with a program's name, and `onnx-mipp ...` with its arguments inside a
//! sentence. What cannot run here has a comment above its block that says why, for the block or for
//! commands in it:
//!
//! ```text
//! <!-- not run: takes hours -->
//! <!-- not run (cargo install, onnx-mipp setup): fetches packages -->
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{GrayImage, Luma};
use tempfile::TempDir;

use crate::program::{HELP, fixture, python, root, text};
use crate::small;

/// Commands that belong together: a block of a page, or one inside a sentence.
#[derive(Debug, Default, PartialEq)]
struct Snippet {
    line: usize,
    commands: Vec<String>,
    skipped: Vec<(String, String)>,
}

/// A comment that keeps commands from being run.
struct Mark<'a> {
    /// How the commands begin; none: all of the block.
    starts: Vec<&'a str>,
    why: &'a str,
}

impl<'a> Mark<'a> {
    fn of(line: &'a str) -> Option<Mark<'a>> {
        let text = line.trim().strip_prefix("<!-- not run")?;
        let text = text.strip_suffix("-->").unwrap().trim();
        let (starts, why) = match text.strip_prefix('(') {
            Some(text) => text.split_once("):").unwrap(),
            None => ("", text.strip_prefix(':').unwrap()),
        };
        let starts = starts.split(',').map(str::trim);
        Some(Mark {
            starts: starts.filter(|start| !start.is_empty()).collect(),
            why: why.trim(),
        })
    }
}

/// The programs that begin an indented block of commands.
const PROGRAMS: [&str; 6] = ["cargo", "make", "onnx-mipp", "pip", "python", "trtexec"];
/// Commands that need more words: alone they only name what is spoken of.
const NAMES: [&str; 3] = ["inspect", "sweep", "compare"];

fn snippets(page: &str) -> Vec<Snippet> {
    let mut found = Vec::new();
    let mut mark = None;
    let mut paragraph = (0, String::new());
    let mut lines = (1..).zip(page.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| !line.starts_with("```"))
                .collect();
            let commands = match kind {
                "sh" => joined(&inside),
                "console" => {
                    let typed = inside.iter().filter_map(|line| line.strip_prefix("$ "));
                    joined(&typed.collect::<Vec<_>>())
                }
                _ => Vec::new(),
            };
            found.extend(block(number, commands, mark.take()));
        } else if line.strip_prefix("    ").is_some_and(is_command) {
            let mut inside = vec![line.trim()];
            while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("    ")) {
                inside.push(line.trim());
            }
            found.extend(block(number, joined(&inside), mark.take()));
        } else if let Some(new) = Mark::of(line) {
            assert!(mark.is_none(), "line {number}: two marks for one block");
            mark = Some(new);
        } else {
            assert!(
                mark.is_none(),
                "line {number}: no command follows 'not run'"
            );
            if line.is_empty() {
                found.extend(spans(&std::mem::take(&mut paragraph)));
            } else {
                paragraph.0 = number;
                paragraph.1.push_str(line);
                paragraph.1.push('\n');
            }
        }
    }
    assert!(mark.is_none(), "no command follows 'not run'");
    found.extend(spans(&paragraph));
    found
}

fn is_command(line: &str) -> bool {
    let program = line.split_whitespace().next();
    program.is_some_and(|program| PROGRAMS.contains(&program))
}

/// Commands, each with the lines that continue it; comments left out.
fn joined(lines: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in lines {
        match commands.last_mut() {
            Some(last) if continues => {
                last.push('\n');
                last.push_str(line);
            }
            _ if line.trim().is_empty() || line.starts_with('#') => continue,
            _ => commands.push((*line).to_owned()),
        }
        continues = line.ends_with('\\');
    }
    commands
}

fn block(line: usize, commands: Vec<String>, mark: Option<Mark<'_>>) -> Option<Snippet> {
    let mut snippet = Snippet {
        line,
        ..Snippet::default()
    };
    let Some(mark) = mark else {
        snippet.commands = commands;
        return (!snippet.commands.is_empty()).then_some(snippet);
    };
    assert!(
        !commands.is_empty(),
        "line {line}: no command is not to be run"
    );
    for start in &mark.starts {
        let is_there = commands.iter().any(|command| command.starts_with(start));
        assert!(is_there, "line {line}: no command begins with '{start}'");
    }
    for command in commands {
        let is_named = |start: &&str| command.starts_with(start);
        if mark.starts.is_empty() || mark.starts.iter().any(is_named) {
            snippet.skipped.push((command, mark.why.to_owned()));
        } else {
            snippet.commands.push(command);
        }
    }
    Some(snippet)
}

/// Whole commands inside sentences.
fn spans((line, text): &(usize, String)) -> Vec<Snippet> {
    let parts: Vec<&str> = text.split('`').collect();
    assert!(parts.len() % 2 == 1, "line {line}: a lone ` in:\n{text}");
    let inside = parts.iter().skip(1).step_by(2);
    let commands = inside.filter_map(|part| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let mut snippet = Snippet {
            line: *line,
            ..Snippet::default()
        };
        match words.as_slice() {
            ["onnx-mipp"] => return None,
            ["onnx-mipp", name] if NAMES.contains(name) => return None,
            ["onnx-mipp", "setup", ..] => {
                let why = "fetches a package".to_owned();
                snippet.skipped.push((words.join(" "), why));
            }
            ["onnx-mipp", ..] => snippet.commands.push(words.join(" ")),
            _ => return None,
        }
        Some(snippet)
    });
    commands.collect()
}

/// README.md and the pages below docs/, by their path in the repository.
pub fn pages() -> BTreeMap<String, String> {
    let (mut folders, mut paths) = (vec![root().join("docs")], vec![root().join("README.md")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                paths.push(path);
            }
        }
    }
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        (name.to_str().unwrap().to_owned(), text)
    };
    paths.into_iter().map(named).collect()
}

/// The first of the calibration's images: what the commands do with all of them takes longer.
fn few(path: &Path) {
    let script = "
import sys, numpy
numpy.savez(sys.argv[2], input=numpy.load(sys.argv[1])['input'][:64])";
    python(["-c", script, text(&fixture("calib.npz")), text(path)]).done();
}

/// A folder with all that the pages name; `few` is the calibration data.
fn desk(few: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in [
        "fixtures",
        "target/demo",
        "FOLDER",
        "DATA",
        "home",
        "bench",
        "examples",
        "photos",
    ] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for shelf in ["fixtures", "bench", "examples"] {
        for entry in fs::read_dir(root().join(shelf)).unwrap() {
            let from = entry.unwrap().path();
            let to = path(shelf).join(from.file_name().unwrap());
            link(&from, &to);
        }
    }
    let resnet = fixture("resnet_bn_torchscript.onnx");
    let names = ["in.onnx", "IN.onnx", "A.onnx", "MODEL"];
    for name in names.iter().chain(&["fixtures/NET_bn_torchscript.onnx"]) {
        link(&resnet, &path(name));
    }
    link(&fixture("resnet_folded_torchscript.onnx"), &path("B.onnx"));
    fs::remove_file(path("fixtures/calib.npz")).unwrap();
    link(few, &path("fixtures/calib.npz"));
    link(few, &path("samples.npz"));
    for name in ["images.npy", "DATA/images.npy"] {
        let values = small::noise(24 * 28 * 28, 11);
        small::npy_f32(&path(name), &[24, 1, 28, 28], &values);
    }
    for number in 1..=24 {
        let image = GrayImage::from_fn(32, 32, |x, y| Luma([(x * y * number % 251) as u8]));
        image.save(path(&format!("photos/{number}.png"))).unwrap();
    }
    folder
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).unwrap();
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).unwrap();
    }
}

/// Runs commands of a page in a shell that finds the program and the tests' Python.
fn run(folder: &Path, page: &str, snippet: &Snippet) {
    let program = Path::new(env!("CARGO_BIN_EXE_onnx-mipp"));
    let interpreter = std::env::var_os("ONNX_MIPP_PYTHON").map(PathBuf::from);
    let interpreter = interpreter.unwrap_or_else(|| root().join(".venv/bin/python"));
    let known = std::env::var_os("PATH").unwrap_or_default();
    let folders = [program, interpreter.as_path()].map(|path| path.parent().unwrap().to_owned());
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&known)));
    let script = snippet.commands.join("\n");
    let output = Command::new("bash")
        .args(["-eu", "-c", &script])
        .current_dir(folder)
        .env("PATH", path.unwrap())
        .env("HOME", folder.join("home"))
        .env_remove("XDG_CACHE_HOME")
        // What was not marked fails here rather than install anything.
        .env("PIP_NO_INDEX", "1")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let lacks = ["no ONNX Runtime library found", "ModuleNotFoundError"];
    assert!(
        !lacks.iter().any(|lack| error.contains(lack)),
        "{HELP}\n{error}"
    );
    let line = snippet.line;
    assert!(
        output.status.success(),
        "{page}:{line}:\n{script}\n\n{error}"
    );
}

#[test]
fn documented_commands_run_as_printed() {
    let mut count = 0;
    let mut skipped = Vec::new();
    let shared = tempfile::tempdir().unwrap();
    let few_samples = shared.path().join("few.npz");
    few(&few_samples);
    for (page, content) in pages() {
        let desk = desk(&few_samples);
        for snippet in snippets(&content) {
            for (command, why) in &snippet.skipped {
                skipped.push(format!("{page}: {command} ({why})"));
            }
            if !snippet.commands.is_empty() {
                count += snippet.commands.len();
                run(desk.path(), &page, &snippet);
            }
        }
    }
    assert!(count >= 15, "only {count} commands found");
    insta::assert_snapshot!("not_run", skipped.join("\n"));
}

#[test]
fn commands_are_found_in_pages() {
    let page = "\
Say `onnx-mipp --help`, or `onnx-mipp inspect
IN.onnx`; `onnx-mipp inspect` and `onnx-mipp` are names. `onnx-mipp setup` fetches.

<!-- not run (cargo install): takes long -->
```sh
cargo install --path .
# a comment
onnx-mipp a.onnx \\
    b.onnx
```

```toml
onnx-mipp = 1
```

```console
$ onnx-mipp man
it prints this
```

<!-- not run: hours -->
    make zoo
";
    let found = snippets(page);
    let run: Vec<&str> = found
        .iter()
        .flat_map(|snippet| &snippet.commands)
        .map(String::as_str)
        .collect();
    let expected = [
        "onnx-mipp --help",
        "onnx-mipp inspect IN.onnx",
        "onnx-mipp a.onnx \\\n    b.onnx",
        "onnx-mipp man",
    ];
    assert_eq!(run, expected);
    let skipped: Vec<(&str, &str)> = found
        .iter()
        .flat_map(|snippet| &snippet.skipped)
        .map(|(command, why)| (command.as_str(), why.as_str()))
        .collect();
    let expected = [
        ("onnx-mipp setup", "fetches a package"),
        ("cargo install --path .", "takes long"),
        ("make zoo", "hours"),
    ];
    assert_eq!(skipped, expected);
}

#[test]
#[should_panic(expected = "no command follows")]
fn a_mark_without_a_command_is_a_mistake() {
    snippets("<!-- not run: hours -->\nText.\n");
}

#[test]
#[should_panic(expected = "no command begins with")]
fn a_mark_for_another_command_is_a_mistake() {
    snippets("<!-- not run (make): hours -->\n```sh\nonnx-mipp man\n```\n");
}
