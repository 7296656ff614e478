//! `cargo xtask check`: format, lints, documentation, and the rules of this tree that no compiler
//! knows: who may name which library, what the pure crate may not touch, and the shape of files.
//! Every finding is printed; one is enough to fail.

use crate::progress::Step;
use crate::{ebpf, paths, process, tools};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode> {
    let mut findings = tree(&paths::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    let mut cargo = |what: &str, arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = process::command("cargo");
        command
            .args(arguments)
            .current_dir(paths::root())
            .envs(variables.iter().copied());
        command.env("CARGO_TARGET_DIR", paths::target());
        if let Err(error) = process::run(what, &mut command) {
            println!("{error:#}");
            findings.push(what.to_owned());
        }
    };
    cargo("checking format", &["fmt", "--all", "--check"], &[]);
    cargo(
        "checking format of the kernel programs",
        &[
            "fmt",
            "--check",
            "--manifest-path",
            "governor-ebpf/Cargo.toml",
        ],
        &[],
    );
    tools::need(tools::Group::Build)?;
    let object = ebpf::build(false)?;
    let object = [(
        ebpf::OBJECT_VARIABLE,
        object.to_str().context("the object's path is not text")?,
    )];
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    cargo("checking lints", &lints, &object);
    // What is built only for tests has to build too.
    let of_tests = [
        "clippy",
        "--package",
        "governor",
        "--features",
        "next-layout",
        "--",
        "-D",
        "warnings",
    ];
    cargo("checking lints of the build for tests", &of_tests, &object);
    let [object] = object;
    let docs = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    cargo(
        "checking documentation",
        &docs,
        &[object, ("RUSTDOCFLAGS", "-D warnings")],
    );
    println!("{} findings", findings.len());
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rules about sources and manifests.
fn tree(root: &Path) -> Result<Vec<String>> {
    let step = Step::start("checking import direction and file shape");
    let mut files = Vec::new();
    for member in CRATES {
        collect(&root.join(member), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading `{}`", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        if name.ends_with(".rs") {
            findings.extend(source(&name, &text));
        } else {
            findings.extend(manifest(&name, &text));
        }
    }
    step.done();
    Ok(findings)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("listing `{}`", dir.display()))? {
        let path = entry
            .with_context(|| format!("listing `{}`", dir.display()))?
            .path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "rs")
            || path.file_name().is_some_and(|name| name == "Cargo.toml")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn source(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!(
            "{name}:1: no `//!` header says what this file promises"
        ));
    }
    let lines = text.lines().count();
    if lines > LONGEST && name != ENGINE {
        findings.push(format!("{name}: {lines} lines, more than {LONGEST}"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let mut find = |what: &str| findings.push(format!("{name}:{}: {what}", number + 1));
        if code.contains(concat!("#[", "allow(")) || code.contains(concat!("#![", "allow(")) {
            find("silence a lint with #[expect(lint, reason = \"…\")]");
        }
        for (word, home) in HOMES {
            if has_word(code, word) && !name.starts_with(home) && !name.starts_with("xtask/") {
                find(&format!("`{word}` is named outside {home}"));
            }
        }
        if name.starts_with("governor-core/src/") {
            for word in IMPURE {
                if has_word(code, word) {
                    find(&format!("`{word}` in the pure crate"));
                }
            }
        }
    }
    findings
}

fn manifest(name: &str, text: &str) -> Vec<String> {
    let owner = name.split('/').next().unwrap_or("");
    FOREIGN
        .iter()
        .filter(|(of, _)| *of == owner)
        .flat_map(|(_, banned)| banned.iter())
        .filter(|banned| {
            text.lines().any(|line| {
                line.split(['=', '.', ' '])
                    .next()
                    .is_some_and(|key| key.trim_matches('"') == **banned)
            })
        })
        .map(|banned| format!("{name}: depends on `{banned}`, which {owner} must not know"))
        .collect()
}

/// `word` as a whole path or identifier, not as part of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

const CRATES: &[&str] = &[
    "governor-common",
    "governor-core",
    "governor-ebpf",
    "governor",
    "governor-verifier",
    "xtask",
    "fuzz",
];
const ENGINE: &str = "governor-core/src/engine/mod.rs";
const LONGEST: usize = 500;

/// Libraries that only one module may name.
const HOMES: &[(&str, &str)] = &[
    ("aya", "governor/src/gate/"),
    ("tss_esapi", "governor/src/attester/"),
    ("libfuzzer_sys", "fuzz/"),
];

/// What would make a decision depend on more than its inputs.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::time::SystemTime",
    "SystemTime",
    "Instant::now",
    "HashMap",
    "HashSet",
];

/// Dependencies that would turn the crates' direction round.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "governor-common",
        &["governor-core", "governor", "tokio", "aya", "tss-esapi"],
    ),
    (
        "governor-core",
        &["governor", "tokio", "aya", "tss-esapi", "rand", "getrandom"],
    ),
    ("governor-ebpf", &["governor-core", "governor"]),
    ("governor-verifier", &["governor", "aya", "tss-esapi"]),
    (
        "xtask",
        &[
            "governor-common",
            "governor-core",
            "governor",
            "governor-verifier",
            "governor-fuzz",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::{has_word, manifest, source};

    #[test]
    fn a_word_is_not_part_of_another() {
        assert!(has_word("use aya::Ebpf;", "aya"));
        assert!(!has_word("use aya_ebpf::maps;", "aya"));
        assert!(!has_word("himalaya()", "aya"));
    }

    #[test]
    fn each_rule_finds_its_breach() {
        assert_eq!(source("governor/src/a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(
            source("governor/src/a.rs", "//! a\nuse aya::Ebpf;\n").len(),
            1
        );
        assert_eq!(
            source("governor/src/gate/a.rs", "//! a\nuse aya::Ebpf;\n").len(),
            0
        );
        assert_eq!(
            source("governor-core/src/a.rs", "//! a\nuse std::fs;\n").len(),
            1
        );
        let silenced = concat!("//! a\n#[", "allow(dead_code)]\n");
        assert_eq!(source("governor/src/a.rs", silenced).len(), 1);
        let long = "//! a\n".repeat(501);
        assert_eq!(source("governor/src/a.rs", &long).len(), 1);
        assert_eq!(source("governor-core/src/engine/mod.rs", &long).len(), 0);
    }

    #[test]
    fn a_manifest_may_not_turn_the_direction_round() {
        assert_eq!(
            manifest("xtask/Cargo.toml", "governor-core = { path = \"..\" }\n").len(),
            1
        );
        assert_eq!(
            manifest("xtask/Cargo.toml", "governor-core.workspace = true\n").len(),
            1
        );
        assert_eq!(
            manifest("governor/Cargo.toml", "governor-core.workspace = true\n").len(),
            0
        );
    }
}
