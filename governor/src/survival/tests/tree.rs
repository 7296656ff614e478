//! Programs, libraries and scripts in made-up hosts.

use super::{
    super::{Found, Why, listing, missing},
    *,
};

#[test]
fn a_program_needs_its_interpreter_and_libraries_to_the_last() {
    let host = Host::new();
    let shell = Asks {
        interpreter: Some("/lib/ld.so"),
        needed: &["liba.so"],
        ..Asks::default()
    };
    host.program("/usr/bin/dash", &shell);
    host.link("/usr/bin/sh", "../../../usr/bin/./dash");
    host.program("/usr/lib/ld-1.so", &Asks::default());
    host.link("/usr/lib/ld.so", "/lib/ld-1.so");
    // In a circle, and one that is nowhere.
    host.program(
        "/usr/lib/liba.so",
        &Asks {
            needed: &["libb.so"],
            ..Asks::default()
        },
    );
    let back = Asks {
        needed: &["liba.so", "libnowhere.so"],
        ..Asks::default()
    };
    host.program("/usr/lib/libb.so.1.2", &back);
    host.link("/usr/lib/libb.so", "libb.so.1.2");
    // For another machine, in a directory that comes first.
    let mut other = Asks::default().write();
    other[18] = 3;
    host.put("/opt/other/liba.so", other, 0o644);
    host.text("/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n");
    host.text("/etc/ld.so.conf.d/x.conf", "# one\n/opt/other # two\n");

    let shell = "shell of everybody";
    let found = host.found();
    let expected = [
        ("/usr/bin/dash", Role::Executable, shell.to_owned()),
        (
            "/usr/lib/ld-1.so",
            Role::Library,
            format!("{shell}, for /usr/bin/dash"),
        ),
        (
            "/usr/lib/liba.so",
            Role::Library,
            format!("{shell}, for /usr/bin/dash"),
        ),
        (
            "/usr/lib/libb.so.1.2",
            Role::Library,
            format!("{shell}, for /usr/lib/liba.so"),
        ),
    ];
    assert_eq!(
        found,
        expected.map(|(path, role, why)| (path.to_owned(), role, why))
    );
}

#[test]
fn search_paths_in_files_are_followed() {
    let host = Host::new();
    let put = |path: &str, asks: Asks<'_>| host.program(path, &asks);
    put(
        "/usr/bin/sh",
        Asks {
            needed: &["libr.so"],
            runpath: Some("$ORIGIN/../own"),
            opened: Some("libo.so"),
            ..Asks::default()
        },
    );
    // A runpath is the file's own; libs.so is not found through it.
    put(
        "/usr/own/libr.so",
        Asks {
            needed: &["libs.so"],
            ..Asks::default()
        },
    );
    put("/usr/own/libs.so", Asks::default());
    put("/usr/own/libo.so", Asks::default());
    put("/usr/lib/libs.so", Asks::default());
    // An rpath is passed on, unless the file that asks has a runpath.
    put(
        "/usr/bin/tar",
        Asks {
            needed: &["libx.so"],
            rpath: Some("relative:/opt/x"),
            ..Asks::default()
        },
    );
    put(
        "/opt/x/libx.so",
        Asks {
            needed: &["liby.so"],
            ..Asks::default()
        },
    );
    put(
        "/opt/x/liby.so",
        Asks {
            needed: &["libz.so"],
            runpath: Some("/nowhere"),
            ..Asks::default()
        },
    );
    put("/opt/x/libz.so", Asks::default());
    put("/usr/lib/libz.so", Asks::default());
    // Variants for newer processors are used in place of the plain one.
    put(
        "/usr/bin/gzip",
        Asks {
            needed: &["libv.so"],
            ..Asks::default()
        },
    );
    put("/usr/lib/libv.so", Asks::default());
    put("/usr/lib/glibc-hwcaps/x86-64-v3/libv.so", Asks::default());
    assert_eq!(
        host.paths(),
        [
            "/opt/x/libx.so",
            "/opt/x/liby.so",
            "/usr/bin/gzip",
            "/usr/bin/sh",
            "/usr/bin/tar",
            "/usr/lib/glibc-hwcaps/x86-64-v3/libv.so",
            "/usr/lib/libs.so",
            "/usr/lib/libv.so",
            "/usr/lib/libz.so",
            "/usr/own/libo.so",
            "/usr/own/libr.so",
        ]
    );
}

