//! From the embedded object to attached hooks: offsets, verification, attachment.
//!
//! Promises: the programs are loaded with the running kernel's own offsets or not at all, and reuse
//! the maps that are pinned. A hook that cannot be attached is named, with the kernel's reason.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{CgroupSysctl, Iter, Program, ProgramError, ProgramFd, links::FdLink},
};

use super::{GateError, btf::Types, error::whole, fields, pins};

/// A hook, its program's name, and what the kernel must say about it.
#[derive(Debug)]
pub(super) struct Hook {
    /// Of the program, its pin, and in what is said of it.
    pub(super) name: &'static str,
    /// What the kernel calls the place: the same, but where a second program is attached to one.
    at: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A program at the root cgroup, called when a setting is read or written.
    Sysctl,
    /// An LSM hook with this many arguments.
    Lsm(u32),
    /// One that kernels pass different arguments: a program for each number of them.
    LsmBy(&'static [(u32, &'static str)]),
    Tracepoint,
    /// A program that the daemon has go over this kind of object.
    Iterator(&'static str),
}

/// Every hook, in the order in which they are attached: labels and measurements before what leans
/// on them, and whoever notices writers before all. Each is needed.
pub(super) const HOOKS: &[Hook] = &[
    hook("file_open", Kind::Lsm(1)),
    hook(
        "inode_setattr",
        Kind::LsmBy(&[(2, "inode_setattr_plain"), (3, "inode_setattr_mapped")]),
    ),
    hook("quota_on", Kind::Lsm(1)),
    hook("task_alloc", Kind::Lsm(2)),
    hook("bprm_creds_for_exec", Kind::Lsm(1)),
    hook("bprm_committed_creds", Kind::Lsm(1)),
    hook("mmap_file", Kind::Lsm(4)),
    hook("file_mprotect", Kind::Lsm(3)),
    hook("inode_init_security_anon", Kind::Lsm(3)),
    hook("socket_create", Kind::Lsm(4)),
    hook("socket_post_create", Kind::Lsm(5)),
    hook("socket_setsockopt", Kind::Lsm(3)),
    hook("socket_connect", Kind::Lsm(3)),
    hook("socket_sendmsg", Kind::Lsm(3)),
    hook("unix_stream_connect", Kind::Lsm(3)),
    hook("unix_may_send", Kind::Lsm(2)),
    hook("bprm_check_security", Kind::Lsm(1)),
    hook("cgroup_mkdir", Kind::Tracepoint),
    hook("cgroup_rmdir", Kind::Tracepoint),
    hook("sysctl", Kind::Sysctl),
    hook("bpf_map", Kind::Lsm(2)),
    hook("bpf_prog", Kind::Lsm(1)),
    hook("bpf", Kind::Lsm(3)),
    hook("task_kill", Kind::Lsm(4)),
    hook("ptrace_access_check", Kind::Lsm(2)),
    hook("ptrace_traceme", Kind::Lsm(1)),
    hook("task_setrlimit", Kind::Lsm(3)),
    hook("inode_unlink", Kind::Lsm(2)),
    hook("inode_create", Kind::Lsm(3)),
    hook("inode_mkdir", Kind::Lsm(3)),
    hook("inode_symlink", Kind::Lsm(3)),
    hook("inode_link", Kind::Lsm(3)),
    hook("inode_rename", Kind::Lsm(4)),
    hook("inode_rmdir", Kind::Lsm(2)),
    hook("sb_umount", Kind::Lsm(2)),
    hook("sb_mount", Kind::Lsm(5)),
    hook("move_mount", Kind::Lsm(2)),
    hook("sb_pivotroot", Kind::Lsm(2)),
    hook("kernel_read_file", Kind::Lsm(3)),
    hook("kernel_load_data", Kind::Lsm(2)),
    hook("kernel_module_request", Kind::Lsm(1)),
    hook("locked_down", Kind::Lsm(1)),
    hook("labelled_tasks", Kind::Iterator("task")),
];

/// Where a file that was opened can be measured; see `opens`.
pub(super) const POST_OPEN: Hook = hook("file_post_open", Kind::Lsm(2));

/// Where it cannot be yet, so that it must be known; see `opens`.
pub(super) const RECALLED_OPEN: Hook = Hook {
    name: "file_open_recalled",
    ..hook("file_open", Kind::Lsm(1))
};

pub(super) const fn hook(name: &'static str, kind: Kind) -> Hook {
    Hook {
        name,
        at: name,
        kind,
    }
}

impl Hook {
    /// Whether the program hangs on the root cgroup instead of on a link.
    pub(super) fn is_sysctl(&self) -> bool {
        matches!(self.kind, Kind::Sysctl)
    }

    /// Whether the program hangs on nothing and runs when the daemon reads its list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Iterator(_))
    }

    /// The name of the program that this kernel takes.
    fn program(&self, types: &Types) -> &'static str {
        let Kind::LsmBy(programs) = self.kind else {
            return self.name;
        };
        let actual = types.arguments(&format!("bpf_lsm_{}", self.at));
        let fits = programs
            .iter()
            .find(|(expected, _)| Some(*expected) == actual);
        fits.map_or(self.name, |(_, program)| program)
    }

    /// Why this kernel cannot carry the hook; `None`: it can, as far as its types say.
    pub(super) fn unsupported(&self, types: &Types) -> Option<String> {
        match self.kind {
            Kind::Lsm(expected) => match types.arguments(&format!("bpf_lsm_{}", self.at)) {
                None => Some("this kernel has no such hook".to_owned()),
                Some(actual) if actual != expected => Some(format!(
                    "this kernel passes {actual} arguments, not {expected}"
                )),
                Some(_) => None,
            },
            Kind::LsmBy(programs) => match types.arguments(&format!("bpf_lsm_{}", self.at)) {
                None => Some("this kernel has no such hook".to_owned()),
                Some(actual) if !programs.iter().any(|(expected, _)| *expected == actual) => Some(
                    format!("this kernel passes {actual} arguments, which no program takes"),
                ),
                Some(_) => None,
            },
            Kind::Tracepoint if types.has_tracepoint(self.at) => None,
            Kind::Tracepoint => Some("this kernel has no such tracepoint".to_owned()),
            Kind::Iterator(over) => match types.arguments(&format!("bpf_iter_{over}")) {
                Some(_) => None,
                None => Some("this kernel has no such list".to_owned()),
            },
            // Whether settings can be guarded shows when the program is loaded.
            Kind::Sysctl => None,
        }
    }
}

