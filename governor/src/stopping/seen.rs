//! Who was found, and where.
//!
//! Promises: somebody is new once in each place. A crowd that is found as it was costs one comparison,
//! for it is looked for while it is on its way to stopping.

use std::collections::{BTreeMap, HashSet};

use super::finding::Task;

/// Tasks by the number of the cgroup that they were found in.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// As they were found there last.
    last: BTreeMap<u64, Vec<Task>>,
    /// Whoever was found there another time, or alone.
    others: HashSet<(u64, Task)>,
}

impl Seen {
    /// Takes down everybody of a cgroup; whether somebody is new there.
    pub(super) fn all(&mut self, place: u64, tasks: &[Task]) -> bool {
        let last = self.last.entry(place).or_default();
        if last == tasks {
            return false;
        }
        let before = std::mem::replace(last, tasks.to_vec());
        if before.is_empty() && self.others.is_empty() {
            return true;
        }
        self.others
            .extend(before.into_iter().map(|task| (place, task)));
        let mut new = false;
        for task in tasks {
            new |= self.others.insert((place, *task));
        }
        new
    }

    /// Takes down one; whether it is new there.
    pub(super) fn one(&mut self, place: u64, task: Task) -> bool {
        let known = |last: &Vec<Task>| last.contains(&task);
        let known = self.last.get(&place).is_some_and(known);
        self.others.insert((place, task)) && !known
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn somebody_is_new_once_in_each_place(
            finds in prop::collection::vec((0u64..3, prop::collection::vec(1i32..6, 0..5), any::<bool>()), 0..12)
        ) {
            let (mut seen, mut model) = (Seen::default(), HashSet::new());
            for (place, pids, together) in finds {
                let tasks: Vec<Task> = pids.into_iter().map(|pid| Task::first(pid, 0)).collect();
                if together {
                    let mut new = false;
                    for task in &tasks {
                        new |= model.insert((place, *task));
                    }
                    prop_assert_eq!(seen.all(place, &tasks), new);
                } else {
                    for task in tasks {
                        prop_assert_eq!(seen.one(place, task), model.insert((place, task)));
                    }
                }
            }
        }
    }
}
