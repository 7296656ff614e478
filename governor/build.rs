//! Generates the control protocol and embeds the kernel programs.
//!
//! The .proto files are compiled with protox, so a build needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kernel_programs()?;
    control_protocol()
}

/// Messages, client and server of `proto/governor/v1/control.proto`. What is printed becomes JSON
/// with enums by name and bytes as hexadecimal.
fn control_protocol() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["governor/v1/control.proto"], ["proto"])?;
    let mut builder = tonic_prost_build::configure().build_transport(false);
    for message in [
        "Count",
        "Daemon",
        "Enforcement",
        "BreakGlass",
        "BreakGlassReply",
        "EndBreakGlassReply",
        "GlassChallengeReply",
        "EnterZoneReply",
        "Epochs",
        "ExplainReply",
        "File",
        "GateEvent",
        "HoldReply",
        "Hook",
        "Judgement",
        "Ledger",
        "Losses",
        "Ahead",
        "NamedSockets",
        "Measurements",
        "Unlabelled",
        "Unreached",
        "ObserveReply",
        "Policy",
        "PolicyShowReply",
        "QuoteReply",
        "ReattestReply",
        "ReloadReply",
        "ResumeReply",
        "RevokeReply",
        "UnlockReply",
        "DisarmReply",
        "StatusReply",
        "Trust",
        "TrustReason",
        "Zone",
    ] {
        builder = builder.message_attribute(
            format!(".governor.v1.{message}"),
            "#[derive(serde::Serialize)]",
        );
    }
    for (field, with) in [
        ("Enforcement.level", "enforcement_level"),
        ("ExplainReply.digest", "hex"),
        ("ExplainReply.verdict", "verdict"),
        ("File.content", "hex"),
        ("GateEvent.digest", "hex"),
        ("GateEvent.verdict", "verdict"),
        ("Hook.state", "hook_state"),
        ("Judgement.verdict", "verdict"),
        ("Ledger.head", "hex"),
        ("Policy.digest", "hex"),
        ("Trust.state", "trust_state"),
        ("Unreached.digest", "hex"),
        ("Unreached.stop", "stop"),
        ("Zone.mode", "zone_mode"),
        ("Zone.on_revoke", "on_revoke"),
        ("Zone.requires", "requires"),
    ] {
        builder = builder.field_attribute(
            format!(".governor.v1.{field}"),
            format!("#[serde(serialize_with = \"crate::control::json::{with}\")]"),
        );
    }
    builder.compile_fds(files)?;
    Ok(())
}

/// `GOVERNOR_EBPF_OBJECT` names the object; without it an empty one is embedded, so that checks
/// and tests need no BPF toolchain, and attaching says what to do.
fn kernel_programs() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=GOVERNOR_EBPF_OBJECT");
    let embedded = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("governor-ebpf");
    match std::env::var_os("GOVERNOR_EBPF_OBJECT") {
        Some(object) => {
            let object = std::path::PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            std::fs::copy(&object, &embedded)
                .map_err(|error| format!("GOVERNOR_EBPF_OBJECT=`{}`: {error}", object.display()))?;
        }
        None => std::fs::write(&embedded, [])?,
    }
    println!(
        "cargo::rustc-env=GOVERNOR_EBPF_EMBEDDED={}",
        embedded.display()
    );
    Ok(())
}
