//! What a login takes in made-up hosts.

use super::*;

#[test]
fn services_lead_to_modules_programs_and_shells() {
    let host = Host::new();
    for path in [
        "/usr/bin/sh",
        "/usr/bin/zsh",
        "/usr/lib/x86_64-linux-gnu/security/pam_one.so",
        "/usr/lib/security/pam_exec.so",
        "/opt/pam_two.so",
        "/opt/note",
        "/opt/elsewhere",
        "/usr/lib/libnss_files.so.2",
        "/usr/lib/libnss_sss.so.2",
        "/usr/lib/libnss_other.so.2",
        "/opt/preload.so",
    ] {
        host.program(path, &Asks::default());
    }
    host.text(
        "/etc/pam.d/sshd",
        "@include common\n-auth [a=1 b=2] \\\n /opt/pam_two.so x\n@include sshd\n",
    );
    host.text(
        "/etc/pam.d/common",
        "auth include /etc/deep\nsession required pam_exec.so quiet /opt/note a\n",
    );
    host.text(
        "/etc/deep",
        "account substack common\naccount required pam_one.so\n",
    );
    host.text(
        "/etc/pam.conf",
        "other auth required pam_exec.so /opt/elsewhere\n",
    );
    host.text(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/zsh\nx:x:1:1::/:/usr/sbin/nologin\n",
    );
    host.text(
        "/etc/nsswitch.conf",
        "passwd: sss [NOTFOUND=return] nowhere\n",
    );
    host.text("/etc/ld.so.preload", "/opt/preload.so\n");
    let found = host.found();
    let expected = [
        ("/opt/elsewhere", Role::Executable, "login: /etc/pam.conf"),
        ("/opt/note", Role::Executable, "login: /etc/pam.d/common"),
        ("/opt/pam_two.so", Role::Library, "login: /etc/pam.d/sshd"),
        ("/opt/preload.so", Role::Library, "the first process"),
        ("/usr/bin/sh", Role::Executable, "shell of everybody"),
        ("/usr/bin/zsh", Role::Executable, "shell of root"),
        (
            "/usr/lib/libnss_files.so.2",
            Role::Library,
            "name service files",
        ),
        (
            "/usr/lib/libnss_sss.so.2",
            Role::Library,
            "name service sss",
        ),
        (
            "/usr/lib/security/pam_exec.so",
            Role::Library,
            "login: /etc/pam.conf",
        ),
        (
            "/usr/lib/x86_64-linux-gnu/security/pam_one.so",
            Role::Library,
            "login: /etc/deep",
        ),
    ];
    let expected = expected.map(|(path, role, why)| (path.to_owned(), role, why.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn long_lines_and_many_accounts_are_read_to_an_end() {
    let host = Host::new();
    host.program("/usr/bin/sh", &Asks::default());
    host.program("/usr/bin/zsh", &Asks::default());
    let long = "x".repeat(10 << 20);
    let mut text = format!("{long}:x:0:0::/:/bin/none\n");
    text.push_str(&format!("a:x:0:0:{long}:/:/bin/none\n"));
    text.push_str(&"b:x:1:1::/:/bin/none\n".repeat(3000));
    text.push_str("root:x:0:0::/root:/bin/zsh");
    host.text("/etc/passwd", &text);
    host.text(
        "/etc/pam.d/a",
        &"@include a\nauth required \\\n".repeat(10_000),
    );
    assert_eq!(host.paths(), ["/usr/bin/sh", "/usr/bin/zsh"]);
}

#[test]
fn configurations_that_include_each_other_come_to_an_end() {
    let host = Host::new();
    let shell = Asks {
        needed: &["liba.so"],
        ..Asks::default()
    };
    host.program("/usr/bin/sh", &shell);
    host.program("/opt/last/liba.so", &Asks::default());
    host.text("/etc/ld.so.conf", "include *.conf ld.so.conf.d/*.conf\n");
    for n in 0..40 {
        let all = "include *.conf ../ld.so.conf ../ld.so.conf.d/*\n";
        host.text(&format!("/etc/ld.so.conf.d/{n}.conf"), all);
    }
    host.text("/etc/ld.so.conf.d/z.conf", "/opt/last\n");
    assert_eq!(host.paths(), ["/opt/last/liba.so", "/usr/bin/sh"]);
}
