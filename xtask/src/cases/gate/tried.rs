//! One thing tried twice. Where nobody judges it works, so what comes of it in a zone is the gate's doing; and
//! the gate says why.

use super::*;

/// A program that does it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try<'a> {
    pub(super) argv: &'a [&'a str],
    /// What makes it ready, each time; nothing where that is not needed.
    pub(super) before: &'a str,
    /// How it ends where nobody judges.
    pub(super) free: i32,
    /// How it ends in the zone.
    pub(super) judged: i32,
    /// What is counted then; nothing where it is let.
    pub(super) why: &'static str,
}

impl<'a> Try<'a> {
    /// What works elsewhere and is refused for this reason.
    pub(super) const fn refused(argv: &'a [&'a str], why: &'static str) -> Self {
        Self {
            argv,
            before: "",
            free: 0,
            judged: REFUSED,
            why,
        }
    }

    /// What works anywhere.
    pub(super) const fn let_be(argv: &'a [&'a str]) -> Self {
        Self {
            judged: 0,
            why: "",
            ..Self::refused(argv, "")
        }
    }

    pub(super) const fn after(self, before: &'a str) -> Self {
        Self { before, ..self }
    }

    /// With these codes instead of the usual ones.
    pub(super) const fn ends(self, free: i32, judged: i32) -> Self {
        Self {
            free,
            judged,
            ..self
        }
    }

    /// Tries it, below that slice.
    pub(super) fn in_zone(self, guest: &mut Guest, slice: &str) -> Result<()> {
        self.tried(guest, slice)
            .with_context(|| format!("{:?}", self.argv))
    }

    fn make_ready(self, guest: &mut Guest) -> Result<()> {
        if self.before.is_empty() {
            return Ok(());
        }
        guest.sh(self.before)?.ok().map(drop)
    }

    fn tried(self, guest: &mut Guest, slice: &str) -> Result<()> {
        let user = guest.kept::<Kit>()?.user;
        self.make_ready(guest)?;
        let free = guest.run_as(user, self.argv)?;
        ensure!(
            free.code == self.free,
            "in no zone it ended with {}: {} {}",
            free.code,
            free.text(),
            free.errors()
        );
        let before = match self.why {
            "" => 0,
            why => counted(guest, why)?,
        };
        self.make_ready(guest)?;
        let judged = in_zone(guest, slice, self.argv)?;
        ensure!(
            judged.code == self.judged,
            "in the zone it ended with {}: {} {}",
            judged.code,
            judged.text(),
            judged.errors()
        );
        ensure!(
            self.why.is_empty() || counted(guest, self.why)? > before,
            "refused for another reason than `{}`: {:?}",
            self.why,
            status::of(guest)?.counts()
        );
        Ok(())
    }
}

/// How often that was a reason.
pub(in crate::cases) fn counted(guest: &mut Guest, why: &str) -> Result<u64> {
    let said = status::of(guest)?;
    Ok(said.counts().get(why).copied().unwrap_or(0))
}
