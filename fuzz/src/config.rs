//! The daemon's configuration: a closed grammar whose values need no second look.

use std::{path::Path, time::Duration};

use governor::config::Config;

/// What is accepted has absolute paths, a governed place inside the hierarchy, and a drain within bounds.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let Ok(config) = Config::parse(text, Path::new("governor.toml")) else {
        return false;
    };
    for path in [
        &config.state,
        &config.pins,
        &config.host,
        &config.control.socket,
        &config.trust.keys,
        &config.break_glass.keys,
    ] {
        assert!(path.is_absolute(), "`{}`", path.display());
    }
    let mut places = config.governed.split('/');
    assert!(places.all(|part| !matches!(part, "" | "." | "..")));
    let bounds = Duration::from_millis(10)..=Duration::from_secs(1);
    assert!(bounds.contains(&config.drain), "{:?}", config.drain);
    true
}

/// The file that is shipped, and what it says when nothing is commented out.
pub fn seeds() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../dist/etc/governor/governor.toml");
    let plain: Vec<&str> = shipped
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            Some(_) | None => line,
        })
        .collect();
    vec![shipped.into(), plain.join("\n").into_bytes()]
}
