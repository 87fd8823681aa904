use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::rc::Rc;

use super::change::BEFORE;
use super::*;
use crate::onnx::{self, Model, sample};

/// The sample with its first weight outside, all of whose values are `value`.
fn model(value: f32) -> Model {
    let mut model = sample::model();
    let weight = sample::initializer(&mut model, 0);
    let dims: Vec<usize> = weight.dims.iter().map(|&d| d as usize).collect();
    let values = vec![value; dims.iter().product()];
    let name = weight.name.clone();
    onnx::Tensor::from_f32(&dims, values).unwrap().store(weight);
    weight.name = name;
    sample::mark(weight);
    model
}

/// Names and contents.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let read = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    read.collect()
}

/// Calls `look` before every change of a folder that `work` makes.
fn looking<T>(look: impl FnMut() -> io::Result<()> + 'static, work: impl FnOnce() -> T) -> T {
    BEFORE.with(|before| *before.borrow_mut() = Some(Box::new(look)));
    let result = work();
    BEFORE.with(|before| *before.borrow_mut() = None);
    result
}

/// A run that writes a report and two models, as a sweep does.
fn write(folder: &Path, value: f32) -> Result<Vec<String>, OutputError> {
    let mut outputs = Outputs::default();
    let report = outputs.target(&folder.join("report.json"), "report")?;
    let targets = ["a.onnx", "b.onnx"].map(|name| outputs.target(&folder.join(name), "model"));
    for target in targets {
        onnx::stage(&model(value), &target?, &mut outputs).map_err(|error| match error {
            onnx::OnnxError::Output(error) => error,
            other => panic!("{other}"),
        })?;
    }
    outputs.document(&report, &format!("{value}"))?;
    let notes = outputs.notes().to_vec();
    outputs.publish(onnx::locations_in)?;
    Ok(notes)
}

fn is_whole(folder: &Path) -> bool {
    let (old, new) = (model(1.0).digest(), model(2.0).digest());
    ["a.onnx", "b.onnx"].iter().all(|name| {
        let found = onnx::load(&folder.join(name)).unwrap().digest();
        found == old || found == new
    })
}

#[test]
fn whenever_a_run_is_killed_each_model_is_the_old_or_the_new_one() {
    let desk = tempfile::tempdir().unwrap();
    write(desk.path(), 1.0).unwrap();
    // What the disk shows before every change is what a kill would leave.
    let states: Rc<RefCell<Vec<tempfile::TempDir>>> = Rc::default();
    let (seen, folder) = (states.clone(), desk.path().to_owned());
    let look = move || {
        let state = tempfile::tempdir()?;
        for (name, bytes) in contents(&folder) {
            fs::write(state.path().join(name), bytes)?;
        }
        seen.borrow_mut().push(state);
        Ok(())
    };
    looking(look, || write(desk.path(), 2.0)).unwrap();
    let states = states.borrow();
    // Temporary files, writes, second names, renames and the removal of the old data.
    assert!(states.len() >= 20, "{}", states.len());
    let whole = contents(desk.path());
    assert_eq!(whole.len(), 5, "{:?}", whole.keys());
    let mut told = 0;
    for state in states.iter() {
        assert!(
            is_whole(state.path()),
            "{:?}",
            contents(state.path()).keys()
        );
        let is_littered = contents(state.path())
            .keys()
            .any(|name| name.ends_with(".tmp"));
        // The next run says what lies around, and gets to the same end.
        let notes = write(state.path(), 2.0).unwrap();
        let is_named = notes.iter().any(|note| note.contains(".onnx-mipp-"));
        assert_eq!(is_named, is_littered, "{notes:?}");
        told += usize::from(is_named);
        for (name, bytes) in &whole {
            assert_eq!(contents(state.path()).get(name), Some(bytes), "{name}");
        }
    }
    assert!(told > 5, "{told}");
}

