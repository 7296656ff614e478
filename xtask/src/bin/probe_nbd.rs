//! A network block device whose other end is this program: `probe_nbd FILE DEVICE` answers the kernel with what is
//! in `FILE`, until the device is let go of. As `linux/nbd.h` has it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    process::ExitCode,
    thread,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, device] = args.as_slice() else {
        eprintln!("usage: probe_nbd FILE DEVICE");
        return ExitCode::from(2);
    };
    match serve(file, device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &str, device: &str) -> io::Result<()> {
    let open = |path| OpenOptions::new().read(true).write(true).open(path);
    let (file, device) = (open(file)?, open(device)?);
    let (ours, kernels) = UnixStream::pair()?;
    ask(&device, SET_BLOCK_SIZE, BLOCK as usize)?;
    let blocks = usize::try_from(file.metadata()?.len() / BLOCK).map_err(io::Error::other)?;
    ask(&device, SET_BLOCKS, blocks)?;
    ask(&device, SET_SOCKET, descriptor(kernels.as_raw_fd())?)?;
    // It stays in this call for as long as there is a device.
    let held = thread::spawn(move || {
        let outcome = ask(&device, DO_IT, 0);
        drop(kernels);
        outcome
    });
    println!("serving");
    answer(ours, &file)?;
    match held.join() {
        Ok(outcome) => outcome,
        Err(_panic) => Err(io::Error::other("the device's thread ended badly")),
    }
}

fn answer(mut kernel: UnixStream, file: &File) -> io::Result<()> {
    loop {
        let mut request = [0u8; 28];
        kernel.read_exact(&mut request)?;
        let word = |at: usize| {
            u32::from_be_bytes([
                request[at],
                request[at + 1],
                request[at + 2],
                request[at + 3],
            ])
        };
        if word(0) != REQUEST {
            return Err(io::Error::other("the kernel asks for something else"));
        }
        let at = u64::from(word(16)) << 32 | u64::from(word(20));
        let length = usize::try_from(word(24)).map_err(io::Error::other)?;
        let mut reply = Vec::with_capacity(16 + length);
        reply.extend_from_slice(&REPLY.to_be_bytes());
        reply.extend_from_slice(&[0; 4]);
        reply.extend_from_slice(&request[8..16]);
        match word(4) {
            READ => {
                reply.resize(16 + length, 0);
                file.read_exact_at(&mut reply[16..], at)?;
            }
            WRITE => {
                let mut content = vec![0; length];
                kernel.read_exact(&mut content)?;
                file.write_all_at(&content, at)?;
            }
            LET_GO => return Ok(()),
            // What was written is in the file by then.
            _ => {}
        }
        kernel.write_all(&reply)?;
    }
}

fn ask(device: &File, what: libc::c_ulong, value: usize) -> io::Result<()> {
    // SAFETY: these take a number and no pointer.
    match unsafe { libc::ioctl(device.as_raw_fd(), what, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn descriptor(number: RawFd) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

const BLOCK: u64 = 4096;
const SET_SOCKET: libc::c_ulong = 0xab00;
const SET_BLOCK_SIZE: libc::c_ulong = 0xab01;
const DO_IT: libc::c_ulong = 0xab03;
const SET_BLOCKS: libc::c_ulong = 0xab07;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u32 = 0;
const WRITE: u32 = 1;
const LET_GO: u32 = 2;
