//! The marker of a clean stop: `{"version":0,"brokerEpoch":N}`.
//!
//! Source: Kafka's `CleanShutdownFileHandler`.

use serde::{Deserialize, Serialize};

/// The marker's file in the log directory.
pub const FILE_NAME: &str = ".kafka_cleanshutdown";

#[derive(Deserialize, Serialize)]
struct Marker {
    version: i32,
    #[serde(rename = "brokerEpoch")]
    broker_epoch: i64,
}

/// The broker epoch of the process that stopped; `None` when the marker does not tell it.
pub fn broker_epoch(bytes: &[u8]) -> Option<i64> {
    let marker: Marker = serde_json::from_slice(bytes).ok()?;
    (marker.version == 0).then_some(marker.broker_epoch)
}

/// The marker a process of this broker epoch leaves.
pub fn format(broker_epoch: i64) -> String {
    serde_json::to_string(&Marker { version: 0, broker_epoch }).expect("two numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_reads_back() {
        assert_eq!(format(12), r#"{"version":0,"brokerEpoch":12}"#);
        assert_eq!(broker_epoch(format(12).as_bytes()), Some(12));
        assert_eq!(broker_epoch(b"{}"), None);
        assert_eq!(broker_epoch(b""), None);
    }
}
