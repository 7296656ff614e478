//! What is executed while it is counted: programs that do next to nothing, so that what remains is
//! the way there.

use crate::{compile, guest::Guest, paths, process};
use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where all of it lies in the guest.
const DIR: &str = "/opt/cost";
/// The guest's side of the benchmark.
pub(super) const PROBE: &str = "/opt/cost/probe";
/// A program that ends at once, without a library.
pub(super) const STILL: &str = SIZES[0].0;
/// The same in files of several sizes.
pub(super) const SIZES: [(&str, u64); 4] = [
    ("/opt/cost/still-28k", 28 << 10),
    ("/opt/cost/still-2m", 2 << 20),
    ("/opt/cost/still-60m", 60 << 20),
    ("/opt/cost/still-512m", 512 << 20),
];
/// A program that is linked with [`LIBRARIES`] of its own beside the C library.
pub(super) const MANY: &str = "/opt/cost/many";
const LIBRARIES: usize = 30;
/// A script of the kind that `configure` is.
pub(super) const SCRIPT: &str = "/opt/cost/configure";

/// Lines of sha256sum form.
pub(super) struct Sets {
    pub(super) programs: String,
    pub(super) libraries: String,
}

/// Puts everything into the guest, and says what it holds.
pub(super) fn put(guest: &mut Guest) -> Result<Sets> {
    let dir = paths::ensure(paths::target().join("bench"))?;
    guest.sh(&format!("mkdir -p {DIR}/lib"))?.ok()?;
    let mut programs = String::new();
    let mut file = |guest: &mut Guest, from: &Path, to: &str| -> Result<()> {
        guest.put_file(from, to)?;
        programs.push_str(&line(from)?);
        Ok(())
    };
    file(guest, &compile::probe("probe_cost")?, PROBE)?;
    linked(&dir)?;
    file(guest, &dir.join("many"), MANY)?;
    for (path, size) in SIZES {
        let whole = dir.join("still");
        // What follows the program is never mapped: only the hash has to look at it.
        File::create(&whole)
            .and_then(|mut file| file.write_all(&still()).and(file.set_len(size)))
            .with_context(|| format!("writing `{}`", whole.display()))?;
        guest.put(path, 0o755, &still())?;
        guest.sh(&format!("truncate -s {size} {path}"))?.ok()?;
        programs.push_str(&line(&whole)?);
    }
    let mut libraries = String::new();
    for number in 0..LIBRARIES {
        let name = library(number);
        let from = dir.join(&name);
        guest.put_file(&from, &format!("{DIR}/lib/{name}"))?;
        libraries.push_str(&line(&from)?);
    }
    guest.put(SCRIPT, 0o755, CONFIGURE.as_bytes())?;
    guest
        .sh(&format!("chmod -R a+rX {DIR} && chmod 755 {PROBE} {MANY}"))?
        .ok()?;
    Ok(Sets {
        programs,
        libraries,
    })
}

/// Makes programs of 60 MB in a directory of the guest, each another one, and whatever was there is gone. Lines
/// of sha256sum form, with their paths.
pub(super) fn make_large(guest: &mut Guest, dir: &str, count: u64) -> Result<String> {
    guest.sh(&format!("rm -rf {dir} && mkdir {dir}"))?.ok()?;
    let whole = paths::ensure(paths::target().join("bench"))?.join("large");
    let mut lines = String::new();
    for number in 0..count {
        let path = format!("{dir}/large-{number}");
        let content = [still(), vec![b'x'; number as usize + 1]].concat();
        File::create(&whole)
            .and_then(|mut file| file.write_all(&content).and(file.set_len(SIZES[2].1)))
            .with_context(|| format!("writing `{}`", whole.display()))?;
        guest.put(&path, 0o755, &content)?;
        guest
            .sh(&format!("truncate -s {} {path}", SIZES[2].1))?
            .ok()?;
        let line = line(&whole)?;
        let digest = line.split_whitespace().next();
        let digest = digest.context("a sum without a digest")?;
        lines.push_str(&format!("{digest}  {path}\n"));
    }
    // Whoever executes them has none of the work that is left of making them.
    guest.run(&["sync"])?.ok()?;
    Ok(lines)
}

