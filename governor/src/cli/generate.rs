//! Manual pages and completions, from the same description that parses the command line. For packaging.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Done};
use crate::control::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to: `man/` and `completions/` are made below it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn generate(args: &Args) -> Done {
    write(&args.out).map_err(|error| Failure::Failed(format!("{error:#}")))?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &Path) -> Result<()> {
    let made = |dir: PathBuf| -> Result<PathBuf> {
        fs::create_dir_all(&dir).with_context(|| format!("making `{}`", dir.display()))?;
        Ok(dir)
    };
    let man = made(out.join("man"))?;
    let completions = made(out.join("completions"))?;
    clap_mangen::generate_to(described(), &man)
        .with_context(|| format!("writing manual pages to `{}`", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut described(), NAME, &completions)
            .with_context(|| format!("writing completions to `{}`", completions.display()))?;
    }
    Ok(())
}

fn described() -> Command {
    Cli::command()
}

const NAME: &str = "governor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_is_shown_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path()).expect("written");
        let bash = fs::read_to_string(dir.path().join("completions/governor.bash")).expect("bash");
        let mut pages = 0;
        for verb in described().get_subcommands() {
            let name = verb.get_name();
            let page = dir.path().join(format!("man/governor-{name}.1"));
            assert_eq!(page.exists(), !verb.is_hide_set(), "{name}");
            if !verb.is_hide_set() {
                pages += 1;
                assert!(bash.contains(&format!("governor,{name})")), "{name}");
            }
        }
        assert!(pages > 10, "{pages}");
        let page = fs::read_to_string(dir.path().join("man/governor.1")).expect("the first page");
        assert!(
            page.contains("EXIT STATUS") || page.contains("Exit codes"),
            "{page}"
        );
        assert!(dir.path().join("completions/_governor").exists());
        assert!(dir.path().join("completions/governor.fish").exists());
    }
}
