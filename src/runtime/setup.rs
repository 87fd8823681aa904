//! Fetching the official ONNX Runtime library.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use sha2::Digest;

use super::RuntimeError;
use super::locate::{library_in, library_version, variable};
use super::outside;
use crate::digest;
use crate::outputs::Workspace;

/// The release that this program is tested with.
const VERSION: &str = "1.31.1";
/// Its packages, with the SHA-256 of each of their wheels: an index that gives another is refused.
const PACKAGE: &str = include_str!("setup/onnxruntime.txt");
const PACKAGE_CUDA: &str = include_str!("setup/onnxruntime-gpu.txt");

/// Fetches the official Python package of ONNX Runtime (`onnxruntime`, or `onnxruntime-gpu` for
/// `cuda`) through the user's pip or uv, which take only a wheel whose SHA-256 this program knows,
/// and puts its libraries where [`super::locate()`] finds them. Returns the library; `log` gets a
/// line per step. A library that is there already is kept.
///
/// # Errors
/// When there is no cache folder, neither pip nor uv can fetch the package, a checksum differs, or
/// a file cannot be written. No half-made folder stays.
pub fn setup(cuda: bool, log: &mut dyn FnMut(&str)) -> Result<PathBuf, RuntimeError> {
    let target = cache_folder(&|name| std::env::var_os(name), cuda).ok_or_else(|| {
        failed(
            "find the user's cache folder",
            "neither XDG_CACHE_HOME nor HOME (LOCALAPPDATA on Windows) is set to an absolute path",
            "set one of them",
        )
    })?;
    if let Some(library) = library_in(&target) {
        log(&format!(
            "ONNX Runtime {VERSION} is there already: {}",
            library.display()
        ));
        return Ok(library);
    }
    let parent = target.parent().unwrap_or(&target);
    fs::create_dir_all(parent).map_err(io("create", parent))?;
    // Beside the target: a rename works only within one file system.
    let work = Workspace::within(parent).map_err(io("create a folder in", parent))?;
    let package = work.path().join("package");
    fetch(cuda, &package, log)?;
    let staged = work.path().join("libraries");
    collect(&package, cuda, &staged)?;
    // What is in the way holds no library.
    if target.exists() {
        fs::remove_dir_all(&target).map_err(io("remove the old", &target))?;
    }
    fs::rename(&staged, &target).map_err(io("create", &target))?;
    let library = library_in(&target).ok_or_else(|| no_library(&target))?;
    log(&format!("installed {}", library.display()));
    Ok(library)
}

/// The folder that holds the fetched libraries of this version. By hand: ten lines, and the tests
/// hand in the environment, which the crates for it (etcetera, dirs) read themselves.
pub(super) fn cache_folder(env: &dyn Fn(&str) -> Option<OsString>, cuda: bool) -> Option<PathBuf> {
    // A relative path means something in the working folder. The rules of XDG say to ignore it,
    // too.
    let absolute = |name: &str| variable(env, name).filter(|path| path.is_absolute());
    let home = |sub: &str| absolute("HOME").map(|home| home.join(sub));
    let caches = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| home(".cache"))
    };
    let name = format!("onnxruntime-{VERSION}{}", if cuda { "-cuda" } else { "" });
    Some(caches?.join("onnx-mipp").join(name))
}

/// Has pip, else uv, put the package into `folder`. The user's own settings (index, proxy,
/// certificates) hold; which bytes are right does not depend on them.
fn fetch(cuda: bool, folder: &Path, log: &mut dyn FnMut(&str)) -> Result<(), RuntimeError> {
    let (name, pins) = if cuda {
        ("onnxruntime-gpu", PACKAGE_CUDA)
    } else {
        ("onnxruntime", PACKAGE)
    };
    let package = format!("{name}=={VERSION}");
    let requirements = folder.with_extension("txt");
    fs::write(&requirements, pins).map_err(io("write", &requirements))?;
    let python = if cfg!(windows) { "python" } else { "python3" };
    let pip = ["-m", "pip", "install", "--disable-pip-version-check"];
    let tools = [(python, pip.as_slice()), ("uv", &["pip", "install"])];
    // The native library is the same for every Python: ask for one that has a package.
    let common = [
        "--quiet",
        "--only-binary=:all:",
        "--no-deps",
        "--require-hashes",
        "--python-version",
        "3.12",
    ];
    let mut problems = Vec::new();
    for (program, arguments) in tools {
        let Some(mut command) = outside::program(&|name| std::env::var_os(name), program) else {
            problems.push(format!("{program}: not found in the folders of PATH"));
            continue;
        };
        let words = arguments[..2].join(" ");
        log(&format!(
            "fetching {package} from PyPI with {program} {words}"
        ));
        command.args(arguments).args(common);
        command.arg("--target").arg(folder);
        let result = command.arg("-r").arg(&requirements).output();
        match result {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let problem = complaint(&String::from_utf8_lossy(&output.stderr));
                problems.push(format!("{program}: {problem}"));
            }
            Err(error) => problems.push(format!("{program}: {error}")),
        }
        // A failed try may leave files.
        let _ = fs::remove_dir_all(folder);
    }
    Err(failed(
        &format!("fetch {package}"),
        &problems.join("; "),
        "install pip or uv and check the network, or install the package yourself and name its \
         folder with `library`",
    ))
}

