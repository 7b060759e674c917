//! What the documents promise: their configurations are accepted, the options they name exist, the
//! example they show is the one that is tested, and their links lead somewhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pasque::config::{EndpointConfig, ServerConfig};
use pasque_echo as _;
use pasque_files as _;
use pasque_ip as _;
use pasque_tests::{program, repository};
use pasque_udp as _;
use serde_json::Value;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/threats.md",
    "framework/src/docs/configuration.md",
    "framework/src/docs/data_path.md",
    "framework/src/docs/writing_an_endpoint.md",
];

struct Document {
    path: PathBuf,
    text: String,
}

fn documents() -> Vec<Document> {
    let read = |path: &str| {
        let path = repository().join(path);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Document { path, text }
    };
    DOCUMENTS.map(read).into()
}

impl Document {
    /// The contents of fenced blocks of one language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let fence = format!("```{language}\n");
        let mut rest = self.text.as_str();
        let mut blocks = Vec::new();
        while let Some((_, after)) = rest.split_once(&fence) {
            let (block, after) = after.split_once("```").expect("the block ends");
            blocks.push(block);
            rest = after;
        }
        blocks
    }

    /// Everything in backquotes: blocks and spans.
    fn code(&self) -> String {
        let parts = self.text.split('`');
        // Between two backquotes stands code; three of them count as an opening and a closing one.
        parts
            .enumerate()
            .filter(|(at, _)| at % 2 == 1)
            .map(|(_, code)| code)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap().display().to_string()
    }
}

#[test]
fn every_configuration_in_a_document_is_accepted() {
    let mut seen = 0;
    for document in documents() {
        for block in document.blocks("json") {
            let value: Value = serde_json::from_str(block)
                .unwrap_or_else(|error| panic!("{}: {error}:\n{block}", document.name()));
            let result = match value.get("endpoints") {
                Some(_) => ServerConfig::parse(block, Path::new("server.json")).map(drop),
                None => EndpointConfig::parse(block).map(drop),
            };
            result.unwrap_or_else(|error| panic!("{}: {error}", document.name()));
            seen += 1;
        }
    }
    assert!(
        seen >= 2,
        "{seen} configurations: are the blocks still marked as json?"
    );
}

#[test]
fn the_echo_is_the_one_that_is_tested() {
    let echo = fs::read_to_string(repository().join("tests/echo/src/lib.rs")).unwrap();
    assert!(echo.lines().count() < 40);
    for name in ["README.md", "writing_an_endpoint.md"] {
        let documents = documents();
        let document = documents
            .iter()
            .find(|document| document.name() == name)
            .unwrap();
        assert!(
            document.blocks("rust").contains(&echo.as_str()),
            "{name} does not show tests/echo/src/lib.rs as it is"
        );
    }
}

#[test]
fn every_option_in_a_document_exists() {
    let helps = [
        (
            "psq-server",
            help(
                "psq-server",
                &[
                    "check",
                    "doctor",
                    "endpoints",
                    "hash-password",
                    "reload",
                    "token",
                ],
            ),
        ),
        ("psq-client", help("psq-client", &["get"])),
    ];
    let mut seen = BTreeSet::new();
    for document in documents() {
        for line in document.code().lines() {
            let mut words = line.split_whitespace();
            let command = words.next().unwrap_or_default();
            let Some((name, help)) = helps.iter().find(|(name, _)| is_program(command, name))
            else {
                continue;
            };
            for option in words.filter(|word| word.starts_with('-')) {
                let known = help.contains(option);
                assert!(known, "{}: {name} has no option {option}", document.name());
                seen.insert(format!("{name} {option}"));
            }
        }
    }
    for expected in [
        "psq-server -c",
        "psq-client -d",
        "psq-client --pin",
        "psq-client -u",
        "psq-client -i",
    ] {
        assert!(seen.contains(expected), "no document shows {expected}");
    }
}

fn is_program(word: &str, name: &str) -> bool {
    word == name || word.ends_with(&format!("/{name}"))
}

/// The options of a program and its subcommands.
fn help(name: &str, subcommands: &[&str]) -> BTreeSet<String> {
    let mut options = BTreeSet::new();
    for subcommand in std::iter::once(None).chain(subcommands.iter().map(Some)) {
        let mut command = Command::new(program(name));
        command.args(subcommand).arg("--help");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name} {subcommand:?} --help");
        let text = String::from_utf8(output.stdout).unwrap();
        for word in text.split([' ', ',', '\n', '[', ']', '<', '=']) {
            if word.starts_with('-') {
                options.insert(word.to_owned());
            }
        }
    }
    options
}

#[test]
fn every_target_of_make_in_a_document_exists() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let is_target = |name: &str| {
        makefile
            .lines()
            .any(|line| line.starts_with(&format!("{name}:")))
    };
    for document in documents() {
        for line in document.code().lines() {
            if let Some(target) = line.trim().strip_prefix("make ") {
                let target = target.split_whitespace().next().unwrap_or_default();
                assert!(is_target(target), "{}: make {target}", document.name());
            }
        }
    }
}

#[test]
fn every_threat_has_its_row_and_the_tests_that_it_names_exist() {
    let repository = repository();
    let text = fs::read_to_string(repository.join("docs/threats.md")).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
        .zip(1..)
        .map(|((number, row), expected)| {
            assert_eq!(number, expected.to_string(), "the rows are in order");
            row
        })
        .collect();
    assert_eq!(rows.len(), 83);

    let mut code = String::new();
    read_code(repository, &mut code);
    let functions = code
        .split("fn ")
        .filter_map(|text| text.split_once('(').map(|(name, _)| name));
    // Tests that a macro makes are named at the beginning of a line.
    let made = code
        .lines()
        .filter_map(|line| line.trim().split_once(": \"").map(|(name, _)| name));
    let known: BTreeSet<&str> = functions.chain(made).collect();
    for row in rows {
        for name in row.split('`').skip(1).step_by(2) {
            let is_test = name.contains('_') && !name.contains('/');
            assert!(!is_test || known.contains(name), "no test {name}:{row}");
        }
        for name in row.split([' ', ',', ';', '|']) {
            if let Some(target) = name.strip_prefix('_') {
                let target = target.trim_end_matches('_');
                let corpus = repository.join("fuzz/corpus").join(target);
                assert!(corpus.is_dir(), "no fuzz target {target}:{row}");
            }
        }
    }
}

/// Appends every file of Rust below `folder`, but none that cargo has put there.
fn read_code(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !path.join("CACHEDIR.TAG").exists() {
            read_code(&path, code);
        } else if name.ends_with(".rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for document in documents() {
        let folder = document.path.parent().unwrap();
        for (_, link) in document
            .text
            .match_indices("](")
            .map(|(at, _)| document.text.split_at(at + 2))
        {
            let link = link.split([')', ' ']).next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || link.starts_with('#') || link.contains("::");
            let path = link.split('#').next().unwrap_or_default();
            // Links to items of the code are checked where the documentation is built.
            if !is_elsewhere && path.contains(['.', '/']) {
                assert!(folder.join(path).exists(), "{}: {link}", document.name());
            }
        }
    }
}