#[test]
fn a_failure_at_any_change_leaves_everything_as_it_was() {
    for (is_first, rounds) in [(true, 15), (false, 20)] {
        let mut failures = 0;
        for round in 0.. {
            let desk = tempfile::tempdir().unwrap();
            if !is_first {
                write(desk.path(), 1.0).unwrap();
            }
            let before = contents(desk.path());
            let mut count = 0;
            let look = move || {
                count += 1;
                if count == round + 1 {
                    Err(io::ErrorKind::StorageFull.into())
                } else {
                    Ok(())
                }
            };
            let written = looking(look, || write(desk.path(), 2.0));
            let after = contents(desk.path());
            match written {
                Err(error) => {
                    failures += 1;
                    assert!(error.to_string().contains("cannot write"), "{error}");
                    assert_eq!(after, before, "failure at change {round}");
                }
                Ok(_)
                    if after
                        .keys()
                        .any(|name| before.contains_key(name) && name.contains(".data")) =>
                {
                    // Only the data that nothing needs any more stayed.
                    assert!(is_whole(desk.path()));
                }
                Ok(_) => {
                    assert_eq!(after.len(), 5);
                    break;
                }
            }
        }
        assert!(failures >= rounds, "{failures}");
    }
}

#[test]
fn data_that_another_model_needs_stay() {
    let desk = tempfile::tempdir().unwrap();
    let path = |name: &str| desk.path().join(name);
    onnx::save(&model(1.0), &path("m.onnx")).unwrap();
    let data = contents(desk.path())
        .into_keys()
        .find(|name| name.ends_with(".data"))
        .unwrap();
    fs::copy(path("m.onnx"), path("copy.onnx")).unwrap();
    onnx::save(&model(2.0), &path("m.onnx")).unwrap();
    assert_eq!(onnx::load(&path("copy.onnx")).unwrap(), {
        let mut copy = model(1.0);
        sample::initializer(&mut copy, 0).external_data =
            sample::initializer(&mut onnx::load(&path("copy.onnx")).unwrap(), 0)
                .external_data
                .clone();
        copy
    });
    // One that cannot be read may need them; where none is left they go.
    fs::write(path("copy.onnx"), "damaged").unwrap();
    onnx::save(&model(1.0), &path("m.onnx")).unwrap();
    onnx::save(&model(2.0), &path("m.onnx")).unwrap();
    assert!(path(&data).exists());
    fs::remove_file(path("copy.onnx")).unwrap();
    onnx::save(&model(1.0), &path("m.onnx")).unwrap();
    onnx::save(&model(2.0), &path("m.onnx")).unwrap();
    assert!(!path(&data).exists());
    // Another program's data are left alone.
    fs::write(path("m.onnx.data"), "theirs").unwrap();
    onnx::save(&model(1.0), &path("m.onnx")).unwrap();
    assert_eq!(fs::read(path("m.onnx.data")).unwrap(), b"theirs");
}

#[test]
fn a_damaged_file_of_data_is_not_taken_for_the_right_one() {
    let desk = tempfile::tempdir().unwrap();
    let path = desk.path().join("m.onnx");
    onnx::save(&model(1.0), &path).unwrap();
    let data = contents(desk.path())
        .into_keys()
        .find(|name| name.ends_with(".data"))
        .unwrap();
    fs::write(desk.path().join(&data), "damaged").unwrap();
    let before = contents(desk.path());
    let error = onnx::save(&model(1.0), &path).unwrap_err().to_string();
    assert!(
        error.contains(&data) && error.contains("remove it"),
        "{error}"
    );
    assert_eq!(contents(desk.path()), before);
}

#[test]
fn names_of_data_are_those_of_this_program() {
    let name = data_path(Path::new("x/m.onnx"), &"0123456789abcdef".repeat(4));
    assert_eq!(name, Path::new("x/m.onnx.0123456789abcdef.data"));
    assert!(is_data_of("m.onnx.0123456789abcdef.data", "m.onnx"));
    for other in [
        "m.onnx.data",
        "m.onnx.0123456789ABCDEF.data",
        "n.onnx.0123456789abcdef.data",
    ] {
        assert!(!is_data_of(other, "m.onnx"), "{other}");
    }
}