/// What pip or uv says at the end, without its list of good hashes.
fn complaint(stderr: &str) -> String {
    let lower = stderr.to_lowercase();
    if lower.contains("do not match the hashes") || lower.contains("hash mismatch") {
        return "the index gives a package with another SHA-256 than the official one, which may have \
                been tampered with"
            .into();
    }
    let lines: Vec<&str> = stderr.lines().rev().take(3).collect();
    let tail: Vec<&str> = lines.into_iter().rev().collect();
    tail.join(" / ")
}

/// Moves the wanted libraries of an installed package to `staged`, each checked against the
/// SHA-256 in the package's RECORD, so that a disk's fault or a half-made file is found.
fn collect(package: &Path, cuda: bool, staged: &Path) -> Result<(), RuntimeError> {
    let record = record_file(package)?;
    let text = fs::read_to_string(&record).map_err(io("read", &record))?;
    fs::create_dir_all(staged).map_err(io("create", staged))?;
    for line in text.lines() {
        // path,sha256=...,size; the paths of the libraries have no commas and no quotes.
        let mut fields = line.split(',');
        let (Some(path), Some(hash)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some(file) = path.strip_prefix("onnxruntime/capi/") else {
            continue;
        };
        if !wanted(file, cuda) {
            continue;
        }
        let from = package.join(path);
        let found = format!("sha256={}", sha256(&from)?);
        if found != hash {
            return Err(failed(
                "check the package",
                &format!("{path} should have {hash} and has {found}"),
                "run `onnx-mipp setup` again; if it stays so, do not use this package",
            ));
        }
        let to = staged.join(file);
        fs::rename(&from, &to).map_err(io("move a library to", &to))?;
    }
    library_in(staged)
        .map(|_| ())
        .ok_or_else(|| no_library(package))
}

/// Whether a file of the package's capi folder is needed.
fn wanted(file: &str, cuda: bool) -> bool {
    let provider = |name: &str| {
        file.starts_with(&format!("libonnxruntime_providers_{name}."))
            || file == format!("onnxruntime_providers_{name}.dll")
    };
    !file.contains('/')
        && (library_version(file).is_some() || provider("shared") || (cuda && provider("cuda")))
}

/// The package's list of files with their checksums.
fn record_file(package: &Path) -> Result<PathBuf, RuntimeError> {
    let entries = fs::read_dir(package).map_err(io("read", package))?;
    let mut records: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("RECORD")))
        .filter(|path| path.is_file())
        .collect();
    records.sort();
    records.pop().ok_or_else(|| {
        failed(
            "check the package",
            &format!("{} has no RECORD of checksums", package.display()),
            "update pip or uv",
        )
    })
}

/// SHA-256 of a file in the form of RECORD: URL-safe base64 without padding.
fn sha256(path: &Path) -> Result<String, RuntimeError> {
    let sum = File::open(path).and_then(digest::of);
    let sum = sum.map_err(io("read", path))?;
    Ok(BASE64URL_NOPAD.encode(&sum.finalize()))
}

fn no_library(folder: &Path) -> RuntimeError {
    failed(
        "use the package",
        &format!(
            "{} holds no ONNX Runtime library for this system",
            folder.display()
        ),
        "check that this system is one of those that ONNX Runtime's packages support",
    )
}

