//! Resource texts and names that several modules use.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pillion_testkit::Sidecar;

pub(crate) const STATE: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mystore}
spec: {type: state.in-memory, version: v1}
";

pub(crate) const PUBSUB: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mypub}
spec: {type: pubsub.in-memory, version: v1}
";

/// An application id no other run on this machine uses: names are resolved across the whole machine.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{}-{now}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Resident memory of a sidecar in KiB.
pub(crate) fn resident(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
