//! The credential that breaks the glass: what is signed, who may sign, and what `ssh-keygen` says of it.

mod common;

use std::process::{Command, Stdio};

use common::{bundle, example, key, sign, signature, trusted};
use governor_core::{
    digest::Digest,
    engine::{
        BREAK_GLASS, ChallengeError, GlassChallenge, GlassKeys, LONGEST, Request, RequestError,
    },
    policy::{KeysError, NAMESPACE, PolicyError, SIGNATURE, SignatureError, open},
};
use proptest::prelude::*;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

fn challenge() -> GlassChallenge {
    GlassChallenge {
        host: Digest::of(b"host"),
        boot: [0xb0; 16],
        nonce: [0x5a; 32],
        request: Request::new("the TPM is gone: see ticket 7", 600).expect("a request"),
    }
}

fn keys(seeds: &[u8]) -> GlassKeys {
    let line = |seed: &u8| key(*seed).public_key().to_openssh().expect("encodes") + "\n";
    GlassKeys::parse(&seeds.iter().map(line).collect::<String>()).expect("keys")
}

fn signed(seed: u8, namespace: &str, text: &str) -> String {
    signature(&key(seed), namespace, text.as_bytes())
}

#[test]
fn the_text_says_all_that_is_bound_and_reads_back() {
    let challenge = challenge();
    let text = challenge.write();
    let expected = format!(
        "governor-break-glass-challenge-v1\nhost {}\nboot {}\nnonce {}\nseconds 600\n\
         reason the TPM is gone: see ticket 7\n",
        Digest::of(b"host"),
        "b0".repeat(16),
        "5a".repeat(32)
    );
    assert_eq!(text, expected);
    assert_eq!(GlassChallenge::parse(&text), Ok(challenge));
}

