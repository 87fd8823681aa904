//! Programs of the user's system, run so that nothing of the folder he happens to be in takes part:
//! a folder of models is often somebody else's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::locate::variable;

/// A program of PATH, to be given its arguments; `None` where PATH has none of that name.
pub(super) fn program(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<Command> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let file = absolute_entries(env, "PATH")
        .map(|folder| folder.join(&name))
        .find(|file| is_program(file))?;
    let mut command = Command::new(file);
    command
        .current_dir(neutral_folder(env))
        // Python from 3.11 on leaves the working folder out of its modules' places altogether.
        .env("PYTHONSAFEPATH", "1")
        .stdin(Stdio::null());
    Some(command)
}

/// The folders of a variable such as PATH. An empty or relative one means the working folder or one
/// in it, and is left out.
pub(super) fn absolute_entries(
    env: &dyn Fn(&str) -> Option<OsString>,
    name: &str,
) -> impl Iterator<Item = PathBuf> {
    let list = env(name).unwrap_or_default();
    let entries: Vec<PathBuf> = std::env::split_paths(&list).collect();
    entries.into_iter().filter(|path| path.is_absolute())
}

/// A folder that only an administrator fills. Python, uv and the shims of version managers look for
/// modules and settings in the working folder and in those above it.
fn neutral_folder(env: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    if cfg!(windows) {
        let root = variable(env, "SystemRoot").filter(|path| path.is_absolute());
        return root.unwrap_or_else(|| r"C:\Windows".into());
    }
    "/".into()
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let data = file.metadata();
    data.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn programs_come_from_absolute_entries_only() {
        let entries = |list: &'static str| -> Vec<PathBuf> {
            absolute_entries(&move |_| Some(list.into()), "PATH").collect()
        };
        assert_eq!(
            entries(":/usr/bin:.:bin:/bin:"),
            [Path::new("/usr/bin"), Path::new("/bin")]
        );
        let found = |list: &'static str| program(&move |_| Some(list.into()), "sh");
        assert!(found("").is_none() && found("bin:.").is_none());
        let command = found("bin:/bin").unwrap();
        assert_eq!(command.get_program(), "/bin/sh");
        assert_eq!(command.get_current_dir(), Some(Path::new("/")));
    }
}
