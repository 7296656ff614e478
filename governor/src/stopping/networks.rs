//! Network namespaces that stopped tasks are in.
//!
//! Promises: each is entered once, and only by way of a file whose inode number is the one that the
//! kernel gave with the task: whoever has the task's number by then cannot lead anywhere else. One
//! that cannot be entered is an error; one whose tasks have all ended holds no connection of theirs.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use governor_common::{Carrier, Line};

use super::{Stopping, process::unless_gone, sockets::Sockets};

impl Stopping<'_> {
    /// Has connections looked for wherever a task is that loses its own.
    pub(super) fn reach_networks(&mut self, network: &mut dyn Sockets, carriers: &[Carrier]) {
        for carrier in carriers {
            if Line::from_u32(carrier.line) != Some(Line::Labelled)
                || carrier.network == 0
                || self.networks.contains(&carrier.network)
            {
                continue;
            }
            let wanted = self.wanted(&carrier.label);
            if !wanted.is_some_and(|order| order.action.closes()) {
                continue;
            }
            match enter(self.scene.proc, carrier, network) {
                Ok(true) => drop(self.networks.insert(carrier.network)),
                // It ended or went elsewhere: the next one there is asked, or the next pass tells.
                Ok(false) => {}
                Err(error) => {
                    let why = format!(
                        "looking for connections in the network namespace of process {}: {error}",
                        carrier.tgid
                    );
                    self.failed.push((Some(carrier.label.zone), why));
                }
            }
        }
    }
}

/// `false`: the task is not there any more.
fn enter(proc: &Path, carrier: &Carrier, network: &mut dyn Sockets) -> io::Result<bool> {
    let path = file(proc, carrier.tgid, carrier.pid);
    let Some(namespace) = unless_gone(File::open(path))? else {
        return Ok(false);
    };
    if namespace.metadata()?.ino() != u64::from(carrier.network) {
        return Ok(false);
    }
    network.reach(namespace.as_fd())?;
    Ok(true)
}

/// The number of the one that a task is in.
pub(super) fn of(proc: &Path, process: u32, thread: u32) -> Option<u32> {
    number(&file(proc, process, thread))
}

/// The number of the one that the daemon is in.
pub(super) fn own(proc: &Path) -> Option<u32> {
    number(&proc.join("thread-self/ns/net"))
}

fn number(file: &Path) -> Option<u32> {
    u32::try_from(fs::metadata(file).ok()?.ino()).ok()
}

fn file(proc: &Path, process: u32, thread: u32) -> PathBuf {
    proc.join(format!("{process}/task/{thread}/ns/net"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::fd::BorrowedFd};

    use anyhow::Result;
    use governor_common::Label;
    use governor_core::engine::Running;

    use super::*;
    use crate::stopping::{Action, Order, Scene, diag::Socket, mark::fake::InMemory};

    /// Which namespaces it was told to reach.
    #[derive(Default)]
    struct Told(Vec<u64>);

    impl Sockets for Told {
        fn reach(&mut self, namespace: BorrowedFd<'_>) -> io::Result<()> {
            let file = File::from(namespace.try_clone_to_owned()?);
            self.0.push(file.metadata()?.ino());
            Ok(())
        }

        fn list(&mut self) -> io::Result<Vec<Socket>> {
            Ok(Vec::new())
        }

        fn destroy(&mut self, _socket: &Socket) -> io::Result<bool> {
            Ok(false)
        }
    }

    /// What is reached for tasks that carry label 3 of zone 3 and are said to be there.
    fn reached(action: Action, known: &[u32], carriers: &[Carrier]) -> (Vec<u64>, usize) {
        let scene = Scene {
            cgroups: Path::new("/nowhere"),
            proc: Path::new("/proc"),
            marks: &InMemory::default(),
            carriers: &|| Ok(Vec::new()),
            label_of: &|_: BorrowedFd<'_>| -> Result<Option<Label>> { Ok(None) },
            nobodies: &|_| Ok(Vec::new()),
            goes_on: &|| {},
        };
        let orders = [Order {
            zone: 3,
            root: "/nowhere".into(),
            running: Running::All,
            action,
        }];
        let mut stopping = Stopping::new(&scene, &orders);
        stopping.networks = BTreeSet::from_iter(known.iter().copied());
        let mut told = Told::default();
        stopping.reach_networks(&mut told, carriers);
        (told.0, stopping.failed.len())
    }

    #[test]
    fn each_is_reached_once_and_only_where_the_kernel_said() {
        let own = own(Path::new("/proc")).unwrap();
        let here = Carrier {
            line: Line::Labelled as u32,
            tgid: std::process::id(),
            pid: std::process::id(),
            network: own,
            label: Label {
                zone: 3,
                ..Label::default()
            },
            ..Carrier::default()
        };
        let once = (vec![u64::from(own)], 0);
        let nothing = (Vec::new(), 0);
        assert_eq!(reached(Action::Kill, &[], &[here, here]), once);
        assert_eq!(reached(Action::Quarantine, &[], &[here]), once);
        assert_eq!(reached(Action::Pause, &[], &[here]), nothing);
        assert_eq!(reached(Action::Kill, &[own], &[here]), nothing);
        let others = [
            Carrier {
                network: own - 1,
                ..here
            },
            Carrier { network: 0, ..here },
            Carrier {
                pid: u32::MAX,
                ..here
            },
            Carrier {
                label: Label::default(),
                ..here
            },
            Carrier {
                line: Line::Unread as u32,
                ..here
            },
        ];
        assert_eq!(reached(Action::Kill, &[], &others), nothing);
    }
}
