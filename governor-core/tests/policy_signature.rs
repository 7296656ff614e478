//! Everything that must not count as a signed policy, and what `ssh-keygen` says about the rest.

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{Files, NOW, bundle, example, key, sign, signature, trusted};
use governor_core::{
    digest::Digest,
    policy::{
        ArmorError, KeysError, MANIFEST, MAX_SIGNATURES, NAMESPACE, POLICY, PolicyError,
        ReadBundle, SIGNATURE, SignatureError, TrustedKeys, VerifiedPolicy, open,
    },
    time::WallTime,
};
use proptest::prelude::*;
use ssh_key::PrivateKey;

fn opened(files: Files, keys: &TrustedKeys) -> Result<VerifiedPolicy, PolicyError> {
    open(&bundle(files), keys, NOW)
}

/// Fewer than needed, with what was said about the others.
fn unmet(result: Result<VerifiedPolicy, PolicyError>) -> (usize, usize, String) {
    match result {
        Err(PolicyError::Signature(SignatureError::Threshold {
            valid,
            needed,
            found,
        })) => (valid, needed, found.to_string()),
        other => panic!("expected too few signatures, got {other:?}"),
    }
}

#[test]
fn a_signed_policy_opens() {
    let files = sign(example(), &[1]);
    let policy = opened(files.clone(), &trusted(&[1], 1)).expect("opens");
    assert_eq!(policy.digest(), Digest::of(&files[MANIFEST]));
    assert_eq!(
        policy.signers(),
        trusted(&[1], 1).fingerprints().collect::<Vec<_>>()
    );
    assert_eq!(policy.policy().name(), "agent-host");
}

#[test]
fn without_keys_there_is_nothing_to_open_with() {
    let line = key(1).public_key().to_openssh().expect("encodes");
    assert_eq!(TrustedKeys::parse("", 1), Err(KeysError::Empty));
    assert_eq!(TrustedKeys::parse("", 0), Err(KeysError::Empty));
    assert_eq!(TrustedKeys::parse("# none\n\n", 1), Err(KeysError::Empty));
    for threshold in [0, 2, u32::MAX] {
        let error = TrustedKeys::parse(&line, threshold);
        assert_eq!(error, Err(KeysError::Threshold { threshold, keys: 1 }));
    }
    let twice = format!("{line} one\n# again\n{line} two\n");
    assert_eq!(
        TrustedKeys::parse(&twice, 2),
        Err(KeysError::Twice { line: 3 })
    );
    let broken = TrustedKeys::parse(&line[..40], 1);
    assert!(
        matches!(broken, Err(KeysError::Key { line: 1, .. })),
        "{broken:?}"
    );
    let options = TrustedKeys::parse(&format!("cert-authority {line}"), 1);
    assert!(options.is_err(), "{options:?}");
    assert!(TrustedKeys::parse(&format!("# ours\n\n{line} me@host\n"), 1).is_ok());
}

#[test]
fn removing_the_signature_is_not_a_way_in() {
    let mut files = sign(example(), &[1]);
    files.remove(SIGNATURE);
    let error = opened(files.clone(), &trusted(&[1], 1));
    assert!(
        matches!(error, Err(PolicyError::Signature(SignatureError::Unsigned))),
        "{error:?}"
    );
    files.remove(MANIFEST);
    let error = opened(files, &trusted(&[1], 1));
    assert!(
        matches!(
            error,
            Err(PolicyError::Signature(SignatureError::NoManifest))
        ),
        "{error:?}"
    );
}

#[test]
fn a_signature_cut_anywhere_is_refused() {
    let files = sign(example(), &[1]);
    let (whole, keys) = (files[SIGNATURE].clone(), trusted(&[1], 1));
    // The last byte is only the final line end.
    for length in 0..whole.len() - 1 {
        let mut files = files.clone();
        files.insert(SIGNATURE.to_owned(), whole[..length].to_vec());
        let error = opened(files, &keys);
        assert!(
            matches!(error, Err(PolicyError::Signature(_))),
            "{length}: {error:?}"
        );
    }
}

