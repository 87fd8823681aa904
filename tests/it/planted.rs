//! A folder of models is often somebody else's: nothing that lies in it runs, and no index decides
//! what `setup` installs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::program::{HELP, Run, fixture, listing, root, text};

/// Modules that Python loads for what the program asks of it.
const MODULES: [&str; 8] = [
    "contextlib",
    "functools",
    "importlib",
    "pip",
    "sitecustomize",
    "threading",
    "types",
    "warnings",
];

/// A folder with a model, and all around it what must not run: each leaves a file in `marks`.
struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn new() -> Clone {
        let folder = tempfile::tempdir().unwrap();
        let clone = Clone { folder };
        let [work, marks] = [clone.work(), clone.marks()];
        let capi = work.join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        fs::create_dir_all(&marks).unwrap();
        fs::copy(
            fixture("resnet_bn_torchscript.onnx"),
            work.join("model.onnx"),
        )
        .unwrap();
        // No library: to load it would be an error.
        let mut library = vec![0; 64];
        library[..4].copy_from_slice(b"\x7fELF");
        fs::write(capi.join("libonnxruntime.so.9.9.9"), library).unwrap();
        let python = |name: &str| format!("open({:?}, 'w').close()\n", marks.join(name));
        fs::write(work.join("onnxruntime/__init__.py"), python("onnxruntime")).unwrap();
        for name in MODULES {
            fs::write(work.join(format!("{name}.py")), python(name)).unwrap();
        }
        for name in ["python3", "python", "uv", "pip"] {
            let script = format!("#!/bin/sh\n: > '{}'\n", marks.join(name).display());
            fs::write(work.join(name), script).unwrap();
            executable(&work.join(name));
        }
        clone
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn marks(&self) -> PathBuf {
        self.folder.path().join("marks")
    }

    /// Runs the program in the folder, with its own Python found through PATH only.
    fn run(&self, arguments: &[&str], set: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-mipp"));
        command.args(arguments).current_dir(self.work());
        for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            command.env_remove(name);
        }
        // An entry that is empty, and relative ones, mean the working folder.
        let path = format!(":.:./:{}:/usr/bin:/bin:", bin().display());
        command.env("PATH", path).env("PYTHONPATH", ".:");
        command.env("LD_LIBRARY_PATH", ":onnxruntime/capi:.");
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command.envs(set.iter().copied());
        let run = Run::of(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(listing(&self.marks()), [""; 0], "{}", run.err);
        run
    }
}

#[cfg(unix)]
fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(not(unix))]
fn executable(_: &Path) {}

/// The folder of the Python of the tests.
fn bin() -> PathBuf {
    let python = std::env::var_os("ONNX_MIPP_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| root().join(".venv/bin/python"));
    assert!(python.exists(), "no {}: {HELP}", python.display());
    python.parent().unwrap().into()
}

#[test]
fn nothing_in_the_working_folder_runs() {
    let clone = Clone::new();
    let run = clone.run(&["inspect", "model.onnx"], &[]).done();
    assert!(run.out.contains("channels"), "{}", run.out);
}

/// A wheel that any installer takes, with a library of the right name and a right RECORD.
fn forged(folder: &Path) {
    let library = "onnxruntime/capi/libonnxruntime.so.1.31.1";
    let info = "onnxruntime-1.31.1.dist-info";
    let wheel = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let metadata = "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.31.1\n";
    let code = b"\x7fELF of somebody else";
    // SHA-256 as RECORD writes it; made by Python, so that nothing of the program is believed.
    let script = "import base64,hashlib,sys;print(base64.urlsafe_b64encode(bytes.fromhex(sys.argv[1])).decode().rstrip('='))";
    let digest = Sha256::digest(code);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = crate::program::python(["-c", script, &digest]).done().out;
    let record = format!("{library},sha256={},{}\n", hash.trim(), code.len());
    let file = fs::File::create(folder.join("onnxruntime-1.31.1-py3-none-any.whl")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    let entries: [(&str, &[u8]); 4] = [
        (library, code),
        (&format!("{info}/WHEEL"), wheel.as_bytes()),
        (&format!("{info}/METADATA"), metadata.as_bytes()),
        (&format!("{info}/RECORD"), record.as_bytes()),
    ];
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn setup_takes_no_other_wheel_than_the_official_one_and_runs_nothing_of_the_folder() {
    let clone = Clone::new();
    let index = clone.folder.path().join("index");
    fs::create_dir(&index).unwrap();
    forged(&index);
    // The user's settings lead to another index, as a company's proxy does; uv is not installed.
    let settings = [
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", text(&index)),
        ("PIP_CONFIG_FILE", "/dev/null"),
    ];
    let words = ["onnxruntime==1.31.1", "another SHA-256"];
    clone.run(&["setup"], &settings).fails(1, &words);
    let left = clone.folder.path().join("cache/onnx-mipp");
    assert_eq!(listing(&left), [""; 0]);
}
