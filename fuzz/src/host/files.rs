//! Texts of a host: accounts, name services, packages, maps, PAM, units, mounts.

/// As files of every kind at once.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    governor::fuzzing::files(text) | governor::fuzzing::mounts(text)
}

/// A line or two of each.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "root:x:0:0:root:/root:/bin/bash\npasswd: files [!UNAVAIL=return] systemd # sss\n",
        "7f1-7f2 r-xp 00026000 fe:01 1234    /usr/lib/libc.so.6 (deleted)\n",
        "@include common-auth\nauth [success=1 default=ignore] \\\n pam_unix.so nullok\n",
        "session optional pam_exec.so quiet /usr/bin/note\nExecStart=-/usr/bin/x -y\n",
        "Package: dash\nEssential: yes\nStatus: install ok installed\nArchitecture: amd64\n\n",
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n*.conf\nlibc\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