#[test]
fn two_runs_to_one_target_leave_one_of_both() {
    let desk = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for value in [1.0, 2.0] {
            let path = desk.path().join("m.onnx");
            scope.spawn(move || {
                for _ in 0..30 {
                    onnx::save(&model(value), &path).unwrap();
                }
            });
        }
        for _ in 0..100 {
            if let Ok(model) = onnx::load(&desk.path().join("m.onnx")) {
                assert!(
                    [1.0, 2.0]
                        .iter()
                        .any(|&value| self::model(value).digest() == model.digest())
                );
            }
        }
    });
    onnx::load(&desk.path().join("m.onnx")).unwrap();
    assert_eq!(contents(desk.path()).len(), 2);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn refusal(path: &Path) -> String {
        Target::new(path, "report").unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_that_may_be_written_is_replaced() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        symlink(path("nothing"), path("dangling")).unwrap();
        symlink(path("pipe"), path("to-pipe")).unwrap();
        fs::write(path("fixed"), "").unwrap();
        fs::set_permissions(path("fixed"), fs::Permissions::from_mode(0o444)).unwrap();
        for (name, problem) in [
            ("socket", "no regular file"),
            ("pipe", "no regular file"),
            ("to-pipe", "no regular file"),
            ("dangling", "a link to nothing"),
            ("fixed", "read-only"),
            (".", "is a directory"),
        ] {
            let text = refusal(&path(name));
            assert!(text.contains(problem), "{text}");
        }
        assert!(refusal(Path::new("/dev/null")).contains("no regular file"));
        assert!(refusal(Path::new("..")).contains("names no file"));
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/v1.onnx"), "old").unwrap();
        symlink("real/v1.onnx", path("current.onnx")).unwrap();
        onnx::save(&model(1.0), &path("current.onnx")).unwrap();
        assert!(
            fs::symlink_metadata(path("current.onnx"))
                .unwrap()
                .is_symlink()
        );
        assert_eq!(contents(&path("real")).len(), 2);
        for name in ["current.onnx", "real/v1.onnx"] {
            assert_eq!(
                onnx::load(&path(name)).unwrap().digest(),
                model(1.0).digest()
            );
        }
    }

    #[test]
    fn no_name_of_an_input_is_an_output() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        fs::create_dir_all(path("data/set")).unwrap();
        for name in ["in.onnx", "data/a.npy", "data/notes.txt", "data/set/b.npy"] {
            fs::write(path(name), "").unwrap();
        }
        symlink(path("in.onnx"), path("link")).unwrap();
        fs::hard_link(path("in.onnx"), path("hard")).unwrap();
        fs::hard_link(path("data/a.npy"), path("sample")).unwrap();
        let mut inputs = Inputs::default();
        inputs.add(&path("in.onnx"), "input");
        inputs.add_all(&path("data"), "calibration data", |path| {
            path.extension().is_some_and(|end| end == "npy")
        });
        let mut outputs = Outputs::of(inputs);
        for name in ["in.onnx", "link", "hard", "data/../in.onnx"] {
            let text = outputs.target(&path(name), "plan").unwrap_err().to_string();
            assert!(text.contains("this is the input itself"), "{text}");
        }
        for name in ["data/a.npy", "sample", "data/set/b.npy"] {
            let text = outputs.target(&path(name), "plan").unwrap_err().to_string();
            assert!(
                text.contains("this is the calibration data itself"),
                "{text}"
            );
        }
        outputs.target(&path("data/notes.txt"), "report").unwrap();
        outputs.target(&path("data/new.json"), "plan").unwrap();
        // Names that differ in case are one file on many disks.
        let text = outputs
            .target(&path("data/NEW.json"), "model")
            .unwrap_err()
            .to_string();
        assert!(text.contains("this is the plan itself"), "{text}");
    }

    #[test]
    fn what_takes_its_place_is_like_any_new_file() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        File::create(path("new")).unwrap();
        onnx::save(&sample::model(), &path("out")).unwrap();
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode("out"), mode("new"));
    }
}
