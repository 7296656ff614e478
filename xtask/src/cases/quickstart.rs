//! `docs/quickstart.md`, run as it stands: every `sh` block, in order, in one directory, as root. A
//! command that fails without saying so fails the case.

use super::{Case, Suite, nothing};
use crate::{
    guest::{BootOptions, Guest},
    paths,
};
use anyhow::{Context as _, Result, ensure};

pub(crate) const SUITE: Suite = Suite {
    name: "quickstart",
    options: BootOptions::new,
    kernels: super::Kernels::Newest(&[]),
    prepare: nothing,
    cases: &[Case {
        name: "every_block_does_what_the_page_says",
        run: every_block,
    }],
};

fn every_block(guest: &mut Guest) -> Result<()> {
    let page = paths::root().join("docs/quickstart.md");
    let text =
        std::fs::read_to_string(&page).with_context(|| format!("reading `{}`", page.display()))?;
    guest.put_file(
        &paths::target().join("dist/governor.deb"),
        "/root/try/governor.deb",
    )?;
    let blocks = blocks(&text);
    ensure!(
        blocks.len() >= 8,
        "the page has only {} blocks",
        blocks.len()
    );
    let mut said = String::new();
    for block in &blocks {
        let output = guest.run(&["sh", "-e", "-c", &format!("cd /root/try\n{block}")])?;
        said.push_str(&output.text());
        ensure!(
            output.code == 0,
            "this block ended with {}:\n{block}\n{}\n{}",
            output.code,
            output.text(),
            output.errors()
        );
    }
    for expected in [
        "this host can enforce",
        "no policy yet",
        "would-deny",
        "exit 203: denied",
        "exit 3: denied",
        "exit 3: deny",
        "exit 3: not trusted",
        "exit 3: the glass is broken",
        "exit 203: denied again",
    ] {
        ensure!(
            said.contains(expected),
            "`{expected}` was never said:\n{said}"
        );
    }
    Ok(())
}

/// What stands in the page's `sh` blocks.
fn blocks(text: &str) -> Vec<String> {
    text.split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next().map(str::to_owned))
        .collect()
}
