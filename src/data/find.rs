//! What kind of data stands at the user's paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::DataError;
use crate::data::ImageOptions;
use crate::data::array::Array;
use crate::data::images::Preprocess;
use crate::data::source::Source;
use crate::runtime::InputSpec;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Npy,
    Npz,
    Tensor,
    Image,
}

fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "npy" => Kind::Npy,
        "npz" => Kind::Npz,
        "pb" => Kind::Tensor,
        "jpg" | "jpeg" | "png" | "webp" => Kind::Image,
        _ => return None,
    })
}

/// Whether a file of a folder would be read.
pub(crate) fn is_data(path: &Path) -> bool {
    kind(path).is_some()
}

/// The parts at `paths`, in the order given; in a folder sorted by name.
pub(super) fn parts(
    paths: &[PathBuf],
    inputs: &[InputSpec],
    image: &ImageOptions,
    notes: &mut Vec<String>,
) -> Result<Vec<Source>, DataError> {
    let mut finder = Finder {
        inputs,
        image,
        preprocess: None,
        parts: Vec::new(),
        notes,
    };
    let mut tensors: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in paths {
        let data = fs::metadata(path).map_err(|source| DataError::Io {
            path: path.clone(),
            source,
        })?;
        if data.is_dir() {
            finder.folder(path)?;
            continue;
        }
        match kind(path) {
            // Single tensor files of one folder belong together, as the shell expands input_*.pb.
            Some(Kind::Tensor) => {
                let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
                tensors.entry(folder).or_default().push(path.clone());
            }
            Some(kind) => finder.file(path, kind)?,
            None => return Err(no_files(path, "a file of another kind".into())),
        }
    }
    for (folder, files) in tensors {
        finder.tensors(&folder, files)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    finder.notes.retain(|note| seen.insert(note.clone()));
    Ok(finder.parts)
}

fn no_files(path: &Path, found: String) -> DataError {
    DataError::NoFiles {
        path: path.into(),
        found,
    }
}

/// The first of some arrays' names, and how many there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 8;
    let first = names.get(..MOST).unwrap_or(names);
    match names.len().saturating_sub(MOST) {
        0 => format!("{first:?}"),
        more => format!("{first:?} and {more} more"),
    }
}

struct Finder<'a> {
    inputs: &'a [InputSpec],
    image: &'a ImageOptions,
    /// Made when the first image is met, and the same for all.
    preprocess: Option<Preprocess>,
    parts: Vec<Source>,
    notes: &'a mut Vec<String>,
}