fn failed(step: &str, problem: &str, advice: &str) -> RuntimeError {
    RuntimeError::Setup {
        step: step.into(),
        problem: problem.into(),
        advice: advice.into(),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RuntimeError {
    let path = path.to_path_buf();
    move |source| RuntimeError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = if cfg!(windows) {
        "onnxruntime.dll"
    } else if cfg!(target_os = "macos") {
        "libonnxruntime.1.31.1.dylib"
    } else {
        "libonnxruntime.so.1.31.1"
    };

    /// A package as pip leaves it, with one library of the bytes "abc".
    fn package(hash: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir.path().join("onnxruntime/capi");
        let info = dir.path().join("onnxruntime-1.31.1.dist-info");
        fs::create_dir_all(&capi).unwrap();
        fs::create_dir_all(&info).unwrap();
        fs::write(capi.join(LIBRARY), "abc").unwrap();
        fs::write(capi.join("__init__.py"), "").unwrap();
        let record = format!(
            "onnxruntime/capi/{LIBRARY},sha256={hash},3\nonnxruntime/capi/__init__.py,sha256=x,0\n"
        );
        fs::write(info.join("RECORD"), record).unwrap();
        dir
    }

    /// SHA-256 of "abc" from FIPS 180-2, as base64.
    const ABC: &str = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";

    #[test]
    fn a_good_package_gives_its_library_only() {
        let package = package(ABC);
        let staged = package.path().join("staged");
        collect(package.path(), false, &staged).unwrap();
        let files: Vec<_> = fs::read_dir(&staged).unwrap().collect();
        assert_eq!(files.len(), 1);
        assert_eq!(fs::read(staged.join(LIBRARY)).unwrap(), b"abc");
    }

    #[test]
    fn a_changed_library_is_refused() {
        let package = package("AAAA");
        let staged = package.path().join("staged");
        let error = collect(package.path(), false, &staged).unwrap_err();
        assert!(
            error.to_string().contains("should have sha256=AAAA"),
            "{error}"
        );
    }

    #[test]
    fn a_package_without_a_library_is_refused() {
        let dir = package(ABC);
        let info = dir.path().join("onnxruntime-1.31.1.dist-info/RECORD");
        fs::write(info, "onnxruntime/capi/__init__.py,sha256=x,0\n").unwrap();
        let error = collect(dir.path(), false, &dir.path().join("staged")).unwrap_err();
        assert!(
            error.to_string().contains("holds no ONNX Runtime library"),
            "{error}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_cache_folder_follows_the_xdg_rules() {
        let env = |xdg: &'static str| {
            move |name: &str| match name {
                "XDG_CACHE_HOME" => Some(xdg.into()),
                _ => Some("/home/me".into()),
            }
        };
        let folder = |xdg, cuda| cache_folder(&env(xdg), cuda).unwrap();
        assert_eq!(
            folder("/c", true),
            Path::new("/c/onnx-mipp/onnxruntime-1.31.1-cuda")
        );
        let home = Path::new("/home/me/.cache/onnx-mipp/onnxruntime-1.31.1");
        assert_eq!(folder("relative", false), home);
        assert_eq!(folder("", false), home);
    }

    #[test]
    fn every_wheel_of_the_tested_release_is_pinned() {
        for (name, pins) in [("onnxruntime", PACKAGE), ("onnxruntime-gpu", PACKAGE_CUDA)] {
            let mut lines = pins.lines().filter(|line| !line.starts_with('#'));
            let first = lines.next().unwrap();
            assert_eq!(first, format!("{name}=={VERSION} \\"));
            let hashes: Vec<&str> = lines
                .map(|line| line.trim_end_matches(" \\"))
                .map(|line| line.trim().strip_prefix("--hash=sha256:").unwrap())
                .collect();
            let is_hash =
                |hash: &&str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(
                hashes.len() >= 10 && hashes.iter().all(is_hash),
                "{hashes:?}"
            );
        }
    }

    #[test]
    fn only_the_needed_libraries_are_wanted() {
        assert!(wanted(LIBRARY, false));
        let cuda = "libonnxruntime_providers_cuda.so";
        assert!(wanted(cuda, true) && !wanted(cuda, false));
        assert!(wanted("libonnxruntime_providers_shared.so", false));
        assert!(!wanted("libonnxruntime_providers_tensorrt.so", true));
        assert!(!wanted("sub/libonnxruntime.so", true));
    }
}