#[test]
fn more_signatures_than_anyone_needs_are_refused() {
    let mut files = sign(example(), &[1]);
    let one = files[SIGNATURE].clone();
    files.insert(
        SIGNATURE.to_owned(),
        one.repeat(MAX_SIGNATURES / one.len() + 1),
    );
    let error = opened(files, &trusted(&[1], 1));
    assert!(
        matches!(
            error,
            Err(PolicyError::Signature(SignatureError::Armor(
                ArmorError::TooLarge
            )))
        ),
        "{error:?}"
    );
}

#[test]
fn a_changed_signature_is_refused() {
    let (files, keys) = (sign(example(), &[1]), trusted(&[1], 1));
    for at in 0..files[SIGNATURE].len() - 1 {
        let mut files = files.clone();
        let byte = &mut files.get_mut(SIGNATURE).expect("signed")[at];
        *byte = if *byte == b'A' { b'B' } else { b'A' };
        let opened = opened(files, &keys);
        assert!(
            matches!(opened, Err(PolicyError::Signature(_))),
            "{at}: {opened:?}"
        );
    }
}

#[test]
fn only_trusted_keys_count_in_our_namespace_over_these_bytes() {
    let (valid, needed, found) = unmet(opened(sign(example(), &[2]), &trusted(&[1], 1)));
    assert_eq!((valid, needed), (0, 1));
    assert!(found.contains("is not trusted"), "{found}");

    let mut files = sign(example(), &[1]);
    let other = signature(&key(1), "file", &files[MANIFEST]);
    files.insert(SIGNATURE.to_owned(), other.into_bytes());
    let (_, _, found) = unmet(opened(files.clone(), &trusted(&[1], 1)));
    assert!(found.contains("`file`"), "{found}");

    let other = signature(&key(1), NAMESPACE, b"other bytes");
    files.insert(SIGNATURE.to_owned(), other.into_bytes());
    let (_, _, found) = unmet(opened(files.clone(), &trusted(&[1], 1)));
    assert!(found.contains("over other bytes"), "{found}");

    // The manifest may not change after it was signed, not even by a blank line.
    let mut files = sign(example(), &[1]);
    files.get_mut(MANIFEST).expect("signed").push(b'\n');
    unmet(opened(files, &trusted(&[1], 1)));
}

#[test]
fn signers_are_counted_once() {
    let two_of_three = trusted(&[1, 2, 3], 2);
    assert_eq!(unmet(opened(sign(example(), &[1]), &two_of_three)).0, 1);
    assert_eq!(
        unmet(opened(sign(example(), &[1, 1, 1]), &two_of_three)).0,
        1
    );
    assert_eq!(unmet(opened(sign(example(), &[1, 4]), &two_of_three)).0, 1);
    let policy = opened(sign(example(), &[3, 4, 1]), &two_of_three).expect("two of three");
    let all: Vec<_> = two_of_three.fingerprints().collect();
    assert_eq!(policy.signers(), [all[0].clone(), all[2].clone()]);
}

#[test]
fn keys_that_were_kept_only_ever_become_stricter() {
    let before = trusted(&[1, 2, 3], 2);
    let (known, least) = (before.digests(), before.threshold());
    let only = |keys: &[u8], threshold| trusted(keys, threshold).only(&known, least);
    // A new key signs nothing, and a lower threshold is none.
    let kept = only(&[1, 2, 9], 1).expect("two of them were there");
    assert_eq!(kept.threshold(), 2);
    assert_eq!(unmet(opened(sign(example(), &[1, 9]), &kept)).0, 1);
    opened(sign(example(), &[1, 2]), &kept).expect("both were there");
    // One that was taken away stays away, and more may be asked for.
    assert_eq!(only(&[1, 2, 3], 3).expect("stricter").threshold(), 3);
    for left in [&[1, 9][..], &[8, 9]] {
        let refused = only(left, 2);
        assert!(matches!(refused, Err(KeysError::Pinned { .. })), "{left:?}");
    }
}

