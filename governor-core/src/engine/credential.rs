//! What breaking the glass takes besides being root: a signature over one challenge.
//!
//! Promises: what is signed names the host, the boot, how long and why, and a nonce that was never
//! used; a signature counts only by a key that is listed for this and for nothing else, in a namespace
//! of its own; a text is a challenge only if it is written exactly as [`Challenge::write`] does. Makes
//! no nonce, and keeps none: whether a challenge is still open is for whoever issued it.

use core::fmt;

use thiserror::Error;

use crate::{
    digest::Digest,
    policy::{KeysError, TrustedKeys},
    time::Span,
};

/// The namespace of break-glass signatures.
pub const BREAK_GLASS: &str = "governor-break-glass@v1";
/// No break-glass lasts longer. Whoever needs more asks again, on the record.
pub const LONGEST: Span = Span::seconds(4 * 3600);
/// How long a challenge is good for: time to carry it to a key that is kept elsewhere.
pub const PATIENCE: Span = Span::seconds(300);

/// For how long and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    span: Span,
    reason: String,
}

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Who is asked.
    pub host: Digest,
    /// The kernel's boot id.
    pub boot: [u8; 16],
    /// 32 random bytes, used once.
    pub nonce: [u8; 32],
    pub request: Request,
}

/// The keys whose signatures count, each alone. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlassKeys(TrustedKeys);

/// Why something cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error(
        "break-glass lasts from 1 s to {longest} s, not {asked} s; begin another when it is over"
    )]
    Span { asked: u64, longest: u64 },
    #[error("a reason has 1 to {MAX_REASON} characters, in one line")]
    Reason,
}

/// Why a text is not a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChallengeError {
    #[error("reading a challenge: line {line} does not begin with `{expected}`")]
    Line { line: usize, expected: &'static str },
    #[error("reading a challenge: line {line}: {why}")]
    Value { line: usize, why: String },
    #[error("reading a challenge: it goes on behind its end, or is not written as it is signed")]
    Spelling,
}

/// Why a signature does not break the glass; for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the signature {0}")]
pub struct NotSigned(String);

impl Request {
    /// At most [`LONGEST`] and at least a second; a reason in one line.
    pub fn new(reason: &str, seconds: u64) -> Result<Self, RequestError> {
        let span = Span::seconds(seconds);
        if seconds == 0 || span > LONGEST {
            return Err(RequestError::Span {
                asked: seconds,
                longest: LONGEST.as_seconds(),
            });
        }
        let plain = !reason.chars().any(char::is_control) && reason.trim() == reason;
        if !plain || reason.is_empty() || reason.chars().count() > MAX_REASON {
            return Err(RequestError::Reason);
        }
        let reason = reason.to_owned();
        Ok(Self { span, reason })
    }

    /// For how long.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s for `{}`", self.span.as_seconds(), self.reason)
    }
}

impl Challenge {
    /// The text whose bytes are signed: a line for the domain, then one for each part, the reason last.
    pub fn write(&self) -> String {
        let Self {
            host,
            boot,
            nonce,
            request,
        } = self;
        format!(
            "{DOMAIN}\nhost {host}\nboot {}\nnonce {}\nseconds {}\nreason {}\n",
            hex::encode(boot),
            hex::encode(nonce),
            request.span.as_seconds(),
            request.reason
        )
    }

    /// Reads what [`Self::write`] wrote, and nothing else.
    pub fn parse(text: &str) -> Result<Self, ChallengeError> {
        let mut lines = text.split('\n').zip(1..);
        let (first, line) = lines.next().unwrap_or(("", 1));
        if first != DOMAIN {
            let expected = DOMAIN;
            return Err(ChallengeError::Line { line, expected });
        }
        let mut next = |expected: &'static str| {
            let (found, line) = lines.next().unwrap_or(("", LINES));
            let value = found.strip_prefix(expected);
            let value = value.and_then(|rest| rest.strip_prefix(' '));
            value
                .map(|value| (line, value))
                .ok_or(ChallengeError::Line { line, expected })
        };
        let (line, value) = next("host")?;
        let host = Digest::new(digits(line, value)?);
        let (line, value) = next("boot")?;
        let boot = digits(line, value)?;
        let (line, value) = next("nonce")?;
        let nonce = digits(line, value)?;
        let (line, value) = next("seconds")?;
        let seconds = value.parse::<u64>().map_err(|error| {
            let why = error.to_string();
            ChallengeError::Value { line, why }
        })?;
        let (line, value) = next("reason")?;
        let request = Request::new(value, seconds).map_err(|error| {
            let why = error.to_string();
            ChallengeError::Value { line, why }
        })?;
        let challenge = Self {
            host,
            boot,
            nonce,
            request,
        };
        // One challenge has one spelling.
        if challenge.write() != text {
            return Err(ChallengeError::Spelling);
        }
        Ok(challenge)
    }
}

impl GlassKeys {
    /// Reads OpenSSH public key lines, as the list of keys that sign policies is read.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        TrustedKeys::parse(text, 1).map(Self)
    }

    /// Only those that are among `known`.
    pub fn only(self, known: &std::collections::BTreeSet<Digest>) -> Result<Self, KeysError> {
        self.0.only(known, 1).map(Self)
    }

    /// A digest of each key, for whoever keeps which keys there were.
    pub fn digests(&self) -> std::collections::BTreeSet<Digest> {
        self.0.digests()
    }

    /// `SHA256:…` of each key, in order of the list.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.0.fingerprints()
    }

    /// Which key signed the challenge. `armor` holds one armored signature and nothing else.
    pub fn signer(&self, challenge: &Challenge, armor: &[u8]) -> Result<String, NotSigned> {
        let message = challenge.write();
        self.0
            .signed_by(BREAK_GLASS, message.as_bytes(), armor)
            .map_err(NotSigned)
    }
}

fn digits<const N: usize>(line: usize, value: &str) -> Result<[u8; N], ChallengeError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(value, &mut bytes).map_err(|_digits| ChallengeError::Value {
        line,
        why: format!("expected {} hexadecimal digits", 2 * N),
    })?;
    Ok(bytes)
}

const DOMAIN: &str = "governor-break-glass-challenge-v1";
/// Lines of a challenge: a text that is cut off is so in the last of them at the latest.
const LINES: usize = 6;
/// Characters of a reason.
const MAX_REASON: usize = 512;
