//! ApiVersions, versions 0 to 4: what this broker serves (KIP-35, KIP-511, KIP-584).
//!
//! It is the first request of a connection, so its version is a guess. One that is not served is
//! answered in version 0, with the error and the versions of this API alone.

use bytes::Bytes;

use crate::protocol::api::{APIS, Api, ApiKey};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{Message, message, wire_field, wire_struct};
use crate::protocol::wire::{Malformed, Str};

wire_struct! {
    /// Asks for the APIs and features (`ApiVersionsRequest`).
    pub struct ApiVersionsRequest {
        /// The client library's name (KIP-511).
        pub client_software_name: Str, 3..;
        /// The client library's version (KIP-511).
        pub client_software_version: Str, 3..;
    }

    /// The APIs and features (`ApiVersionsResponse`).
    pub struct ApiVersionsResponse {
        /// What was wrong with the request, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The APIs and their versions.
        pub apis: Vec<ApiVersionRange>, 0..;
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// The feature levels this broker can do.
        pub supported_features: Vec<SupportedFeature>, 3.., tag 0;
        /// The metadata offset the finalized features are of, or -1.
        pub finalized_features_epoch: i64, 3.., tag 1, default -1;
        /// The feature levels in force in the cluster.
        pub finalized_features: Vec<FinalizedFeature>, 3.., tag 2;
        /// Whether a ZooKeeper migration may start; never, here.
        pub zk_migration_ready: bool, 3.., tag 3;
    }

    /// An API and its versions (`ApiVersion`).
    pub struct ApiVersionRange {
        /// The API's number.
        pub key: i16, 0..;
        /// The lowest version.
        pub version_min: i16, 0..;
        /// The highest version.
        pub version_max: i16, 0..;
    }

    /// A feature and the levels a broker can do (`SupportedFeatureKey`).
    pub struct SupportedFeature {
        /// The feature's name.
        pub name: Str, 3..;
        /// The lowest level.
        pub level_min: i16, 3..;
        /// The highest level.
        pub level_max: i16, 3..;
    }

    /// A feature and the level in force (`FinalizedFeatureKey`).
    pub struct FinalizedFeature {
        /// The feature's name.
        pub name: Str, 3..;
        /// The level in force.
        pub level_max: i16, 3..;
        /// The same level.
        pub level_min: i16, 3..;
    }
}

message!(ApiVersionsRequest, ApiVersions, Request);
message!(ApiVersionsResponse, ApiVersions, Response);

impl ApiVersionsRequest {
    /// Whether the client names itself in a way Apache Kafka accepts; one that does not is
    /// answered `InvalidRequest`. Versions before 3 name nothing.
    pub fn names_are_valid(&self, version: i16) -> bool {
        version < 3
            || [&self.client_software_name, &self.client_software_version]
                .iter()
                .all(|name| is_software_name(name.as_bytes()))
    }
}

/// Letters and digits, with dashes and dots between them; at least one.
fn is_software_name(name: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    name.iter().all(inner)
        && name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.last().is_some_and(u8::is_ascii_alphanumeric)
}

impl From<&Api> for ApiVersionRange {
    fn from(api: &Api) -> Self {
        Self { key: api.key.code(), version_min: api.advertised_min, version_max: api.version_max }
    }
}

impl ApiVersionsResponse {
    /// An answer with every API of the table and no features.
    pub fn of_this_broker() -> Self {
        Self { apis: APIS.iter().map(ApiVersionRange::from).collect(), ..Self::default() }
    }

    /// The answer to a version that is not served, to be written in version 0 (KIP-511).
    pub fn unsupported_version() -> Self {
        Self {
            error: ErrorCode::UnsupportedVersion,
            apis: vec![ApiVersionRange::from(ApiKey::ApiVersions.row())],
            ..Self::default()
        }
    }

    /// Makes the answer fit for clients of version `version`: those before 4 stumble over supported
    /// features whose lowest level is 0, so these are left out (KAFKA-17492).
    pub fn for_version(mut self, version: i16) -> Self {
        if version < 4 {
            self.supported_features.retain(|feature| feature.level_min != 0);
        }
        self
    }

    /// Reads the answer to a request of version `version`, which may be one of version 0 when the
    /// broker does not serve that version.
    pub fn decode_answer(version: i16, body: Bytes) -> Result<Self, Malformed> {
        Self::decode(version, body.clone()).or_else(|_| Self::decode(0, body))
    }

    /// The versions of API `key` that the answer names, lowest and highest.
    pub fn versions_of(&self, key: i16) -> Option<(i16, i16)> {
        let api = self.apis.iter().find(|api| api.key == key)?;
        Some((api.version_min, api.version_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_answered_with_this_api_alone() {
        let body = ApiVersionsResponse::unsupported_version().encode(0);
        assert_eq!(&body[..], [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
        let read = ApiVersionsResponse::decode_answer(4, body).expect("falls back to version 0");
        assert_eq!(read, ApiVersionsResponse::unsupported_version());
    }

    #[test]
    fn produce_is_announced_from_version_0_on() {
        let answer = ApiVersionsResponse::of_this_broker();
        assert_eq!(answer.versions_of(0), Some((0, 13)));
        assert_eq!(answer.versions_of(1), Some((4, 18)));
        assert_eq!(answer.versions_of(4), None);
    }

    #[test]
    fn features_from_level_0_are_told_from_version_4_on() {
        let feature = |name, level_min| SupportedFeature {
            name: Str::from_static_str(name),
            level_min,
            level_max: 9,
        };
        let answer = ApiVersionsResponse {
            supported_features: vec![feature("metadata.version", 7), feature("group.version", 0)],
            ..ApiVersionsResponse::default()
        };
        assert_eq!(answer.clone().for_version(3).supported_features.len(), 1);
        assert_eq!(answer.for_version(4).supported_features.len(), 2);
    }

    #[test]
    fn software_names_are_alphanumeric_at_both_ends() {
        let cases = [
            ("apache-kafka-java", true),
            ("4.3.1", true),
            ("a", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
            ("a\u{e9}a", false),
        ];
        for (name, valid) in cases {
            let request = ApiVersionsRequest {
                client_software_name: Str::from_static_str(name),
                client_software_version: Str::from_static_str("1"),
            };
            assert_eq!(request.names_are_valid(3), valid, "{name:?}");
            assert!(request.names_are_valid(2), "{name:?}");
        }
    }
}