impl Finder<'_> {
    fn file(&mut self, path: &Path, kind: Kind) -> Result<(), DataError> {
        match kind {
            Kind::Npy => {
                self.single(path, ".npy files")?;
                self.add(path, vec![Array::npy(path)?])
            }
            Kind::Npz => self.npz(path),
            Kind::Tensor => self.tensors(path, vec![path.into()]),
            Kind::Image => self.image(path),
        }
    }

    fn add(&mut self, path: &Path, arrays: Vec<Array>) -> Result<(), DataError> {
        let part = Source::arrays(path, arrays, self.inputs, self.notes)?;
        self.parts.push(part);
        Ok(())
    }

    /// The only input, for data that have no names.
    fn single(&self, path: &Path, what: &str) -> Result<&InputSpec, DataError> {
        match self.inputs {
            [input] => Ok(input),
            inputs => Err(DataError::MissingInput {
                path: path.into(),
                input: inputs
                    .get(1)
                    .map_or_else(String::new, |input| input.name.clone()),
                found: format!(
                    "{what}, which serve models of one input; this one has {}, so give .npz files",
                    inputs.len()
                ),
            }),
        }
    }

    fn npz(&mut self, path: &Path) -> Result<(), DataError> {
        let mut arrays = Array::npz(path)?;
        let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
        let mut found = Vec::new();
        for input in self.inputs {
            let only = self.inputs.len() == 1 && names.len() == 1;
            let place = arrays
                .iter()
                .position(|(name, _)| *name == input.name || only);
            let Some(place) = place else {
                return Err(DataError::MissingInput {
                    path: path.into(),
                    input: input.name.clone(),
                    found: listed(&names),
                });
            };
            let (name, array) = arrays.remove(place);
            array.check_sum(&name)?;
            found.push(array);
        }
        if !arrays.is_empty() {
            let extra: Vec<String> = arrays.into_iter().map(|(name, _)| name).collect();
            let note = format!("{}: not used: {}", path.display(), listed(&extra));
            self.notes.push(note);
        }
        self.add(path, found)
    }

    fn image(&mut self, path: &Path) -> Result<(), DataError> {
        let preprocess = match &self.preprocess {
            Some(preprocess) => preprocess.clone(),
            None => {
                let input = self.single(path, "images")?.clone();
                let made = Preprocess::new(&input, self.image, self.notes)?;
                self.preprocess.insert(made).clone()
            }
        };
        self.parts.push(Source::image(path.into(), preprocess));
        Ok(())
    }

    /// Tensor files of one folder: input_0.pb and so on make one set; otherwise, in a model of one
    /// input, each file is a set.
    fn tensors(&mut self, folder: &Path, files: Vec<PathBuf>) -> Result<(), DataError> {
        let number = |path: &PathBuf| -> Option<usize> {
            path.file_stem()?
                .to_str()?
                .strip_prefix("input_")?
                .parse()
                .ok()
        };
        let numbered: BTreeMap<usize, &PathBuf> = files
            .iter()
            .filter_map(|file| Some((number(file)?, file)))
            .collect();
        if numbered.is_empty() {
            self.single(folder, ".pb files without a number (as in input_0.pb)")?;
            for file in &files {
                self.add(file, vec![Array::tensor(file)?])?;
            }
            return Ok(());
        }
        let mut arrays = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let Some(file) = numbered.get(&index) else {
                return Err(DataError::MissingInput {
                    path: folder.into(),
                    input: input.name.clone(),
                    found: format!(
                        "no input_{index}.pb among {} numbered files",
                        numbered.len()
                    ),
                });
            };
            arrays.push(Array::tensor(file)?);
        }
        self.add(folder, arrays)
    }

    /// A folder holds files of one kind, or ONNX's test_data_set_N folders.
    fn folder(&mut self, path: &Path) -> Result<(), DataError> {
        let entries = fs::read_dir(path).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<std::io::Result<Vec<_>>>()
        });
        let mut entries = entries.map_err(|source| DataError::Io {
            path: path.into(),
            source,
        })?;
        entries.sort();
        let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.is_dir());
        let mut kinds: BTreeMap<Kind, Vec<PathBuf>> = BTreeMap::new();
        let count = files.len();
        for file in files {
            if let Some(kind) = kind(&file) {
                kinds.entry(kind).or_default().push(file);
            }
        }
        let read: usize = kinds.values().map(Vec::len).sum();
        let mut kinds = kinds.into_iter();
        match (kinds.next(), kinds.next()) {
            (None, _) => {
                let sets: Vec<_> = folders
                    .iter()
                    .filter(|f| f.join("input_0.pb").is_file())
                    .collect();
                if sets.is_empty() {
                    let found = format!("{count} other files and {} folders", folders.len());
                    return Err(no_files(path, found));
                }
                return sets.into_iter().try_for_each(|set| self.folder(set));
            }
            (Some((Kind::Tensor, mut files)), None) => {
                let output = |f: &PathBuf| {
                    f.file_name()
                        .is_some_and(|n| n.to_string_lossy().starts_with("output_"))
                };
                files.retain(|file| !output(file));
                self.tensors(path, files)?;
            }
            (Some((kind, files)), None) => {
                for file in files {
                    self.file(&file, kind)?;
                }
            }
            (Some((first, _)), Some((second, _))) => {
                return Err(no_files(
                    path,
                    format!("a mix of {first:?} and {second:?} files"),
                ));
            }
        }
        if read < count {
            self.notes.push(format!(
                "{}: {} other files are not used",
                path.display(),
                count - read
            ));
        }
        Ok(())
    }
}
