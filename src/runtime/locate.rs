//! Where the ONNX Runtime library is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::RuntimeError;
use super::{outside, setup};

/// Reads one environment variable; a parameter so that tests need not change the process.
type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The name of the library on this system, for messages.
const EXPECTED: &str = if cfg!(windows) {
    "onnxruntime.dll or a folder that holds it"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib or a folder that holds it"
} else {
    "libonnxruntime.so (such as libonnxruntime.so.1.31.1) or a folder that holds it"
};

/// Finds the ONNX Runtime library: `explicit` (--onnxruntime, a file or a folder), ORT_DYLIB_PATH,
/// beside the executable, the active virtual or conda environment, python3's packages, the folder
/// that `onnx-mipp setup` fills, and the folders of the system's loader, in this order.
///
/// # Errors
/// `BadPath` when `explicit` or ORT_DYLIB_PATH is given and no library is there (no fall-through:
/// the user meant that one), `NotFound` with all places looked at.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    locate_with(explicit, &|name| std::env::var_os(name))
}

fn locate_with(explicit: Option<&Path>, env: Env) -> Result<PathBuf, RuntimeError> {
    if let Some(path) = explicit {
        return given("`library`", path);
    }
    if let Some(path) = variable(env, "ORT_DYLIB_PATH") {
        return given("ORT_DYLIB_PATH", &path);
    }
    let mut looked = Vec::new();
    for places in [beside_executable, environments, python, caches, loader] {
        for (what, folder) in places(env) {
            if let Some(library) = library_in(&folder)
                && check(&library).is_ok()
            {
                return absolute(&library);
            }
            looked.push(format!("  {} ({what})", folder.display()));
        }
    }
    if !looked.iter().any(|line| line.contains("python")) {
        looked.push("  the onnxruntime package of python3 (not installed)".into());
    }
    Err(RuntimeError::NotFound {
        looked: looked.join("\n"),
    })
}

