//! `governor status --json`, read as any program would read it.

use crate::guest::{Guest, Output};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// One answer of the daemon.
#[derive(Debug)]
pub(crate) struct Status(Value);

/// Asks for it. The exit code is not looked at: an untrusted host answers too.
pub(crate) fn of(guest: &mut Guest) -> Result<Status> {
    parse(&guest.run(&["governor", "status", "--json"])?)
}

/// Asks once the daemon has looked at every file that the policy lists by path.
pub(crate) fn once_measured_ahead(guest: &mut Guest, bound: Duration) -> Result<Status> {
    let wait = "until governor status --json | grep -Eq '\"left\": ?0(,|}|$)'; do sleep 0.5; done";
    guest.run_for(&["sh", "-c", wait], bound)?.ok()?;
    of(guest)
}

/// Reads what was answered.
pub(crate) fn parse(output: &Output) -> Result<Status> {
    let value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reading `{}` {}", output.text(), output.errors()))?;
    Ok(Status(value))
}

impl Status {
    fn at(&self, path: &[&str]) -> &Value {
        path.iter().fold(&self.0, |value, key| &value[*key])
    }

    pub(crate) fn text(&self, path: &[&str]) -> String {
        match self.at(path) {
            Value::String(text) => text.clone(),
            Value::Null => "none".into(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        }
    }

    pub(crate) fn number(&self, path: &[&str]) -> u64 {
        self.at(path).as_u64().unwrap_or(0)
    }

    /// What the kernel counted, by reason.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.at(&["counts"]).as_array().into_iter().flatten();
        counts
            .map(|count| (text(count, "reason"), count["count"].as_u64().unwrap_or(0)))
            .collect()
    }

    pub(crate) fn trust(&self) -> String {
        self.text(&["trust", "state"])
    }

    pub(crate) fn policy(&self) -> String {
        self.text(&["policy", "name"])
    }

    /// Codes and texts of the reasons.
    pub(crate) fn reasons(&self) -> String {
        self.each_reason(|reason| format!("{}: {}", text(reason, "code"), text(reason, "text")))
    }

    /// Names of what is not in force.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.hooks(|state| state != "attached")
    }

    /// Names of hooks that are.
    pub(crate) fn attached(&self) -> Vec<String> {
        self.hooks(|state| state == "attached")
    }

    fn hooks(&self, is_one: impl Fn(&str) -> bool) -> Vec<String> {
        let hooks = self.at(&["enforcement", "hooks"]).as_array();
        let hooks = hooks.into_iter().flatten();
        let found = hooks.filter(|hook| is_one(&text(hook, "state")));
        found.map(|hook| text(hook, "name")).collect()
    }

    /// What clears each reason.
    pub(crate) fn remedies(&self) -> String {
        self.each_reason(|reason| text(reason, "cleared_by"))
    }

    fn each_reason(&self, of: impl Fn(&Value) -> String) -> String {
        let reasons = self.at(&["trust", "reasons"]).as_array();
        reasons
            .map(|reasons| reasons.iter().map(of).collect::<Vec<_>>().join("; "))
            .unwrap_or_default()
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
