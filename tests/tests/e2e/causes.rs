//! Every cause that operators can meet is produced by some test, here or beside the
//! agent's code: what is documented and never seen may never happen.

use std::fs;
use std::path::Path;

use tidegate_tests::checkout;

#[test]
fn every_documented_cause_is_named_by_a_test() {
    let tests = [end_to_end(), beside_the_code(&checkout("agent/src"))].concat();
    let page = fs::read_to_string(checkout("docs/causes.md")).unwrap();
    let (_, causes) = page.split_once("| cause | fault |").expect("the table");
    let causes: Vec<&str> = causes.lines().filter_map(first_cell).collect();
    assert!(causes.len() > 30, "{causes:?}");
    let is_named = |cause: &&str| {
        let (label, variant) = (format!("\"{cause}\""), format!("Cause::{}", variant(cause)));
        tests.contains(&label) || tests.contains(&variant)
    };
    let unnamed: Vec<_> = causes
        .into_iter()
        .filter(|cause| !is_named(cause))
        .collect();
    assert_eq!(unnamed, [""; 0], "no test ends a connection for these");
}

/// What a row is about: `| `cause` | …`.
fn first_cell(row: &str) -> Option<&str> {
    let (cell, _) = row.strip_prefix("| `")?.split_once("` |")?;
    Some(cell)
}

/// `client_rate` is `ClientRate` in the code.
fn variant(label: &str) -> String {
    let words = label.split('_');
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    };
    words.map(capital).collect()
}

fn end_to_end() -> String {
    let own = Path::new(file!()).file_name();
    let files = sources(&checkout("tests/tests/e2e"));
    let others = files
        .into_iter()
        .filter(|(path, _)| path.file_name() != own);
    others.map(|(_, text)| text).collect()
}

/// The tests of the agent's files: those called so, and the ends of the others.
/// `cause.rs` names them all.
fn beside_the_code(directory: &Path) -> String {
    let files = sources(directory).into_iter();
    let tests = files.filter(|(path, _)| !path.ends_with("cause.rs"));
    let tests = tests.map(
        |(path, text)| match text.split_once("#[cfg(test)]\nmod tests {") {
            Some((_, tests)) => tests.to_owned(),
            None if path.ends_with("tests.rs") => text,
            None => String::new(),
        },
    );
    tests.collect()
}

fn sources(directory: &Path) -> Vec<(std::path::PathBuf, String)> {
    let entries = fs::read_dir(directory).expect("a checkout has its sources");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            found.push((path, text));
        }
    }
    found
}
