//! `/etc/governor/governor.toml`: how this host runs the daemon. Every default is here, once.
//!
//! Promises: the grammar is closed (an unknown key is an error with line and column), and a key
//! left out means the default below. Refuses files that someone other than root can write.
//! Nothing in here can permit work: that takes a policy signed by one of `trust.keys`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use governor_core::{
    engine::GlassKeys,
    policy::{KeysError, TrustedKeys},
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Where the configuration is, unless told otherwise.
pub const PATH: &str = "/etc/governor/governor.toml";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The cgroup below which everything is governed, relative to the cgroup root.
    #[serde(deserialize_with = "cgroup")]
    pub governed: String,
    /// Ledger, kept policies and what must survive a reboot.
    #[serde(deserialize_with = "absolute")]
    pub state: PathBuf,
    /// Where programs, links and maps are pinned.
    #[serde(deserialize_with = "absolute")]
    pub pins: PathBuf,
    /// The file whose content names this host in evidence.
    #[serde(deserialize_with = "absolute")]
    pub host: PathBuf,
    /// How often the rings are drained.
    #[serde(deserialize_with = "drain")]
    pub drain: Duration,
    pub control: Control,
    pub tpm: Tpm,
    pub trust: Trust,
    pub break_glass: BreakGlass,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The control socket.
    #[serde(deserialize_with = "absolute")]
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tpm {
    /// How to reach the TPM, as tpm2-tss writes it.
    pub tcti: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// OpenSSH public keys, one a line, whose signatures on policies count.
    #[serde(deserialize_with = "absolute")]
    pub keys: PathBuf,
    /// How many distinct keys must have signed.
    pub threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakGlass {
    /// OpenSSH public keys, one a line, each of which alone may have denials lifted for a while.
    #[serde(deserialize_with = "absolute")]
    pub keys: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            governed: "governed.slice".into(),
            state: "/var/lib/governor".into(),
            pins: governor_common::names::PIN_DIR.into(),
            host: "/etc/machine-id".into(),
            drain: Duration::from_millis(100),
            control: Control::default(),
            tpm: Tpm::default(),
            trust: Trust::default(),
            break_glass: BreakGlass::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: "/run/governor/control.sock".into(),
        }
    }
}

impl Default for Tpm {
    fn default() -> Self {
        Self {
            tcti: "device:/dev/tpmrm0".into(),
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            keys: "/etc/governor/trusted_keys".into(),
            threshold: 1,
        }
    }
}

impl Default for BreakGlass {
    fn default() -> Self {
        Self {
            keys: "/etc/governor/break_glass_keys".into(),
        }
    }
}

impl Config {
    /// Reads `path`. The default file may be missing, a named one may not.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let shown = path.unwrap_or(Path::new(PATH));
        match read_owned(shown) {
            Ok(text) => Self::parse(&text, shown),
            Err(error) if path.is_none() && is_missing(&error) => Ok(Self::default()),
            Err(error) => Err(error.context("reading the configuration")),
        }
    }

    /// Where a file can be made for a moment. A disk that takes none is no reason not to start: then where
    /// the control socket is, which may be in memory.
    pub fn scratch(&self) -> Vec<PathBuf> {
        let socket = self.control.socket.parent().map(Path::to_owned);
        [Some(self.state.clone()), socket]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The configuration in `text`; errors name `path` with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            let message = error.message().trim_end().replace('\n', "; ");
            anyhow::anyhow!("{}:{line}:{column}: {message}", path.display())
        })
    }

    /// The keys whose signatures count. Without any, no policy is accepted.
    pub fn trusted_keys(&self) -> Result<TrustedKeys> {
        read_keys(&self.trust.keys, self.trust.threshold)
    }

    /// The keys that may break the glass; or why there are none, and what to do about it.
    pub fn glass_keys(&self) -> Result<GlassKeys, String> {
        let path = &self.break_glass.keys;
        let shown = path.display();
        let how = format!(
            "to make break-glass possible add an OpenSSH public key (ed25519 or ecdsa-p256) to \
             `{shown}` and restart the daemon; keys that come after the gate was armed count after a \
             reboot"
        );
        let text = match read_owned(path) {
            Ok(text) => text,
            Err(error) if is_missing(&error) => return Err(format!("`{shown}` is missing: {how}")),
            Err(error) => return Err(format!("{error:#}: {how}")),
        };
        let keys = match GlassKeys::parse(&text) {
            Ok(keys) => keys,
            Err(KeysError::Empty) => return Err(format!("`{shown}` lists no key: {how}")),
            Err(error) => return Err(format!("reading `{shown}`: {error}")),
        };
        // Whoever may sign what runs is not to be the one who may have nothing looked at.
        let others = self.trusted_keys().map(|keys| keys.digests());
        let both = others.is_ok_and(|others| !others.is_disjoint(&keys.digests()));
        if both {
            return Err(format!(
                "`{shown}` lists a key that also signs policies (`{}`): use another for break-glass, and \
                 restart the daemon",
                self.trust.keys.display()
            ));
        }
        Ok(keys)
    }
}

/// The trusted keys in the file `path`.
pub fn read_keys(path: &Path, threshold: u32) -> Result<TrustedKeys> {
    let text = read_owned(path).context("reading the trusted keys; no policy is accepted")?;
    TrustedKeys::parse(&text, threshold)
        .with_context(|| format!("reading trusted keys from `{}`", path.display()))
}