#[test]
fn every_file_is_listed_once_and_is_what_was_listed() {
    let keys = trusted(&[1], 1);
    let manifest = |files: Files| match opened(files, &keys) {
        Err(PolicyError::Manifest(list)) => list.to_string(),
        other => panic!("expected a refused manifest, got {other:?}"),
    };
    let mut files = sign(example(), &[1]);
    files.insert("extra".to_owned(), vec![]);
    assert!(manifest(files).contains("file `extra` is not listed"));

    let mut files = sign(example(), &[1]);
    files.remove("reference.toml");
    assert!(manifest(files).contains("file `reference.toml` is listed but missing"));

    let mut files = sign(example(), &[1]);
    files.get_mut("reference.toml").expect("there").push(b'\n');
    assert!(manifest(files).contains("file `reference.toml` differs"));

    for (line, said) in [
        ("policy.toml", "listed twice"),
        ("../policy.toml", "not a clean relative path"),
        ("./policy.toml", "not a clean relative path"),
        (MANIFEST, "cannot list itself"),
        (SIGNATURE, "cannot list itself"),
    ] {
        let mut files = sign(example(), &[1]);
        let mut text = String::from_utf8(files[MANIFEST].clone()).expect("UTF-8");
        text.push_str(&format!("{}  {line}\n", Digest::of(b"")));
        let signed = signature(&key(1), NAMESPACE, text.as_bytes());
        files.insert(MANIFEST.to_owned(), text.into_bytes());
        files.insert(SIGNATURE.to_owned(), signed.into_bytes());
        let list = manifest(files);
        assert!(list.contains(said), "{list}");
    }
}

#[test]
fn nothing_is_parsed_before_it_is_verified() {
    let mut files = example();
    files.insert(POLICY.to_owned(), b"not = [toml".to_vec());
    let signed = sign(files, &[2]);
    unmet(opened(signed.clone(), &trusted(&[1], 1)));
    let error = opened(signed, &trusted(&[2], 1));
    assert!(matches!(error, Err(PolicyError::Invalid(_))), "{error:?}");
}