#[test]
fn a_text_that_is_not_written_so_is_no_challenge() {
    let text = challenge().write();
    for length in 0..text.len() {
        let cut = GlassChallenge::parse(&text[..length]);
        assert!(cut.is_err(), "{length}: {cut:?}");
    }
    for behind in ["\n", " ", "x", "reason more\n", "\0"] {
        let longer = GlassChallenge::parse(&format!("{text}{behind}"));
        assert!(longer.is_err(), "{behind:?}: {longer:?}");
    }
    for (from, to) in [
        ("governor-break-glass-challenge-v1", "governor-quote-v1"),
        ("boot b0", "boot B0"),
        ("seconds 600", "seconds 0600"),
        ("seconds 600", "seconds +600"),
        ("seconds 600", "seconds 0"),
        ("seconds 600", "seconds 14401"),
        ("seconds 600", "seconds 600 "),
        ("nonce ", "nonce  "),
        ("\nboot", "\r\nboot"),
        ("reason the", "reason  the"),
        ("reason the", "reason \tthe"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        let read = GlassChallenge::parse(&other);
        assert!(read.is_err(), "{to:?}: {read:?}");
    }
    let lines: Vec<&str> = text.lines().collect();
    for first in 0..lines.len() {
        for second in 0..first {
            let mut swapped = lines.clone();
            swapped.swap(first, second);
            let read = GlassChallenge::parse(&(swapped.join("\n") + "\n"));
            assert!(matches!(read, Err(ChallengeError::Line { .. })), "{read:?}");
        }
    }
}

#[test]
fn a_request_has_an_end_and_a_reason() {
    let longest = LONGEST.as_seconds();
    assert!(Request::new("x", 1).is_ok() && Request::new("x", longest).is_ok());
    for asked in [0, longest + 1, u64::MAX] {
        let error = Request::new("x", asked).expect_err("no end");
        assert_eq!(error, RequestError::Span { asked, longest });
        assert!(error.to_string().contains(&longest.to_string()), "{error}");
    }
    for reason in ["", " ", "a\nb", "a\u{1b}[2J", " a", &"x".repeat(513)] {
        assert_eq!(
            Request::new(reason, 1),
            Err(RequestError::Reason),
            "{reason:?}"
        );
    }
}

#[test]
fn one_listed_key_is_enough_and_no_other_counts() {
    let (challenge, keys) = (challenge(), keys(&[1, 2]));
    let text = challenge.write();
    for (seed, place) in [(1, 0), (2, 1)] {
        let signer = keys.signer(&challenge, signed(seed, BREAK_GLASS, &text).as_bytes());
        assert_eq!(signer.ok(), keys.fingerprints().nth(place));
    }
    let says = |armor: &str| {
        let refused = keys.signer(&challenge, armor.as_bytes());
        refused.expect_err("refused").to_string()
    };
    assert!(says(&signed(3, BREAK_GLASS, &text)).contains("which is not trusted"));
    assert!(says(&signed(1, NAMESPACE, &text)).contains("is for `governor-policy@v1`"));
    assert!(says(&signed(1, BREAK_GLASS, &text[1..])).contains("over other bytes"));
    assert!(says(&signed(1, BREAK_GLASS, &text).repeat(2)).contains("2 signatures, not one"));
    assert!(says("").contains("cannot be read"));
}

#[test]
fn a_signature_is_for_one_host_boot_nonce_reason_and_duration() {
    let (asked, keys) = (challenge(), keys(&[1]));
    let armor = signed(1, BREAK_GLASS, &asked.write());
    let request = |reason, seconds| Request::new(reason, seconds).expect("a request");
    let others = [
        GlassChallenge {
            host: Digest::of(b"another"),
            ..asked.clone()
        },
        GlassChallenge {
            boot: [1; 16],
            ..asked.clone()
        },
        GlassChallenge {
            nonce: [1; 32],
            ..asked.clone()
        },
        GlassChallenge {
            request: request(asked.request.reason(), 601),
            ..asked.clone()
        },
        GlassChallenge {
            request: request("lunch", 600),
            ..asked.clone()
        },
    ];
    for other in others {
        let refused = keys.signer(&other, armor.as_bytes());
        assert!(refused.is_err(), "{other:?}");
    }
    assert!(keys.signer(&asked, armor.as_bytes()).is_ok());
}

#[test]
fn a_signature_that_is_cut_or_goes_on_is_refused() {
    let (challenge, keys) = (challenge(), keys(&[1]));
    let whole = signed(1, BREAK_GLASS, &challenge.write());
    // The last byte is only the final line end.
    for length in 0..whole.len() - 1 {
        let refused = keys.signer(&challenge, &whole.as_bytes()[..length]);
        assert!(refused.is_err(), "{length}");
    }
    for behind in ["x", "\n\nx\n", "-----BEGIN SSH SIGNATURE-----\n"] {
        let longer = format!("{whole}{behind}");
        assert!(
            keys.signer(&challenge, longer.as_bytes()).is_err(),
            "{behind:?}"
        );
    }
}

/// The same key, listed for both: what it signed for one is nothing for the other.
#[test]
fn a_break_glass_signature_signs_no_policy() {
    let mut files = sign(example(), &[1]);
    let manifest = governor_core::policy::write_manifest(&bundle(example()));
    let armor = signed(1, BREAK_GLASS, &manifest);
    files.insert(SIGNATURE.to_owned(), armor.into_bytes());
    let refused = open(&bundle(files), &trusted(&[1], 1), common::NOW);
    assert!(
        matches!(
            refused,
            Err(PolicyError::Signature(SignatureError::Threshold {
                valid: 0,
                ..
            }))
        ),
        "{refused:?}"
    );
}

#[test]
fn without_keys_there_are_none_and_later_ones_do_not_count() {
    assert_eq!(GlassKeys::parse("# none\n"), Err(KeysError::Empty));
    let known = keys(&[1]).digests();
    let kept = keys(&[1, 2]).only(&known).expect("one of them");
    assert!(kept.fingerprints().eq(keys(&[1]).fingerprints()));
    let none = keys(&[2]).only(&known);
    assert!(matches!(none, Err(KeysError::Pinned { .. })), "{none:?}");
}

/// `ssh-keygen` is the other hand: what it signs counts here, and what is signed here counts there.
#[test]
fn ssh_keygen_agrees() {
    let dir = tempdir();
    let text = challenge().write();
    let path = dir.join("challenge");
    std::fs::write(&path, &text).expect("written");
    for kind in ["ed25519", "ecdsa"] {
        let file = dir.join(kind);
        let made = ["-q", "-t", kind, "-N", "", "-f"];
        ssh_keygen(Command::new("ssh-keygen").args(made).arg(&file), "");
        let public = std::fs::read_to_string(file.with_extension("pub")).expect("read");
        let keys = GlassKeys::parse(&public).expect("keys");
        let mut theirs = Command::new("ssh-keygen");
        theirs.args(["-q", "-Y", "sign", "-n", BREAK_GLASS, "-f"]);
        ssh_keygen(theirs.arg(&file).arg(&path), "");
        let armor = std::fs::read(dir.join("challenge.sig")).expect("signed");
        assert_eq!(
            keys.signer(&challenge(), &armor).ok(),
            keys.fingerprints().next()
        );
        std::fs::remove_file(dir.join("challenge.sig")).expect("removed");

        let private = std::fs::read(&file).expect("read");
        let private = PrivateKey::from_openssh(private).expect("a key");
        assert!(matches!(
            private.algorithm(),
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. }
        ));
        let ours = private.sign(BREAK_GLASS, ssh_key::HashAlg::Sha512, text.as_bytes());
        let ours = ours
            .expect("signs")
            .to_pem(LineEnding::LF)
            .expect("encodes");
        std::fs::write(dir.join("ours"), ours).expect("written");
        std::fs::write(dir.join("allowed"), format!("op {public}")).expect("written");
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-q", "-Y", "verify", "-n", BREAK_GLASS, "-I", "op", "-f"]);
        verify
            .arg(dir.join("allowed"))
            .arg("-s")
            .arg(dir.join("ours"));
        ssh_keygen(&mut verify, &text);
    }
    std::fs::remove_dir_all(dir).expect("removed");
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("governor-break-glass-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("made");
    dir
}

fn ssh_keygen(command: &mut Command, input: &str) {
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("running ssh-keygen: install the package openssh-client");
    let mut to = running.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut to, input.as_bytes()).expect("written");
    drop(to);
    let status = running.wait().expect("ended");
    assert!(status.success(), "{status}");
}

proptest! {
    /// Whatever bytes somebody calls a signature, nothing but one by a listed key counts.
    #[test]
    fn noise_breaks_nothing(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let (challenge, keys) = (challenge(), keys(&[1]));
        prop_assert!(keys.signer(&challenge, &noise).is_err());
        let mut armor = signed(1, BREAK_GLASS, &challenge.write()).into_bytes();
        let at = at.index(armor.len() - 1);
        armor[at] ^= flip;
        // A line may end in blanks.
        let same = armor[at].is_ascii_whitespace();
        prop_assert!(same || keys.signer(&challenge, &armor).is_err());
    }

    #[test]
    fn a_text_that_reads_is_the_one_that_is_signed(text in "\\PC{0,200}|governor-break-glass-challenge-v1\n(host [0-9a-f]{64}\n)?(boot [0-9a-f]{32}\n)?(nonce [0-9a-f]{64}\n)?(seconds [0-9]{1,6}\n)?(reason [ -~]{0,20}\n)?") {
        if let Ok(challenge) = GlassChallenge::parse(&text) {
            prop_assert_eq!(challenge.write(), text);
        }
    }
}
