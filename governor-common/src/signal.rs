//! Signals: what the kernel programs saw done to the gate itself.
//!
//! Each is counted in a word of its own that only the kernel raises, so nothing is lost when a ring
//! is full or nobody reads. Some are alarms: the same call that counts them raises `trips`, which
//! voids the lease before anybody in user space knows. An attempt by a governed task is refused and
//! counts against that task's workload; it is never an alarm, or a workload could shut a host down.

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $alarm:literal;)+) => {
        /// What was done, or tried.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal { $($(#[$doc])* $name = $value,)+ }

        impl Signal {
            /// Every signal, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The signal with this number, if there is one.
            pub const fn from_u32(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Self::$name),)+ _ => None }
            }

            /// The signal with this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }

            /// The name used in output and records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether it raises `trips` when the one who did it is not governed. Each of these needs
            /// root; what an ordinary user can bring about is only refused.
            #[inline(always)]
            pub const fn is_alarm(self) -> bool {
                match self { $(Self::$name => $alarm,)+ }
            }
        }
    };
}

signals! {
    /// A stranger asked for a descriptor of one of the gate's maps.
    MapTouched = 1, "map-touched", true;
    /// A stranger asked for a descriptor of one of the gate's programs.
    ProgramTouched = 2, "program-touched", true;
    /// A stranger asked for a descriptor of one of the gate's links.
    LinkTouched = 3, "link-touched", true;
    /// A stranger changed, or tried to change, the directory of pins.
    PinTouched = 4, "pin-touched", true;
    /// A stranger tried to mount over, move or unmount what the pins hang on.
    MountTouched = 5, "mount-touched", true;
    /// Somebody tried to write the switch that turns tracing programs off.
    FtraceTouched = 6, "ftrace-touched", true;
    /// Somebody tried to load an integrity policy.
    ImaPolicyTouched = 7, "ima-policy-touched", true;
    /// The canary was executed: the gate let something through that it must refuse.
    CanaryPassed = 8, "canary-passed", true;
    /// A module that policy does not list was to be loaded.
    ModuleRefused = 9, "module-refused", false;
    /// A kernel that policy does not list was to be loaded.
    KexecRefused = 10, "kexec-refused", false;
    /// Something that lockdown forbids was tried: writing kernel memory, ports, registers.
    LockdownRefused = 11, "lockdown-refused", false;
    /// The daemon was to be traced, signalled or limited.
    DaemonTouched = 12, "daemon-touched", false;
    /// A control file of the daemon's cgroup, or of a zone's, was to be written.
    CgroupTouched = 13, "cgroup-touched", false;
    /// The cgroup of a zone was to be removed.
    ZoneRemoved = 14, "zone-removed", false;
    /// A block device that a file system is mounted from was to be written.
    DeviceTouched = 15, "device-touched", false;
    /// A governed task reached for the gate: what would have been an alarm by anybody else.
    GovernedReach = 16, "governed-reach", false;
    /// A program that rides on kernel functions was to be loaded or attached, or one that may take back
    /// what the guard of settings refuses.
    ProgramRefused = 17, "program-refused", false;
    /// The first process became, or mapped, what was not there when the guard was armed.
    FirstProcessChanged = 18, "first-process-changed", false;
    /// Something was to be mounted over the tree of cgroups or taken from below it, or a mount was to be
    /// moved by a call that does not say which.
    MountRefused = 19, "mount-refused", false;
    /// The first process executed itself again in another cgroup: from then on it starts everything below
    /// that, where no zone is.
    FirstProcessMoved = 20, "first-process-moved", true;
}

/// Where all signals are counted together, so that one look tells whether there is a new one.
pub const SIGNAL_ANY: u32 = 0;
/// Length of the arrays indexed by [`Signal`]; signals are below.
pub const SIGNAL_SLOTS: u32 = 64;

/// Who takes part beside the task itself.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody we know.
    Stranger = 0x91,
    /// The first process of the host, which starts and stops everything.
    Init = 0x92,
    /// A daemon that policy lists, as it was started.
    Daemon = 0x93,
    /// Whoever traces a task, or would.
    Tracer = 0x94,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_and_fit_the_arrays() {
        for signal in Signal::ALL {
            let number = *signal as u32;
            assert!(number > 0 && number < SIGNAL_SLOTS);
            assert_eq!(Signal::from_u32(number), Some(*signal));
            assert_eq!(Signal::from_name(signal.name()), Some(*signal));
        }
        assert_eq!(Signal::from_u32(0), None);
    }
}
