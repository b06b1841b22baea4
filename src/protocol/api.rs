//! The API table: which requests this broker serves, in which versions and forms.
//!
//! Everything that depends on an API's versions asks a row here: what ApiVersions announces, which
//! frames are refused, how headers and bodies are written. Ranges are Apache Kafka 4.3.1's.

use crate::protocol::wire::Version;

/// One API: its number, its name and its versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Api {
    /// Which API this is.
    pub key: ApiKey,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The lowest version served.
    pub version_min: i16,
    /// The highest version served.
    pub version_max: i16,
    /// The first version in compact form with tagged fields.
    pub flexible_from: i16,
    /// The lowest version that ApiVersions announces.
    ///
    /// Produce announces 0, though versions 0 to 2 are refused: librdkafka takes a broker without
    /// them for one that can not decompress (KAFKA-18659).
    pub advertised_min: i16,
}

impl Api {
    /// Whether requests of version `version` are served.
    pub fn serves(&self, version: i16) -> bool {
        (self.version_min..=self.version_max).contains(&version)
    }

    /// The form of version `version`.
    pub fn version(&self, version: i16) -> Version {
        Version::new(version, self.flexible_from)
    }

    /// Version of the request header: 2 when it has tagged fields, else 1.
    pub fn request_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_from { 2 } else { 1 }
    }

    /// Version of the response header: 1 when it has tagged fields, else 0.
    ///
    /// Always 0 for ApiVersions, whose reader does not know yet what the broker speaks (KIP-511).
    pub fn response_header_version(&self, version: i16) -> i16 {
        i16::from(version >= self.flexible_from && self.key != ApiKey::ApiVersions)
    }
}

macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $min:literal..=$max:literal,
        flexible $flexible:literal $(, advertised $advertised:literal)?;)*) => {
        /// The APIs this broker serves, by Kafka's names.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$doc])* $name = $key,)*
        }

        /// Every API this broker serves, in the order of their keys.
        pub const APIS: &[Api] = &[$(Api {
            key: ApiKey::$name,
            name: stringify!($name),
            version_min: $min,
            version_max: $max,
            flexible_from: $flexible,
            advertised_min: [$($advertised,)? $min][0],
        },)*];
    };
}

apis! {
    /// Appends record batches to partitions.
    Produce = 0, 3..=13, flexible 9, advertised 0;
    /// Reads record batches from partitions.
    Fetch = 1, 4..=18, flexible 12;
    /// Finds offsets by time, and the ends of partitions.
    ListOffsets = 2, 1..=11, flexible 6;
    /// Tells brokers, topics and leaders.
    Metadata = 3, 0..=13, flexible 9;
    /// Keeps offsets of groups.
    OffsetCommit = 8, 2..=10, flexible 8;
    /// Tells offsets of groups.
    OffsetFetch = 9, 1..=10, flexible 6;
    /// Tells which brokers coordinate groups.
    FindCoordinator = 10, 0..=6, flexible 3;
    /// Joins a classic group.
    JoinGroup = 11, 0..=9, flexible 6;
    /// Tells that a member of a classic group is alive.
    Heartbeat = 12, 0..=4, flexible 4;
    /// Leaves a classic group.
    LeaveGroup = 13, 0..=5, flexible 4;
    /// Hands out the assignments of a classic group.
    SyncGroup = 14, 0..=5, flexible 4;
    /// Tells what classic groups are like.
    DescribeGroups = 15, 0..=6, flexible 5;
    /// Tells which groups there are.
    ListGroups = 16, 0..=5, flexible 3;
    /// Tells the versions and features served.
    ApiVersions = 18, 0..=4, flexible 3;
    /// Makes topics.
    CreateTopics = 19, 2..=7, flexible 5;
    /// Removes topics.
    DeleteTopics = 20, 1..=6, flexible 4;
    /// Moves the start of partitions up.
    DeleteRecords = 21, 0..=2, flexible 2;
    /// Hands out producer ids and epochs.
    InitProducerId = 22, 0..=5, flexible 2;
    /// Tells where leader epochs ended.
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    /// Tells the settings of topics and brokers.
    DescribeConfigs = 32, 1..=4, flexible 4;
    /// Replaces all settings of a resource.
    AlterConfigs = 33, 0..=2, flexible 2;
    /// Tells the log directories and the partitions in them.
    DescribeLogDirs = 35, 1..=5, flexible 2;
    /// Adds partitions to topics.
    CreatePartitions = 37, 0..=3, flexible 2;
    /// Forgets groups.
    DeleteGroups = 42, 0..=2, flexible 2;
    /// Starts leader elections.
    ElectLeaders = 43, 0..=2, flexible 2;
    /// Changes single settings of a resource.
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    /// Tells the replica moves that are under way.
    ListPartitionReassignments = 46, 0..=0, flexible 0;
    /// Forgets offsets of groups.
    OffsetDelete = 47, 0..=0, flexible 1;
    /// Tells the cluster's id and brokers.
    DescribeCluster = 60, 0..=2, flexible 0;
    /// Tells the producers known to partitions.
    DescribeProducers = 61, 0..=0, flexible 0;
    /// Joins a consumer group, and tells that its member is alive.
    ConsumerGroupHeartbeat = 68, 0..=1, flexible 0;
    /// Tells what consumer groups are like.
    ConsumerGroupDescribe = 69, 0..=1, flexible 0;
    /// Tells on what settings may be set.
    ListConfigResources = 74, 0..=1, flexible 0;
    /// Tells the partitions of topics, page by page.
    DescribeTopicPartitions = 75, 0..=0, flexible 0;
}

impl ApiKey {
    /// The API with this number; `None` for those that are not served.
    pub fn from_code(code: i16) -> Option<Self> {
        Api::find(code).map(|api| api.key)
    }

    /// What a request is of, by the first bytes of its frame; `None` when they are not there, or
    /// name none that is served.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        frame.first_chunk::<2>().and_then(|raw| Self::from_code(i16::from_be_bytes(*raw)))
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// This API's row of the table.
    pub fn row(self) -> &'static Api {
        Api::find(self.code()).expect("every key has a row")
    }
}

impl Api {
    /// The row of the API with this number; `None` for those that are not served.
    pub fn find(code: i16) -> Option<&'static Self> {
        let index = APIS.binary_search_by_key(&code, |api| api.key.code()).ok()?;
        APIS.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_found_by_their_number() {
        assert!(APIS.is_sorted_by(|one, next| one.key < next.key));
        for api in APIS {
            assert_eq!(ApiKey::from_code(api.key.code()), Some(api.key));
            assert_eq!(api.key.row(), api);
            assert!(api.advertised_min <= api.version_min && api.version_min <= api.version_max);
        }
        for unknown in [-1, 4, 7, 62, 999, i16::MAX, i16::MIN] {
            assert_eq!(ApiKey::from_code(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn headers_have_tagged_fields_from_the_first_flexible_version_on() {
        let cases = [
            (ApiKey::Produce, 8, 1, 0),
            (ApiKey::Produce, 9, 2, 1),
            (ApiKey::ApiVersions, 2, 1, 0),
            (ApiKey::ApiVersions, 3, 2, 0),
            (ApiKey::DescribeCluster, 0, 2, 1),
        ];
        for (key, version, request, response) in cases {
            let row = key.row();
            assert_eq!(row.request_header_version(version), request, "{key:?} v{version}");
            assert_eq!(row.response_header_version(version), response, "{key:?} v{version}");
        }
    }
}