#[test]
fn a_policy_that_is_not_text_is_refused_at_its_byte() {
    let mut files = example();
    files.insert(POLICY.to_owned(), b"# ok\nx\xff".to_vec());
    match opened(sign(files, &[1]), &trusted(&[1], 1)) {
        Err(PolicyError::Invalid(list)) => {
            assert_eq!(
                list.to_string(),
                "policy.toml:2:2: error: file is not UTF-8 from here on"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn validity_has_two_ends() {
    let bundle = bundle(sign(example(), &[1]));
    let keys = trusted(&[1], 1);
    let (from, until) = (1_793_491_200, 1_801_440_000);
    assert!(open(&bundle, &keys, WallTime(from)).is_ok());
    assert!(open(&bundle, &keys, WallTime(until - 1)).is_ok());
    let early = open(&bundle, &keys, WallTime(from - 1));
    assert!(
        matches!(early, Err(PolicyError::NotYetValid { .. })),
        "{early:?}"
    );
    for now in [until, i64::MAX] {
        let late = open(&bundle, &keys, WallTime(now));
        assert!(matches!(late, Err(PolicyError::Expired { .. })), "{late:?}");
    }
}

#[test]
fn what_was_read_counts_only_for_whoever_is_trusted_by_then_and_for_as_long_as_it_is_valid() {
    let (from, until) = (1_793_491_200, 1_801_440_000);
    let read = || {
        let files = bundle(sign(example(), &[1, 2]));
        ReadBundle::new(files, &trusted(&[1, 2], 2), WallTime(from)).expect("reads")
    };
    let (keys, now) = (trusted(&[2], 1), WallTime(until - 1));
    let (bundle, verified) = read().again(&keys, now).expect("is good still");
    // Whoever signed is said by the keys of that moment.
    let anew = open(&bundle, &keys, now).expect("opens");
    assert_eq!(verified, anew);
    assert_eq!(verified.signers().len(), 1);
    let gone = read()
        .again(&trusted(&[3], 1), now)
        .map(|(_, policy)| policy);
    assert_eq!(unmet(gone).0, 0);
    let late = read().again(&keys, WallTime(until));
    assert!(matches!(late, Err(PolicyError::Expired { .. })), "{late:?}");
    let early = read().again(&keys, WallTime(from - 1));
    assert!(
        matches!(early, Err(PolicyError::NotYetValid { .. })),
        "{early:?}"
    );
}

#[test]
fn serials_grow() {
    let policy = opened(sign(example(), &[1]), &trusted(&[1], 1)).expect("opens");
    let other = Digest::of(b"another policy");
    assert!(policy.check_serial(None).is_ok());
    assert!(policy.check_serial(Some((6, other))).is_ok());
    assert!(policy.check_serial(Some((7, policy.digest()))).is_ok());
    let reused = policy.check_serial(Some((7, other)));
    assert!(
        matches!(reused, Err(PolicyError::SerialReused { serial: 7, .. })),
        "{reused:?}"
    );
    for accepted in [other, policy.digest()] {
        let low = policy.check_serial(Some((8, accepted)));
        assert!(matches!(
            low,
            Err(PolicyError::SerialTooLow {
                serial: 7,
                highest: 8
            })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_are_a_signature_or_a_panic(
        signatures in prop::collection::vec(any::<u8>(), 0..400),
        manifest in prop::collection::vec(any::<u8>(), 0..200),
        armored in any::<bool>(),
    ) {
        let mut files = sign(example(), &[1]);
        let mut bytes = signatures;
        if armored {
            let mut armor = b"-----BEGIN SSH SIGNATURE-----\n".to_vec();
            armor.extend(bytes.iter().map(|b| b"AZaz09+/=\n"[usize::from(b % 10)]));
            armor.extend(b"\n-----END SSH SIGNATURE-----\n");
            bytes = armor;
        }
        files.insert(SIGNATURE.to_owned(), bytes);
        prop_assert!(opened(files.clone(), &trusted(&[1], 1)).is_err());
        let signed = signature(&key(1), NAMESPACE, &manifest);
        files.insert(MANIFEST.to_owned(), manifest);
        files.insert(SIGNATURE.to_owned(), signed.into_bytes());
        prop_assert!(matches!(
            opened(files, &trusted(&[1], 1)),
            Err(PolicyError::Manifest(_))
        ));
    }

    #[test]
    fn no_text_is_a_key_or_a_panic(text in "\\PC{0,200}") {
        prop_assert!(TrustedKeys::parse(&text, 1).is_err());
    }
}

#[test]
fn ssh_keygen_accepts_ours_and_we_accept_its() {
    for kind in ["ed25519", "ecdsa"] {
        let dir = scratch(kind);
        let private = dir.join("key");
        keygen(
            &[
                "-q",
                "-t",
                kind,
                "-N",
                "",
                "-C",
                "test",
                "-f",
                path(&private),
            ],
            b"",
        );
        let public = std::fs::read_to_string(dir.join("key.pub")).expect("a public key");
        let keys = TrustedKeys::parse(&public, 1).expect("its key");
        for hash in ["sha256", "sha512"] {
            let mut files = sign(example(), &[1]);
            let option = format!("hashalg={hash}");
            let signed = keygen(
                &[
                    "-Y",
                    "sign",
                    "-f",
                    path(&private),
                    "-n",
                    NAMESPACE,
                    "-O",
                    &option,
                ],
                &files[MANIFEST],
            );
            files.insert(SIGNATURE.to_owned(), signed);
            opened(files, &keys).expect("signed by ssh-keygen");
        }
        let key =
            PrivateKey::from_openssh(std::fs::read(&private).expect("a key")).expect("its key");
        let manifest = sign(example(), &[1]).remove(MANIFEST).expect("signed");
        let ours = dir.join("ours.sig");
        std::fs::write(&ours, signature(&key, NAMESPACE, &manifest)).expect("written");
        let signers = dir.join("signers");
        std::fs::write(&signers, format!("me {public}")).expect("written");
        keygen(
            &[
                "-Y",
                "verify",
                "-f",
                path(&signers),
                "-I",
                "me",
                "-n",
                NAMESPACE,
                "-s",
                path(&ours),
            ],
            &manifest,
        );
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}

/// Runs `ssh-keygen`, which must succeed, and returns what it printed.
fn keygen(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ssh-keygen")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("running ssh-keygen: install the package openssh-client");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input)
        .expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {said}");
    output.stdout
}

fn scratch(name: &str) -> PathBuf {
    let name = format!("policy-signature-{name}-{}", std::process::id());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