#[test]
fn scripts_bring_what_runs_them() {
    let host = Host::new();
    host.program("/usr/bin/perl5", &Asks::default());
    host.link("/usr/bin/perl", "perl5");
    host.program("/usr/bin/env", &Asks::default());
    host.script(
        "/usr/lib/systemd/system-generators/one",
        "#!/usr/bin/env -S perl -w",
    );
    host.script("/usr/lib/systemd/two", "#! /opt/three");
    host.script("/opt/three", "#!/opt/four");
    host.script("/opt/four", "#!/opt/three");
    // Neither programs nor scripts, and one that may not be executed.
    host.put("/usr/lib/systemd/text", "echo", 0o755);
    host.put("/usr/lib/systemd/empty", "", 0o755);
    host.text("/usr/lib/systemd/not", "#!/bin/sh\n");
    let found = host.found();
    let roles: Vec<(&str, Role)> = found
        .iter()
        .map(|(path, role, _)| (path.as_str(), *role))
        .collect();
    assert_eq!(
        roles,
        [
            ("/opt/four", Role::Script),
            ("/opt/three", Role::Script),
            ("/usr/bin/env", Role::Executable),
            ("/usr/bin/perl5", Role::Executable),
            ("/usr/lib/systemd/system-generators/one", Role::Script),
            ("/usr/lib/systemd/two", Role::Script),
        ]
    );
}

#[test]
fn what_is_vital_gives_the_reason() {
    let host = Host::new();
    host.script("/usr/bin/tool", "#!/bin/none");
    host.script("/usr/bin/other", "#!/bin/none");
    host.text(
        "/etc/systemd/system/x.service",
        "[Service]\nExecStart=-/usr/bin/tool a\nExecStop=other\n",
    );
    let list = |name: &str, line: &str| host.text(&format!("/var/lib/dpkg/info/{name}.list"), line);
    host.text(
        "/var/lib/dpkg/status",
        "Package: base\nEssential: yes\nArchitecture: amd64\nStatus: install ok installed\n\n\
         Package: more\nPriority: required\nStatus: install ok installed\n",
    );
    list("base:amd64", "/.\n/usr/bin/tool\n/usr/share/doc/tool\n");
    list("more", "/usr/bin/other\n/usr/bin/tool\n");
    host.script("/usr/share/doc/tool", "#!/bin/none");
    host.script("/var/lib/dpkg/info/more.postinst", "#!/bin/none");
    let needs = host.needs();
    let why = |path: &str| find(&needs, path).map(|need| need.why.clone());
    assert_eq!(why("/usr/bin/tool"), Some(Why::Essential("base".into())));
    assert_eq!(why("/usr/bin/other"), Some(Why::Required("more".into())));
    assert_eq!(
        why("/var/lib/dpkg/info/more.postinst"),
        Some(Why::Maintainer)
    );
    assert_eq!(needs.iter().count(), 3);
    let lost: Vec<bool> = missing(&needs, &Default::default())
        .iter()
        .map(|m| m.is_vital())
        .collect();
    assert_eq!(lost, [false, true, false]);
}

