//! What must hold of every parser of bytes from outside, whatever the bytes.
//!
//! A module a target, with two functions: `check` puts bytes before the parser, asserts what must hold
//! of the answer and says whether they were accepted; `seeds` makes, by encoders of its own, inputs that
//! are. Promises: nothing here depends on anything but the bytes, so that what fails once fails again.
//! `cargo xtask fuzz` runs the targets; the tests below run all of them over what little is needed to
//! know that they work.

pub mod armor;
pub mod bundle;
pub mod challenge;
pub mod config;
pub mod evidence;
pub mod host;
pub mod keys;
pub mod ledger;
pub mod policy;
pub mod public;
pub mod quote;
pub mod record;
pub mod reference;
pub mod requests;
pub mod signature;
pub mod signing;
pub mod wire;

pub use host::{arguments, files, program, sockets, state, types};

/// Where a target puts its seeds before it starts, if this is set.
pub const SEEDS: &str = "GOVERNOR_FUZZ_SEEDS";

/// The whole of a fuzz target.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        libfuzzer_sys::fuzz_target!(
            init: $crate::plant(&$crate::$name::seeds()),
            |bytes: &[u8]| {
                $crate::$name::check(bytes);
            }
        );
    };
}

/// Writes the seeds into the directory that [`SEEDS`] names.
///
/// # Panics
/// If they cannot be written: a run without them would look like one with them.
pub fn plant(seeds: &[Vec<u8>]) {
    let Some(dir) = std::env::var_os(SEEDS) else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    let made = std::fs::create_dir_all(&dir);
    assert!(made.is_ok(), "making `{}`: {made:?}", dir.display());
    for (number, seed) in seeds.iter().enumerate() {
        let path = dir.join(format!("seed-{number}"));
        let written = std::fs::write(&path, seed);
        assert!(written.is_ok(), "writing `{}`: {written:?}", path.display());
    }
}

/// Parts of an input, each behind its length; what does not fit is the last.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        found.push(part);
        bytes = rest;
    }
    found
}

/// The input whose [`parts`] these are.
pub(crate) fn joined<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        put_sized(&mut bytes, part.as_ref());
    }
    bytes
}

/// A part behind its 16-bit length, as the TPM writes it too.
pub(crate) fn put_sized(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(part.iter().take(length.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = (&'static str, fn(&[u8]) -> bool, fn() -> Vec<Vec<u8>>);

    macro_rules! targets {
        ($($name:ident),+) => { [$((stringify!($name), $name::check, $name::seeds)),+] };
    }

    const TARGETS: [Target; 21] = targets!(
        arguments, armor, bundle, challenge, config, evidence, files, keys, ledger, policy,
        program, public, quote, record, reference, requests, signature, sockets, state, types,
        wire
    );

    #[test]
    fn every_program_is_a_target_here() {
        let manifest = include_str!("../Cargo.toml");
        let mut programs: Vec<&str> = manifest
            .split("[[bin]]\nname = \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        programs.sort_unstable();
        assert_eq!(programs, TARGETS.map(|(name, ..)| name));
    }

    #[test]
    fn every_seed_is_accepted() {
        for (name, check, seeds) in TARGETS {
            let seeds = seeds();
            assert!(!seeds.is_empty(), "{name}");
            for (number, seed) in seeds.iter().enumerate() {
                assert!(check(seed), "{name}, seed {number}");
            }
        }
    }

    #[test]
    fn what_must_hold_holds_of_seeds_that_are_cut_or_changed() {
        for (_, check, seeds) in TARGETS {
            for seed in seeds() {
                let step = seed.len() / 12 + 1;
                for at in (0..seed.len()).step_by(step) {
                    check(&seed[..at]);
                    let mut changed = seed.clone();
                    changed[at] ^= 1 << (at % 8);
                    check(&changed);
                }
            }
        }
    }

    #[test]
    fn parts_come_out_as_they_went_in() {
        let bytes = joined(&[&b"a"[..], b"", b"bc"]);
        assert_eq!(parts(&bytes), [&b"a"[..], b"", b"bc"]);
        assert_eq!(parts(&bytes[..bytes.len() - 1])[2], b"b");
    }
}