/// A file that only root, or who runs this, can have written.
fn read_owned(path: &Path) -> Result<String> {
    let context = || format!("reading `{}`", path.display());
    let file = fs::File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    let trusted = [0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid());
    if !trusted || metadata.mode() & 0o022 != 0 {
        bail!(
            "`{}` can be written by others than root; fix it with `chown root: {0} && chmod go-w {0}`",
            path.display()
        );
    }
    io::read_to_string(file).with_context(context)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn absolute<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(D::Error::custom(format!(
            "`{}` is not an absolute path",
            path.display()
        )))
    }
}

fn cgroup<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let path = String::deserialize(from)?;
    if path.len() < governor_common::names::ZONE_PATH_LEN
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
    {
        Ok(path)
    } else {
        let limit = governor_common::names::ZONE_PATH_LEN;
        Err(D::Error::custom(format!(
            "`{path}` is not a cgroup path: no leading `/`, no `..`, shorter than {limit} bytes"
        )))
    }
}

fn drain<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let span = text.parse::<jiff::SignedDuration>().ok();
    match span.and_then(|span| Duration::try_from(span).ok()) {
        Some(span) if (MIN_DRAIN..=MAX_DRAIN).contains(&span) => Ok(span),
        Some(_) | None => Err(D::Error::custom(format!(
            "`{text}` is not a drain interval from `10ms` to `1s`, such as `100ms`"
        ))),
    }
}

const MIN_DRAIN: Duration = Duration::from_millis(10);
const MAX_DRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let text = include_str!("../../dist/etc/governor/governor.toml");
        assert_eq!(parse(text), Ok(Config::default()));
        // Every commented key is one that exists, with its default.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("#")
                    .filter(|key| !key.starts_with(' '))
                    .unwrap_or(line)
                    .to_owned()
                    + "\n"
            })
            .collect();
        assert_eq!(parse(&uncommented), Ok(Config::default()), "{uncommented}");
        assert_eq!(uncommented.matches(" = ").count(), 10);
    }

    #[test]
    fn errors_name_line_and_column() {
        let error = |text| parse(text).expect_err("refused");
        assert!(error("state = \"/x\"\nx = 1").starts_with("governor.toml:2:1: unknown field `x`"));
        assert!(
            error("[trust]\nkey = \"/x\"").starts_with("governor.toml:2:1: unknown field `key`")
        );
        assert!(
            error("state = \"x\"").starts_with("governor.toml:1:9: `x` is not an absolute path")
        );
        assert!(error("drain = \"5s\"").contains("from `10ms` to `1s`"));
        assert!(error("governed = \"../x\"").contains("is not a cgroup path"));
        assert!(error("[trust]\nthreshold = -1").starts_with("governor.toml:2:13: "));
    }

    #[test]
    fn files_that_others_can_write_are_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), "drain = \"50ms\"").expect("written");
        let config = Config::load(Some(file.path())).expect("config");
        assert_eq!(config.drain, Duration::from_millis(50));
        let everyone = fs::Permissions::from_mode(0o666);
        fs::set_permissions(file.path(), everyone).expect("mode");
        let error = Config::load(Some(file.path())).expect_err("refused");
        assert!(
            format!("{error:#}").contains("can be written by others"),
            "{error:#}"
        );
    }

    #[test]
    fn without_keys_there_is_no_policy() {
        let file = tempfile::NamedTempFile::new().expect("file");
        assert!(read_keys(file.path(), 1).is_err());
        assert!(read_keys(Path::new("/nonexistent"), 1).is_err());
        let shipped = include_str!("../../dist/etc/governor/trusted_keys");
        assert!(TrustedKeys::parse(shipped, 1).is_err());
        assert!(Config::load(Some(Path::new("/nonexistent"))).is_err());
    }

    #[test]
    fn break_glass_takes_keys_of_its_own() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("file");
            fs::write(file.path(), text).expect("written");
            file
        };
        let config = |keys: &Path, trusted: &Path| Config {
            trust: Trust {
                keys: trusted.into(),
                threshold: 1,
            },
            break_glass: BreakGlass { keys: keys.into() },
            ..Config::default()
        };
        let says = |keys: &Path, trusted: &Path| config(keys, trusted).glass_keys().unwrap_err();
        let none = Path::new("/nonexistent");
        assert!(says(none, none).contains("is missing: to make break-glass possible"));
        let shipped = include_str!("../../dist/etc/governor/break_glass_keys");
        assert!(says(file(shipped).path(), none).contains("lists no key: to make"));
        let nonsense = file("nonsense");
        assert!(says(nonsense.path(), none).contains("line 1"));
        let line = |seed| {
            let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
            let key = ssh_key::PrivateKey::from(pair);
            key.public_key().to_openssh().expect("encodes")
        };
        let (first, second) = (file(&line(1)), file(&line(2)));
        assert!(config(first.path(), second.path()).glass_keys().is_ok());
        assert!(config(first.path(), none).glass_keys().is_ok());
        assert!(says(first.path(), first.path()).contains("also signs policies"));
        let everyone = fs::Permissions::from_mode(0o666);
        fs::set_permissions(first.path(), everyone).expect("mode");
        assert!(says(first.path(), none).contains("can be written by others"));
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("governor.toml")).map_err(|error| error.to_string())
    }
}
