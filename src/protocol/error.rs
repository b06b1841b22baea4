//! The error codes of the protocol, by Kafka's names, with a sentence for each.

macro_rules! error_codes {
    ($($name:ident = $code:literal, $retry:ident, $text:literal;)*) => {
        /// An error code of the wire (`org.apache.kafka.common.protocol.Errors`).
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(i16)]
        pub enum ErrorCode {
            /// No error.
            #[default]
            None = 0,
            $(#[doc = $text] $name = $code,)*
        }

        impl ErrorCode {
            /// Every code but `None`, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code with this number; `None` when there is none, as from a newer broker.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    0 => Some(Self::None),
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What it means, in a sentence; for answers that carry a message. Empty for `None`.
            pub const fn message(self) -> &'static str {
                match self {
                    Self::None => "",
                    $(Self::$name => $text,)*
                }
            }

            /// What a client may do about it.
            pub const fn retry(self) -> Retry {
                match self {
                    Self::None => Retry::Never,
                    $(Self::$name => Retry::$retry,)*
                }
            }
        }
    };
}

/// Whether sending the same request again may help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// It may, after a pause and perhaps with fresh metadata.
    Later,
    /// It will fail again.
    Never,
}

error_codes! {
    UnknownServerError = -1, Never, "The broker ran into something it did not expect.";
    OffsetOutOfRange = 1, Never, "The offset lies outside of what the log holds.";
    CorruptMessage = 2, Later,
        "The batch is damaged: its checksum, its size or its contents can not be right.";
    UnknownTopicOrPartition = 3, Later, "This broker has no such topic or partition.";
    InvalidFetchSize = 4, Never, "The fetch size is not a valid one.";
    LeaderNotAvailable = 5, Later,
        "The partition has no leader just now; an election is under way.";
    NotLeaderOrFollower = 6, Later,
        "This broker is not the partition's leader, or not a replica of it.";
    RequestTimedOut = 7, Later, "The time limit passed before the request was done.";
    BrokerNotAvailable = 8, Never, "The broker is not up.";
    ReplicaNotAvailable = 9, Later, "The replica is not here, or not ready to be read.";
    MessageTooLarge = 10, Never, "The batch is larger than `max.message.bytes` allows.";
    StaleControllerEpoch = 11, Never, "The controller epoch is older than one seen before.";
    OffsetMetadataTooLarge = 12, Never, "The metadata stored beside the offset is too long.";
    NetworkException = 13, Later, "The connection broke before the answer came.";
    CoordinatorLoadInProgress = 14, Later, "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15, Later, "No coordinator is available.";
    NotCoordinator = 16, Later, "This broker is not the coordinator asked for.";
    InvalidTopicException = 17, Never,
        "No topic may have this name, or clients may not write to it.";
    RecordListTooLarge = 18, Never, "The batch is larger than a segment may be.";
    NotEnoughReplicas = 19, Later,
        "Fewer replicas are in sync than `min.insync.replicas` asks for; nothing was written.";
    NotEnoughReplicasAfterAppend = 20, Later,
        "The records were written, but fewer replicas are in sync than `min.insync.replicas`.";
    InvalidRequiredAcks = 21, Never, "`acks` is none of 0, 1 and -1.";
    IllegalGeneration = 22, Never, "The generation is not the group's present one.";
    InconsistentGroupProtocol = 23, Never,
        "The member's protocols have nothing in common with the group's.";
    InvalidGroupId = 24, Never, "No group may have this id.";
    UnknownMemberId = 25, Never, "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, Never,
        "The session timeout is outside of the limits the broker sets.";
    RebalanceInProgress = 27, Never, "The group is rebalancing; the member has to join again.";
    InvalidCommitOffsetSize = 28, Never, "The commit is larger than one batch may be.";
    TopicAuthorizationFailed = 29, Never, "The client may not do this with these topics.";
    GroupAuthorizationFailed = 30, Never, "The client may not do this with this group.";
    ClusterAuthorizationFailed = 31, Never, "The client may not do this with the cluster.";
    InvalidTimestamp = 32, Never,
        "The record's timestamp is outside of the window the topic allows.";
    UnsupportedSaslMechanism = 33, Never, "The broker does not offer this SASL mechanism.";
    IllegalSaslState = 34, Never, "The SASL message does not fit the state of the connection.";
    UnsupportedVersion = 35, Never, "The broker does not speak this version of the request.";
    TopicAlreadyExists = 36, Never, "A topic of this name exists already.";
    InvalidPartitions = 37, Never, "The number of partitions is not a valid one.";
    InvalidReplicationFactor = 38, Never,
        "The replication factor is not positive, or larger than the number of brokers.";
    InvalidReplicaAssignment = 39, Never, "The replica assignment is not a valid one.";
    InvalidConfig = 40, Never, "The setting or its value is not a valid one.";
    NotController = 41, Later, "This broker is not the active controller.";
    InvalidRequest = 42, Never, "The request contradicts itself or lacks something.";
    UnsupportedForMessageFormat = 43, Never, "The record format of the log does not support this.";
    PolicyViolation = 44, Never, "A policy of the cluster forbids this.";
    OutOfOrderSequenceNumber = 45, Never,
        "The sequence number is not the one that follows the producer's last.";
    DuplicateSequenceNumber = 46, Never, "The sequence number was seen before.";
    InvalidProducerEpoch = 47, Never, "A producer with a newer epoch took this one's place.";
    InvalidTxnState = 48, Never, "The transaction is in a state that does not allow this.";
    InvalidProducerIdMapping = 49, Never,
        "The producer id is not the one that belongs to the transactional id.";
    InvalidTransactionTimeout = 50, Never,
        "The transaction timeout is longer than the broker allows.";
    ConcurrentTransactions = 51, Later, "Another change of this transaction is still under way.";
    TransactionCoordinatorFenced = 52, Never,
        "A newer transaction coordinator took this one's place.";
    TransactionalIdAuthorizationFailed = 53, Never, "The client may not use this transactional id.";
    SecurityDisabled = 54, Never, "Security is not switched on.";
    OperationNotAttempted = 55, Never,
        "This was not tried, because something else in the request failed.";
    KafkaStorageError = 56, Later, "The log directory of the partition failed.";
    LogDirNotFound = 57, Never, "The broker has no such log directory.";
    SaslAuthenticationFailed = 58, Never, "The credentials were not accepted.";
    UnknownProducerId = 59, Never, "The broker does not know this producer any more.";
    ReassignmentInProgress = 60, Never, "A reassignment of the partition is under way already.";
    DelegationTokenAuthDisabled = 61, Never, "Delegation tokens are not switched on.";
    DelegationTokenNotFound = 62, Never, "The broker knows no such delegation token.";
    DelegationTokenOwnerMismatch = 63, Never, "The delegation token belongs to somebody else.";
    DelegationTokenRequestNotAllowed = 64, Never,
        "Delegation tokens can not be handled over such a connection.";
    DelegationTokenAuthorizationFailed = 65, Never,
        "The client may not do this with delegation tokens.";
    DelegationTokenExpired = 66, Never, "The delegation token is too old.";
    InvalidPrincipalType = 67, Never, "This type of principal is not supported.";
    NonEmptyGroup = 68, Never, "The group still has members.";
    GroupIdNotFound = 69, Never, "There is no such group.";
    FetchSessionIdNotFound = 70, Later, "The broker does not know this fetch session.";
    InvalidFetchSessionEpoch = 71, Later,
        "The request's number does not follow the last of its fetch session.";
    ListenerNotFound = 72, Later, "The leader has no listener of the name the client came in by.";
    TopicDeletionDisabled = 73, Never, "Topics can not be deleted on this cluster.";
    FencedLeaderEpoch = 74, Later, "The client's leader epoch is older than the broker's.";
    UnknownLeaderEpoch = 75, Later, "The client's leader epoch is newer than the broker's.";
    UnsupportedCompressionType = 76, Never,
        "The compression is not one the version of the request allows.";
    StaleBrokerEpoch = 77, Never, "The broker epoch is older than the registered one.";
    OffsetNotAvailable = 78, Later,
        "The high watermark has not caught up with the new leader's epoch yet.";
    MemberIdRequired = 79, Never, "The member has to join with the id it was just given.";
    PreferredLeaderNotAvailable = 80, Later, "The preferred leader is not up.";
    GroupMaxSizeReached = 81, Never, "The group is full.";
    FencedInstanceId = 82, Never, "Another member with the same instance id took this one's place.";
    EligibleLeadersNotAvailable = 83, Later, "None of the replicas that may lead is up.";
    ElectionNotNeeded = 84, Later,
        "The partition is led already by whom the election would choose.";
    NoReassignmentInProgress = 85, Never, "The partition is not being reassigned.";
    GroupSubscribedToTopic = 86, Never, "The group still subscribes to the topic.";
    InvalidRecord = 87, Never, "A record or its batch was refused.";
    UnstableOffsetCommit = 88, Later,
        "Offsets of an open transaction are in the way; they will settle.";
    ThrottlingQuotaExceeded = 89, Later, "A quota is used up for now.";
    ProducerFenced = 90, Never,
        "A newer producer with the same transactional id took this one's place.";
    ResourceNotFound = 91, Never, "There is no such resource.";
    DuplicateResource = 92, Never, "The resource is named twice.";
    UnacceptableCredential = 93, Never, "The credential does not meet the requirements.";
    InconsistentVoterSet = 94, Never, "The voters named are not the voters known.";
    InvalidUpdateVersion = 95, Never, "The version to update to is not a valid one.";
    FeatureUpdateFailed = 96, Never, "The features could not be updated.";
    PrincipalDeserializationFailure = 97, Never, "The forwarded principal could not be read.";
    SnapshotNotFound = 98, Never, "There is no such snapshot.";
    PositionOutOfRange = 99, Never, "The position lies outside of the snapshot.";
    UnknownTopicId = 100, Later, "This broker knows no topic with this id.";
    DuplicateBrokerRegistration = 101, Never, "A broker with this id is registered already.";
    BrokerIdNotRegistered = 102, Never, "The broker is not registered.";
    InconsistentTopicId = 103, Later, "The topic's id is not the one the client names.";
    InconsistentClusterId = 104, Never, "The request is meant for a cluster with another id.";
    TransactionalIdNotFound = 105, Never, "There is no such transactional id.";
    FetchSessionTopicIdError = 106, Later, "The fetch session mixes topic names and topic ids.";
    IneligibleReplica = 107, Never, "The replica may not join the in-sync replicas.";
    NewLeaderElected = 108, Never, "The partition got a new leader by this very change.";
    OffsetMovedToTieredStorage = 109, Never, "The offset now lies in remote storage.";
    FencedMemberEpoch = 110, Never,
        "The member epoch is older than the coordinator's; the member has to join anew.";
    UnreleasedInstanceId = 111, Never, "The instance id is still held by another member.";
    UnsupportedAssignor = 112, Never, "None of the assignors named is supported.";
    StaleMemberEpoch = 113, Never,
        "The member epoch is not the present one; the member has to heartbeat first.";
    MismatchedEndpointType = 114, Never, "The request came to the wrong type of endpoint.";
    UnsupportedEndpointType = 115, Never, "This type of endpoint is not supported.";
    UnknownControllerId = 116, Never, "No controller with this id is known.";
    UnknownSubscriptionId = 117, Never, "The client's telemetry subscription is out of date.";
    TelemetryTooLarge = 118, Never, "The telemetry is larger than the broker accepts.";
    InvalidRegistration = 119, Never, "The registration is not a valid one.";
    TransactionAbortable = 120, Never,
        "The transaction has to be aborted; the producer may go on after that.";
    InvalidRecordState = 121, Never, "The record's delivery state does not allow this.";
    ShareSessionNotFound = 122, Later, "The broker does not know this share session.";
    InvalidShareSessionEpoch = 123, Later,
        "The request's number does not follow the last of its share session.";
    FencedStateEpoch = 124, Never, "A newer share coordinator took this one's place.";
    InvalidVoterKey = 125, Never, "The voter key does not name the receiver.";
    DuplicateVoter = 126, Never, "The voter is one already.";
    VoterNotFound = 127, Never, "There is no such voter.";
    InvalidRegularExpression = 128, Never, "The regular expression is not a valid one.";
    RebootstrapRequired = 129, Never, "The client has to begin again from its bootstrap servers.";
    StreamsInvalidTopology = 130, Never, "The topology is not a valid one.";
    StreamsInvalidTopologyEpoch = 131, Never, "The topology epoch is not a valid one.";
    StreamsTopologyFenced = 132, Never, "The topology epoch is older than the group's.";
    ShareSessionLimitReached = 133, Later, "The broker has no room for more share sessions.";
    GroupDeletionFailed = 134, Never, "The group could not be deleted.";
    StreamsTopologyDescriptionUpdateFailed = 135, Never,
        "The description of the topology could not be stored.";
    ControllerIdNotRegistered = 136, Never, "The controller is not registered.";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is an error at all.
    pub const fn is_error(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_minus_1_to_136_without_a_gap() {
        for code in -1..=136 {
            let error = ErrorCode::from_code(code).expect("no gap");
            assert_eq!(error.code(), code);
            assert_eq!(error.message().is_empty(), !error.is_error(), "{error}");
        }
        assert_eq!(ErrorCode::ALL.len(), 137);
        for code in [-2, 137, i16::MIN, i16::MAX] {
            assert_eq!(ErrorCode::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn names_and_advice_are_those_of_the_protocol() {
        let cases = [
            (ErrorCode::OffsetOutOfRange, 1, Retry::Never),
            (ErrorCode::CorruptMessage, 2, Retry::Later),
            (ErrorCode::NotLeaderOrFollower, 6, Retry::Later),
            (ErrorCode::InvalidTopicException, 17, Retry::Never),
            (ErrorCode::UnsupportedVersion, 35, Retry::Never),
            (ErrorCode::FencedLeaderEpoch, 74, Retry::Later),
            (ErrorCode::UnknownTopicId, 100, Retry::Later),
            (ErrorCode::ControllerIdNotRegistered, 136, Retry::Never),
        ];
        for (error, code, retry) in cases {
            assert_eq!((error.code(), error.retry()), (code, retry), "{error}");
        }
    }
}
