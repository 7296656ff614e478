//! Signed policies to load: two zones, two workloads, and whatever a test edits.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use super::{
    super::*,
    model::{WALL, pcrs},
};
use crate::{
    attest::fixture::Scene,
    policy::{RawBundle, TrustedKeys},
    time::WallTime,
};

pub(super) fn signed_policy(serial: u64) -> Arc<VerifiedPolicy> {
    signed_policy_with(serial, "")
}

/// The same with further tables.
pub(super) fn signed_policy_with(serial: u64, tables: &str) -> Arc<VerifiedPolicy> {
    signed_policy_edited(serial, |text| {
        text.replace("[set]\n", &format!("{tables}[set]\n"))
    })
}

/// The same, edited.
pub(super) fn signed_policy_edited(
    serial: u64,
    edit: impl Fn(String) -> String,
) -> Arc<VerifiedPolicy> {
    let scene = Scene::ecc();
    let mut bundle = BTreeMap::new();
    let ak = format!("000b{}", Digest::of(&scene.evidence.ak_public));
    let values = pcrs(false);
    bundle.insert(
        "reference.toml".to_owned(),
        format!(
            "[ak]\nnames = [\"{ak}\"]\n[pcr]\n0 = \"{}\"\n7 = \"{}\"\n",
            values[&0], values[&7]
        )
        .into_bytes(),
    );
    bundle.insert(
        "planner.sha256".into(),
        format!("{}  planner\n", Digest::of(b"p")).into_bytes(),
    );
    bundle.insert(
        "helper.sha256".into(),
        format!("{}  helper\n", Digest::of(b"h")).into_bytes(),
    );
    bundle.insert(
        "daemon.sha256".into(),
        format!("{}  daemon\n", Digest::of(b"daemon")).into_bytes(),
    );
    let thaw = serial.is_multiple_of(2);
    let text = format!(
        "[policy]\nformat = 1\nname = \"test\"\nserial = {serial}\n\
         not_before = 2026-11-01T00:00:00Z\nnot_after = 2028-01-01T00:00:00Z\n\
         [governor]\nexec = []\n\
         [attestation]\nverifiers = [\"local\"]\nthreshold = 1\npcrs = [0, 7]\n\
         reference = \"reference.toml\"\nevery = \"10s\"\nlease = \"30s\"\n\
         [zone.agents]\ncgroup = \"governed.slice/governed-agents.slice\"\n\
         observe_up_to = \"1m\"\nthaw = {thaw}\n\
         [zone.tools]\ncgroup = \"governed.slice/governed-tools.slice\"\nrequires = \"policy\"\n\
         on_revoke = \"deny\"\n\
         [workload.planner]\nzone = \"agents\"\nexec = [\"planner\"]\n\
         started_by = [\"operator\"]\nuser = [\"1000\"]\non_revoke = \"freeze\"\n\
         [workload.helper]\nzone = \"tools\"\nexec = [\"helper\"]\n\
         started_by = [\"operator\"]\nuser = [\"1000\"]\n\
         [set]\nplanner = \"planner.sha256\"\nhelper = \"helper.sha256\"\n\
         daemon = \"daemon.sha256\"\n"
    );
    bundle.insert("policy.toml".into(), edit(text).into_bytes());
    let sums: String = bundle
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)))
        .collect();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[5; 32]));
    let signature = key
        .sign("governor-policy@v1", HashAlg::Sha512, sums.as_bytes())
        .unwrap();
    bundle.insert("SHA256SUMS".into(), sums.into_bytes());
    bundle.insert(
        "SHA256SUMS.sig".into(),
        signature.to_pem(LineEnding::LF).unwrap().into_bytes(),
    );
    let keys = TrustedKeys::parse(&key.public_key().to_openssh().unwrap(), 1).unwrap();
    let opened = policy::open(&RawBundle::new(bundle).unwrap(), &keys, WallTime(WALL));
    Arc::new(opened.unwrap_or_else(|error| panic!("{error}")))
}

pub(super) fn policy_of(serial: u64) -> Arc<VerifiedPolicy> {
    static MADE: OnceLock<Vec<Arc<VerifiedPolicy>>> = OnceLock::new();
    Arc::clone(&MADE.get_or_init(|| (1..=4).map(signed_policy).collect())[serial as usize - 1])
}