/// What the script starts, and what those are linked with, as the guest has it.
pub(super) fn of_the_script(guest: &mut Guest) -> Result<Sets> {
    let programs = guest
        .sh(&format!("governor measure $(which {STARTED})"))?
        .ok()?
        .text();
    let libraries = guest
        .sh(&format!(
            "ldd {PROBE} $(which {STARTED}) | grep -o '/[^ ]*[.]so[^ ]*' | sort -u | \
             xargs governor measure"
        ))?
        .ok()?
        .text();
    Ok(Sets {
        programs,
        libraries,
    })
}

fn line(path: &Path) -> Result<String> {
    let mut sum = process::command("sha256sum");
    sum.arg(path);
    process::capture(&mut sum)
}

fn library(number: usize) -> String {
    format!("libcost{number:02}.so")
}

/// Compiles the libraries and the program that needs all of them.
fn linked(dir: &Path) -> Result<()> {
    let source = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
        Ok(path)
    };
    let mut calls = String::new();
    let mut libraries = Vec::new();
    for number in 0..LIBRARIES {
        let text = format!("int cost{number}(void) {{ return {number}; }}\n");
        let from = source("library.c", &text)?;
        let to = dir.join(library(number));
        let mut compile = process::command("cc");
        compile
            .args(["-shared", "-fPIC", "-o"])
            .args([&to, &from])
            .arg(format!("-Wl,-soname,{}", library(number)));
        process::capture(&mut compile).context("compiling a library")?;
        calls.push_str(&format!("int cost{number}(void); "));
        libraries.push(to);
    }
    let sum: Vec<String> = (0..LIBRARIES).map(|one| format!("cost{one}()")).collect();
    let text = format!(
        "{calls}\nint main(void) {{ return ({}) != 435; }}\n",
        sum.join(" + ")
    );
    let mut link = process::command("cc");
    link.arg("-o")
        .arg(dir.join("many"))
        .arg(source("many.c", &text)?)
        .args(libraries)
        .arg(format!("-Wl,-rpath,{DIR}/lib"));
    process::capture(&mut link)
        .context("compiling a program with libraries")
        .map(drop)
}

/// An ELF program of one segment (System V ABI, AMD64) that calls exit(0).
fn still() -> Vec<u8> {
    // mov eax, 60; xor edi, edi; syscall
    const CODE: [u8; 9] = [0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // An executable for x86-64, version 1.
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend((BASE + HEADERS).to_le_bytes());
    // Program headers follow; no sections, no flags.
    bytes.extend(64u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend([64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let size = HEADERS + CODE.len() as u64;
    let mut header = |kind: u32, flags: u32, base: u64, size: u64| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for word in [0, base, base, size, size, 0x1000] {
            bytes.extend(word.to_le_bytes());
        }
    };
    // Read and execute; and a stack that is only read and written.
    header(1, 5, BASE, size);
    header(0x6474_e551, 6, 0, 0);
    bytes.extend(CODE);
    bytes
}

/// What [`CONFIGURE`] starts.
const STARTED: &str = "sh sed grep cat expr mkdir rm uname tr sort cut head ls mv";

const CONFIGURE: &str = r##"dir=$(mkdir -p /tmp/cost.$$ && echo /tmp/cost.$$) && cd "$dir" || exit 1
for name in stdio stdlib string unistd fcntl sys_stat sys_types errno; do
    have=$(echo "HAVE_${name}_H" | tr a-z A-Z)
    echo "#define $have 1" >> confdefs.h
    grep -q "$have" confdefs.h || exit 1
    sed "s/@$name@/yes/" confdefs.h > confdefs.new && mv confdefs.new confdefs.h
    width=$(expr "$name" : '.*')
    test "$width" -gt 0 || exit 1
done
host=$(uname -m | sed 's/_/-/' | cut -d - -f 1)
sort confdefs.h | head -n 3 > first
ls > listed
cat first listed > all
test -n "$host" && cd / && rm -r "$dir"
"##;