/// A non-empty environment variable as a path.
pub(super) fn variable(env: Env, name: &str) -> Option<PathBuf> {
    env(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn absolute(path: &Path) -> Result<PathBuf, RuntimeError> {
    std::path::absolute(path).map_err(|source| RuntimeError::Io {
        action: "resolve",
        path: path.into(),
        source,
    })
}

fn given(origin: &'static str, path: &Path) -> Result<PathBuf, RuntimeError> {
    let bad = |problem: String| RuntimeError::BadPath {
        origin,
        path: path.into(),
        problem,
        expected: EXPECTED.into(),
    };
    let file = if path.is_dir() {
        let folders = ["", "lib", "capi", "onnxruntime/capi"].map(|sub| path.join(sub));
        folders
            .iter()
            .find_map(|f| library_in(f))
            .ok_or_else(|| bad("this folder holds no ONNX Runtime library".into()))?
    } else {
        path.into()
    };
    check(&file).map_err(bad)?;
    absolute(&file)
}

/// Refuses what the system's loader must not see: it may crash on a damaged file.
fn check(file: &Path) -> Result<(), String> {
    let unreadable = |error| format!("it cannot be read ({error})");
    let mut start = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    let length = opened.metadata().map_err(unreadable)?.len();
    opened
        .take(64)
        .read_to_end(&mut start)
        .map_err(unreadable)?;
    let good: &[&[u8]] = if cfg!(windows) {
        &[b"MZ"]
    } else if cfg!(target_os = "macos") {
        &[
            b"\xcf\xfa\xed\xfe",
            b"\xca\xfe\xba\xbe",
            b"\xca\xfe\xba\xbf",
        ]
    } else {
        &[b"\x7fELF"]
    };
    if !good.iter().any(|magic| start.starts_with(magic)) {
        let begin = start.get(..4).unwrap_or(&start);
        return Err(format!(
            "it is no shared library of this system ({length} bytes that start with {begin:02x?})"
        ));
    }
    if cfg!(target_os = "linux") && elf_size(&start).is_none_or(|size| size > length) {
        return Err(format!("it is cut short at {length} bytes"));
    }
    Ok(())
}

/// The end of the section table of a 64-bit ELF file, which linkers put last.
fn elf_size(header: &[u8]) -> Option<u64> {
    let (offset, rest) = header.get(40..64)?.split_first_chunk::<8>()?;
    let [_, _, entry, count] = *rest.get(8..16)?.as_chunks::<2>().0 else {
        return None;
    };
    let table = u64::from(u16::from_le_bytes(entry)) * u64::from(u16::from_le_bytes(count));
    u64::from_le_bytes(*offset).checked_add(table)
}

/// The library of the highest version in a folder. The Python packages have the version in the
/// name and no plain link.
pub(super) fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = library_version(entry.file_name().to_str()?)?;
            entry.path().is_file().then(|| (version, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
}

/// The version numbers in a library's file name, empty when there are none; `None` for other files.
pub(super) fn library_version(name: &str) -> Option<Vec<u32>> {
    let middle = if cfg!(windows) {
        name.eq_ignore_ascii_case("onnxruntime.dll").then_some("")?
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime")?
            .strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so")?
    };
    if middle.is_empty() {
        return Some(Vec::new());
    }
    let numbers = middle.strip_prefix('.')?.split('.');
    numbers.map(|part| part.parse().ok()).collect()
}

type Places = Vec<(&'static str, PathBuf)>;

fn beside_executable(_: Env) -> Places {
    let folder = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_path_buf()));
    folder
        .into_iter()
        .flat_map(|f| [f.join("../lib"), f])
        .rev()
        .map(|f| ("beside the executable", f))
        .collect()
}

fn environments(env: Env) -> Places {
    let mut places = Vec::new();
    for (name, what) in [
        ("VIRTUAL_ENV", "the active virtual environment"),
        ("CONDA_PREFIX", "the active conda environment"),
    ] {
        let Some(root) = variable(env, name) else {
            continue;
        };
        let mut libs = vec![root.join("Lib")];
        if let Ok(entries) = fs::read_dir(root.join("lib")) {
            let pythons = entries.filter_map(|e| Some(e.ok()?.path()));
            libs.extend(pythons.filter(|p| {
                p.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with("python"))
            }));
        }
        libs.sort();
        places.extend(
            libs.into_iter()
                .filter(|lib| lib.is_dir())
                .map(|lib| (what, lib.join("site-packages/onnxruntime/capi"))),
        );
        places.push((what, root.join("lib")));
    }
    places
}

/// Asks Python for the folder of its onnxruntime package, without importing the package.
fn python(env: Env) -> Places {
    const SCRIPT: &str = "import importlib.util as u\n\
        s = u.find_spec('onnxruntime')\n\
        print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')";
    let names: &[&str] = if cfg!(windows) {
        &["python", "python3"]
    } else {
        &["python3"]
    };
    let ask = |name: &&str| {
        let mut python = outside::program(env, name)?;
        python.args(["-c", SCRIPT]).stderr(Stdio::null());
        let output = python.output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let folder = Path::new(text.trim());
        // A relative one would be a folder of the working folder, where Python was not asked.
        (output.status.success() && folder.is_absolute()).then(|| folder.join("capi"))
    };
    let found = names.iter().find_map(ask);
    found
        .map(|f| ("python3's packages", f))
        .into_iter()
        .collect()
}

fn caches(env: Env) -> Places {
    // The build with CUDA runs on the CPU as well, so it comes first.
    [true, false]
        .into_iter()
        .filter_map(|cuda| setup::cache_folder(env, cuda))
        .map(|f| ("filled by `onnx-mipp setup`", f))
        .collect()
}

fn loader(env: Env) -> Places {
    let variables: &[&str] = if cfg!(windows) {
        &["PATH"]
    } else if cfg!(target_os = "macos") {
        &["DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"]
    } else {
        &["LD_LIBRARY_PATH"]
    };
    let system: &[&str] = if cfg!(windows) {
        &[] // System32 has an old onnxruntime.dll of Windows itself
    } else if cfg!(target_os = "macos") {
        &["/usr/local/lib", "/opt/homebrew/lib"]
    } else {
        &[
            "/usr/local/lib",
            "/usr/local/lib64",
            multiarch(),
            "/usr/lib64",
            "/usr/lib",
        ]
    };
    let listed = variables
        .iter()
        .flat_map(|name| outside::absolute_entries(env, name));
    let is_system32 = |p: &PathBuf| {
        p.to_string_lossy()
            .to_ascii_lowercase()
            .contains("system32")
    };
    listed
        .filter(|p| !is_system32(p))
        .map(|p| ("the system's loader", p))
        .chain(system.iter().map(|p| ("the system's loader", p.into())))
        .collect()
}

/// Debian's folder for libraries of this architecture.
const fn multiarch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "/usr/lib/aarch64-linux-gnu"
    } else {
        "/usr/lib/x86_64-linux-gnu"
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
    /// The least that passes for a library.
    const MAGIC: &[u8] = if cfg!(windows) {
        b"MZ"
    } else if cfg!(target_os = "macos") {
        b"\xcf\xfa\xed\xfe"
    } else {
        &elf(64)
    };

    /// An ELF header whose section table ends at `end`.
    const fn elf(end: u8) -> [u8; 64] {
        let mut header = [0; 64];
        header[0] = 0x7f;
        header[1] = b'E';
        header[2] = b'L';
        header[3] = b'F';
        header[40] = end;
        header
    }

    fn empty(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn an_explicit_file_or_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir.path().join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        let file = capi.join(LIBRARY);
        fs::write(&file, MAGIC).unwrap();
        for path in [&file, &capi, &dir.path().to_path_buf()] {
            assert_eq!(locate_with(Some(path), &empty).unwrap(), file);
        }
    }

    #[test]
    fn a_bad_given_path_is_an_error_and_no_fall_through() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libonnxruntime.so");
        fs::write(&text, "version https://git-lfs").unwrap();
        let nothing = dir.path().join("nothing.so");
        let cut = dir.path().join("cut.so");
        fs::write(&cut, elf(65)).unwrap();
        #[cfg(target_os = "linux")]
        assert!(check(&cut).unwrap_err().contains("cut short at 64 bytes"));
        for path in [&text, &nothing, &dir.path().join("none/at/all")] {
            let error = locate_with(Some(path), &empty).unwrap_err().to_string();
            assert!(error.contains("`library` names"), "{error}");
            let env = |name: &str| (name == "ORT_DYLIB_PATH").then(|| path.into());
            let error = locate_with(None, &env).unwrap_err().to_string();
            assert!(error.contains("ORT_DYLIB_PATH names"), "{error}");
        }
    }

    #[test]
    fn the_virtual_environment_is_searched() {
        let dir = tempfile::tempdir().unwrap();
        let capi = if cfg!(windows) {
            dir.path().join("Lib/site-packages/onnxruntime/capi")
        } else {
            dir.path()
                .join("lib/python3.12/site-packages/onnxruntime/capi")
        };
        fs::create_dir_all(&capi).unwrap();
        fs::write(capi.join(LIBRARY), MAGIC).unwrap();
        let env = |name: &str| (name == "VIRTUAL_ENV").then(|| dir.path().into());
        assert_eq!(locate_with(None, &env).unwrap(), capi.join(LIBRARY));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn versions_are_compared_as_numbers_and_providers_are_no_candidates() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1"] {
            fs::write(dir.path().join(name), MAGIC).unwrap();
        }
        fs::write(dir.path().join("libonnxruntime_providers_shared.so"), MAGIC).unwrap();
        let found = library_in(dir.path()).unwrap();
        assert_eq!(found, dir.path().join("libonnxruntime.so.1.31.1"));
        assert_eq!(library_version("libonnxruntime_providers_cuda.so"), None);
    }
}
