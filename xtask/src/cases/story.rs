//! The demonstration, told to the test run: every step must be what it should be.

use super::{Case, Suite};
use crate::{
    guest::{BootOptions, Guest},
    install, paths,
    story::{Story, tell},
};
use anyhow::{Result, bail};

pub(crate) const SUITE: Suite = Suite {
    name: "story",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare: |guest| install::package(guest, &paths::target().join("dist/governor.deb")),
    cases: &[Case {
        name: "every_step_is_as_told",
        run: every_step_is_as_told,
    }],
};

fn every_step_is_as_told(guest: &mut Guest) -> Result<()> {
    let mut story = Story::new(false);
    let told = tell(guest, &mut story);
    if let Err(error) = told {
        bail!("{error:#}; before that: {}", story.differences().join("\n"));
    }
    if !story.differences().is_empty() {
        bail!("{}", story.differences().join("\n"));
    }
    Ok(())
}