/// The object, its offsets set and its maps made or reused from `maps`.
pub(super) struct Loaded {
    programs: Ebpf,
    types: Types,
    btf: Btf,
}

impl Loaded {
    pub(super) fn with_maps(object: &[u8], maps: &Path) -> Result<Self, GateError> {
        let types = Types::of_running_kernel()?;
        if !types.runs_every_program() {
            return Err(GateError::SkipsPrograms);
        }
        let offsets = fields::OFFSETS
            .iter()
            .map(|(global, structure, field, size)| {
                Ok((*global, types.offset(structure, field, *size)?))
            })
            .collect::<Result<Vec<_>, GateError>>()?;
        let numbers = fields::ENUMERATORS
            .iter()
            .map(|(global, enumeration, name)| Ok((*global, types.enumerator(enumeration, name)?)))
            .collect::<Result<Vec<_>, GateError>>()?;
        let btf = Btf::from_sys_fs().map_err(|error| GateError::Btf(whole(&error)))?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf)).allow_unsupported_maps();
        for (global, offset) in offsets.iter().chain(&numbers) {
            loader.override_global(global, offset, true);
        }
        for name in pins::MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
        let programs = loader
            .load(object)
            .map_err(|error| GateError::Object(Box::new(error)))?;
        Ok(Self {
            programs,
            types,
            btf,
        })
    }

    /// Whether this kernel carries the hook, as far as its types say.
    pub(super) fn carries(&self, hook: &Hook) -> bool {
        hook.unsupported(&self.types).is_none()
    }

    /// Loads the program that guards settings.
    pub(super) fn sysctl(&mut self, name: &str) -> Result<&mut CgroupSysctl, String> {
        let program = self
            .programs
            .program_mut(name)
            .ok_or("the object has no such program")?;
        let Program::CgroupSysctl(program) = program else {
            return Err("the object's program is of another kind".to_owned());
        };
        program.load().map_err(|error| describe(&error))?;
        Ok(program)
    }

    /// Loads a program that makes a list.
    pub(super) fn list(&mut self, hook: &Hook) -> Result<&mut Iter, String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let (Program::Iter(program), Kind::Iterator(over)) = (program, &hook.kind) else {
            return Err("the object's program is of another kind".to_owned());
        };
        program
            .load(over, &self.btf)
            .map_err(|error| describe(&error))?;
        Ok(program)
    }

    /// A map of the object that is not pinned, for as long as it is held.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Array<MapData, u64>, GateError> {
        let map = self.programs.take_map(name);
        let map = map.ok_or_else(|| GateError::Invalid(format!("there is no map `{name}`")))?;
        Array::try_from(map).map_err(GateError::map(name, "taking hold of it"))
    }

    /// Loads a program that is attached later, and again and again; its id besides.
    pub(super) fn program(&mut self, hook: &Hook) -> Result<(ProgramFd, u32), String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let Program::Lsm(program) = program else {
            return Err("the object's program is of another kind".to_owned());
        };
        program
            .load(hook.at, &self.btf)
            .map_err(|error| describe(&error))?;
        let id = program.info().map_err(|error| describe(&error))?.id();
        let fd = program.fd().map_err(|error| describe(&error))?;
        let held = fd.try_clone();
        held.map(|fd| (fd, id))
            .map_err(|error| format!("it cannot be held: {error}"))
    }

    /// Loads and attaches one hook's program.
    pub(super) fn attach(&mut self, hook: &Hook) -> Result<FdLink, String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let attached = match (&hook.kind, program) {
            (Kind::Lsm(_) | Kind::LsmBy(_), Program::Lsm(program)) => program
                .load(hook.at, &self.btf)
                .and_then(|()| program.attach())
                .and_then(|link| program.take_link(link))
                .map(FdLink::from),
            (Kind::Tracepoint, Program::BtfTracePoint(program)) => program
                .load(hook.at, &self.btf)
                .and_then(|()| program.attach())
                .and_then(|link| program.take_link(link))
                .map(FdLink::from),
            _ => return Err("the object's program is of another kind".to_owned()),
        };
        attached.map_err(|error| describe(&error))
    }
}

/// The hook's program, not loaded yet; or why this kernel cannot carry it.
fn program<'a>(
    programs: &'a mut Ebpf,
    types: &Types,
    hook: &Hook,
) -> Result<&'a mut Program, String> {
    if let Some(reason) = hook.unsupported(types) {
        return Err(reason);
    }
    let missing = "the object has no such program";
    programs
        .program_mut(hook.program(types))
        .ok_or_else(|| missing.to_owned())
}

/// The verifier's last words, not its whole log.
fn describe(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let tail: Vec<&str> = log
            .lines()
            .rev()
            .filter(|line| !line.is_empty())
            .take(12)
            .collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return format!(
            "the kernel refused the program: {io_error}; verifier: {}",
            tail.join(" | ")
        );
    }
    whole(error)
}