#[test]
fn processes_are_told_by_what_the_kernel_says_of_them() {
    let host = Host::new();
    let process = |pid: u32, exe: &str, cgroup: &str, maps: &str| {
        host.text(&format!("/proc/{pid}/maps"), maps);
        host.text(&format!("/proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
        host.link(&format!("/proc/{pid}/exe"), exe);
    };
    for path in ["/opt/init", "/opt/agent", "/opt/shell", "/opt/late.so"] {
        host.program(path, &Asks::default());
    }
    let mapped = |name: &str| format!("1-2 r-xp 0 1:2 3   {name}\n");
    process(1, "/opt/init", "init.scope", &mapped("/opt/late.so"));
    process(
        20,
        "/opt/agent",
        "governed.slice/governed-x.slice",
        &mapped("/opt/agent"),
    );
    process(
        30,
        "/opt/shell",
        "user.slice",
        &format!(
            "{}{}{}{}",
            mapped("/opt/late.so (deleted)"),
            mapped("/opt/upgraded.so (deleted)"),
            mapped("/memfd:x (deleted)"),
            "1-2 r--p 0 1:2 3 /opt/agent\n"
        ),
    );
    process(40, "/opt/gone (deleted)", "governed.slicer", "");
    let needs = host.needs();
    let all: Vec<(String, &Why, bool)> = needs
        .iter()
        .map(|need| (need.path.display().to_string(), &need.why, need.gone))
        .collect();
    assert_eq!(
        all,
        [
            ("/opt/gone".into(), &Why::Running(40), true),
            ("/opt/init".into(), &Why::Init, false),
            ("/opt/late.so".into(), &Why::Init, false),
            ("/opt/shell".into(), &Why::Running(30), false),
            ("/opt/upgraded.so".into(), &Why::Running(30), true),
        ]
    );
    let lost = missing(&needs, &Default::default());
    assert_eq!(lost[0].found, Found::Gone);
    assert!(
        lost[0]
            .to_string()
            .contains("/opt/gone (executable): running (pid 40); its file is gone")
    );
    let listing = listing(&needs);
    assert_eq!(listing.left_out.len(), 2);
    // Three files, one content.
    assert_eq!(
        listing.sets.values().map(Vec::len).collect::<Vec<_>>(),
        [1, 1]
    );
}

#[test]
fn governor_is_what_the_service_runs() {
    let host = Host::new();
    for path in ["/usr/bin/governor", "/opt/own.so", "/opt/put-in.so"] {
        host.program(path, &Asks::default());
    }
    for (pid, mapped) in [(50, "/opt/own.so"), (60, "/opt/put-in.so")] {
        host.link(&format!("/proc/{pid}/exe"), "/usr/bin/governor");
        host.text(
            &format!("/proc/{pid}/maps"),
            &format!("1-2 r-xp 0 1:2 3 {mapped}\n"),
        );
    }
    let service = "sys/fs/cgroup/system.slice/governor.service/cgroup.procs";
    host.text(service, "50\nx\n");
    let needs = host.needs();
    let why = |path: &str| find(&needs, path).map(|need| need.why.clone());
    assert_eq!(why("/usr/bin/governor"), Some(Why::Governor));
    assert_eq!(why("/opt/own.so"), Some(Why::Governor));
    assert_eq!(why("/opt/put-in.so"), Some(Why::Running(60)));
}

#[test]
fn a_mapping_is_judged_by_libraries_and_programs_both() {
    let host = Host::new();
    let shell = Asks {
        interpreter: Some("/lib/ld.so"),
        ..Asks::default()
    };
    host.program("/usr/bin/sh", &shell);
    host.program("/usr/lib/ld.so", &Asks::default());
    let needs = host.needs();
    let all = listing(&needs);
    let digests = |role| all.sets[&role].iter().map(|(digest, _)| *digest).collect();
    let mut survival = governor_core::policy::Survival {
        exec: digests(Role::Executable),
        libraries: digests(Role::Library),
        ..Default::default()
    };
    assert_eq!(missing(&needs, &survival), []);
    let libraries = std::mem::take(&mut survival.libraries);
    let lost = missing(&needs, &survival);
    assert_eq!(lost.len(), 1);
    assert_eq!(
        lost[0].to_string(),
        "/usr/lib/ld.so (library): shell of everybody, for /usr/bin/sh"
    );
    survival.exec.extend(&libraries);
    assert_eq!(missing(&needs, &survival), []);
    survival.libraries = std::mem::take(&mut survival.exec);
    let lost = missing(&needs, &survival);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].need.role, Role::Executable);
}
