//! `governor explain`: the verdict now, and why, by the daemon's own code.
//!
//! Refuses to guess: a file is measured here and judged there; a verdict that is not a clear yes
//! exits with 3.

use std::{fs, net::SocketAddr, path::Path, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::ArgGroup;
use governor_core::digest::Digest;

use super::{Done, Globals, output};
use crate::{
    control::proto::{
        self, ExplainReply, Verdict,
        explain_request::{Connect, Content, Question},
    },
    text,
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("question").required(true))]
pub(super) struct Args {
    /// A file, a pid, an event such as `e17`, or a SHA-256 digest
    #[arg(value_name = "PATH|PID|EVENT", group = "question")]
    subject: Option<String>,
    /// The zone to judge a file in [default: every zone]
    #[arg(long, requires = "subject")]
    zone: Option<String>,
    /// A destination to judge
    #[arg(
        long,
        value_name = "ADDR:PORT",
        group = "question",
        requires = "workload"
    )]
    connect: Option<SocketAddr>,
    /// Who would connect there
    #[arg(long, requires = "connect", conflicts_with = "subject")]
    workload: Option<String>,
    /// How
    #[arg(long, value_enum, default_value = "tcp", conflicts_with = "subject")]
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
}

pub(super) fn explain(globals: &Globals, args: Args) -> Done {
    let Args {
        subject,
        zone,
        connect,
        workload,
        protocol,
    } = args;
    let question = match (subject, connect) {
        (Some(subject), _) => parse(&subject, zone)?,
        (None, Some(to)) => Question::Connect(Connect {
            address: to.ip().to_string(),
            port: to.port().into(),
            protocol: match protocol {
                Protocol::Tcp => proto::Protocol::Tcp,
                Protocol::Udp => proto::Protocol::Udp,
            }
            .into(),
            workload: workload.unwrap_or_default(),
        }),
        (None, None) => return Err(anyhow::anyhow!("nothing to explain").into()),
    };
    let request = proto::ExplainRequest {
        question: Some(question),
    };
    let reply = globals.ask(async |client| client.explain(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        output::print(&render(&reply))?;
    }
    Ok(match reply.verdict() {
        Verdict::Allow | Verdict::WouldDeny => ExitCode::SUCCESS,
        Verdict::Deny | Verdict::Unspecified => ExitCode::from(3),
    })
}

/// Digits are a pid, `e` and digits an event, 64 hexadecimal digits a digest; a file that is named
/// like one of these is reached with `./`.
fn parse(subject: &str, zone: Option<String>) -> anyhow::Result<Question> {
    let zone = zone.unwrap_or_default();
    if let Ok(pid) = subject.parse() {
        return Ok(Question::Pid(pid));
    }
    if let Some(Ok(id)) = subject.strip_prefix('e').map(str::parse) {
        return Ok(Question::Event(id));
    }
    let digest = match Digest::from_hex(subject) {
        Some(digest) => digest,
        None => measure(Path::new(subject))?,
    };
    Ok(Question::Content(Content {
        digest: digest.bytes().to_vec(),
        zone,
    }))
}

fn measure(path: &Path) -> anyhow::Result<Digest> {
    let context = || format!("measuring `{}`", path.display());
    let regular = fs::metadata(path).with_context(context)?.is_file();
    ensure!(
        regular,
        "measuring `{}`: it is not a regular file",
        path.display()
    );
    Ok(Digest::of(&fs::read(path).with_context(context)?))
}

fn render(reply: &ExplainReply) -> String {
    let mut out = format!(
        "{}: {}\n",
        reply.verdict().name(),
        text::strip(&reply.subject)
    );
    if !reply.digest.is_empty() {
        out.push_str(&format!("sha256:{}\n", hex::encode(&reply.digest)));
    }
    for judgement in &reply.judgements {
        let mut zone = judgement.zone.clone();
        if !judgement.workload.is_empty() {
            zone = format!("{zone}/{}", judgement.workload);
        }
        let (verdict, operation) = (judgement.verdict().name(), &judgement.operation);
        let line = format!("- {zone}: {operation}: {verdict} ({})", judgement.reason);
        out.push_str(&format!("{}\n", text::strip(&line)));
        for (name, value) in [("rule", &judgement.rule), ("why", &judgement.detail)] {
            if !value.is_empty() {
                out.push_str(&format!("  {name}: {}\n", text::strip(value)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_apart() {
        let question = |subject: &str| parse(subject, None).ok();
        assert_eq!(question("4711"), Some(Question::Pid(4711)));
        assert_eq!(question("e17"), Some(Question::Event(17)));
        let hex = "ab".repeat(32);
        let content = Content {
            digest: vec![0xab; 32],
            zone: String::new(),
        };
        assert_eq!(question(&hex), Some(Question::Content(content)));
        let file = tempfile::NamedTempFile::new().expect("file");
        let zone = Some("agents".to_owned());
        let content = Content {
            digest: Digest::of(b"").bytes().to_vec(),
            zone: "agents".into(),
        };
        let path = file.path().to_str().expect("UTF-8");
        assert_eq!(parse(path, zone).ok(), Some(Question::Content(content)));
        assert_eq!(question("/dev/null"), None);
        assert_eq!(question("/nonexistent"), None);
    }
}
