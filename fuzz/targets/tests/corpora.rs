//! Every input that was ever worth keeping, again, on every run of the tests.

use std::fs;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pasque_fuzz_targets::TARGETS;

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut entries: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn survives(run: impl FnOnce() + UnwindSafe) -> bool {
    catch_unwind(run).is_ok()
}

#[test]
fn every_input_of_every_corpus_passes() {
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let inputs = entries(&fuzz_folder().join("corpus").join(name));
        assert!(!inputs.is_empty(), "{name} has an empty corpus");
        for path in inputs {
            let input = fs::read(&path).unwrap();
            if !survives(|| run(&input)) {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let stems = |folder: &str| -> Vec<String> {
        let paths = entries(&fuzz_folder().join(folder));
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        paths.iter().map(stem).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
}
