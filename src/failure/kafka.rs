//! What librdkafka says, sorted. Kafka has no failure of the record's own kind: a record is
//! refused for what is in it, and that is found after it was read.

use anyhow::anyhow;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use super::{Failure, Kind};

/// Error codes that mean the same to us.
pub(super) struct Group {
    pub(super) kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/failures.md"))]
    pub(super) means: &'static str,
    /// What a person does; empty where nobody has to.
    pub(super) remedy: &'static str,
    pub(super) codes: &'static [RDKafkaErrorCode],
}

/// Every error code that librdkafka 2.12 has.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &{
    use RDKafkaErrorCode::*;
    [
        Group {
            kind: Kind::Dependency,
            means: "a signal, and no error",
            remedy: "",
            codes: &[
                Begin, End, EndAll, NoError, PartitionEOF, AssignPartitions, RevokePartitions,
                NodeUpdate, Noop, Partial, Interrupted,
            ],
        },
        Group {
            kind: Kind::Dependency,
            means: "no broker, or the connection to one, is there",
            remedy: "",
            codes: &[
                BrokerDestroy, DestroyBroker, BrokerTransportFailure, CriticalSystemResource,
                Resolve, AllBrokersDown, OperationTimedOut, UnknownBroker, Underflow,
                RequestTimedOut, BrokerNotAvailable, NetworkException, StaleBrokerEpoch,
                RebootstrapRequired, Fail, Unknown, Retry, WaitCache,
            ],
        },
        Group {
            kind: Kind::Dependency,
            means: "a partition has no leader just now, or another one",
            remedy: "",
            codes: &[
                LeaderNotAvailable, NotLeaderForPartition, ReplicaNotAvailable,
                StaleControllerEpoch, NotController, KafkaStorageError, LogDirNotFound,
                ReassignmentInProgress, ListenerNotFound, FencedLeaderEpoch, UnknownLeaderEpoch,
                OffsetNotAvailable, PreferredLeaderNotAvailable, EligibleLeadersNotAvailable,
                ElectionNotNeeded, NoReassignmentInProgress, FetchSessionIdNotFound,
                InvalidFetchSessionEpoch, OffsetOutOfRange,
            ],
        },
        Group {
            // brokers say so of a new topic too, until all of them have heard of it
            kind: Kind::Dependency,
            means: "the topic or partition is unknown: new, or deleted",
            remedy: "",
            codes: &[UnknownTopicOrPartition, UnknownTopicId, UnknownTopic, UnknownPartition],
        },
        Group {
            kind: Kind::Dependency,
            means: "the group is without a coordinator, or being rebalanced",
            remedy: "",
            codes: &[
                WaitingForCoordinator, UnknownGroup, CoordinatorLoadInProgress,
                CoordinatorNotAvailable, NotCoordinator, IllegalGeneration, UnknownMemberId,
                RebalanceInProgress, MemberIdRequired, UnstableOffsetCommit, FencedMemberEpoch,
                StaleMemberEpoch, UnreleasedInstanceId, PollExceeded, AssignmentLost, NoOffset,
                Outdated, InProgress, PreviousInProgress, State,
            ],
        },
        Group {
            kind: Kind::Dependency,
            means: "a record is not acknowledged yet; it is sent again",
            remedy: "",
            codes: &[
                MessageTimedOut, QueueFull, ISRInsufficient, TimedOutQueue, PurgeQueue,
                PurgeInflight, InvalidMessage, NotEnoughReplicas, NotEnoughReplicasAfterAppend,
                DuplicateSequenceNumber, InvalidDifferentRecord, ThrottlingQuotaExceeded,
                OperationNotAttempted,
            ],
        },
        Group {
            kind: Kind::Dependency,
            means: "the broker's statistics, which nothing rests on",
            remedy: "",
            codes: &[UnknownSubscriptionId, TelemetryTooLarge],
        },
        Group {
            kind: Kind::Contract,
            means: "Kafka does not let us in, or not to the topic or group",
            remedy: "check Kafka's credentials, certificates and permissions, and start again",
            codes: &[
                SSL, Authentication, SaslAuthenticationFailed, UnsupportedSASLMechanism,
                IllegalSASLState, TopicAuthorizationFailed, GroupAuthorizationFailed,
                ClusterAuthorizationFailed, TransactionalIdAuthorizationFailed, SecurityDisabled,
                DelegationTokenAuthDisabled, DelegationTokenNotFound, DelegationTokenOwnerMismatch,
                DelegationTokenRequestNotAllowed, DelegationTokenAuthorizationFailed,
                DelegationTokenExpired, InvalidPrincipalType, UnacceptableCredential,
                PrincipalDeserializationFailure,
            ],
        },
        Group {
            kind: Kind::Contract,
            means: "broker and librdkafka do not understand each other",
            remedy: "use a broker and librdkafka properties that fit, and start again",
            codes: &[
                UnsupportedVersion, UnsupportedFeature, UnsupportedForMessageFormat,
                UnsupportedCompressionType, UnsupportedAssignor, NotImplemented, UnknownProtocol,
            ],
        },
        Group {
            kind: Kind::Contract,
            means: "a property, or a setting of the topic or group, is wrong",
            remedy: "correct the Kafka properties or the topic's settings, and start again",
            codes: &[
                InvalidArgument, NotConfigured, FileSystem, InvalidConfig, InvalidTopic,
                InvalidRequiredAcks, InvalidGroupId, InvalidSessionTimeout,
                InconsistentGroupProtocol, GroupMaxSizeReached, InvalidPartitions,
                InvalidReplicationFactor, InvalidReplicaAssignment, InvalidRequest, PolicyViolation,
                InvalidCommitOffsetSize, OffsetMetadataTooLarge, InvalidTimestamp, InvalidRecord,
            ],
        },
        Group {
            kind: Kind::Contract,
            means: "a record is larger than the topic or a client takes",
            remedy: "raise max.message.bytes of the topic, or receive.message.max.bytes",
            codes: &[MessageSizeTooLarge, MessageBatchTooLarge, InvalidMessageSize],
        },
        Group {
            kind: Kind::Contract,
            means: "another process uses this one's group.instance.id",
            remedy: "give each process an instance id of its own, and start again",
            codes: &[Fenced, FencedInstanceId, ProducerFenced],
        },
        Group {
            kind: Kind::Contract,
            means: "the log is corrupt, or was cut off behind what was read",
            remedy: "look at the topic, and start again",
            codes: &[BadMessage, BadCompression, LogTruncation, AutoOffsetReset],
        },
        Group {
            kind: Kind::Contract,
            means: "the client has lost its state for good",
            remedy: "start again",
            codes: &[
                Fatal, GaplessGuarantee, Inconsistent, OutOfOrderSequenceNumber, UnknownProducerId,
                InvalidProducerEpoch,
            ],
        },
        Group {
            kind: Kind::Contract,
            means: "what Sluicegate never asks for",
            remedy: "report it as a bug of Sluicegate's",
            codes: &[
                ExistingSubscription, Conflict, KeySerialization, ValueSerialization,
                KeyDeserialization, ValueDeserialization, ReadOnly, NoEnt, InvalidType, Application,
                TopicAlreadyExists, InvalidTransactionalState, InvalidProducerIdMapping,
                InvalidTransactionTimeout, ConcurrentTransactions, TransactionCoordinatorFenced,
                NonEmptyGroup, GroupIdNotFound, TopicDeletionDisabled, GroupSubscribedToTopic,
                ResourceNotFound, DuplicateResource, InconsistentVoterSet, InvalidUpdateVersion,
                FeatureUpdateFailed,
            ],
        },
    ]
};

const UNLISTED: Group = Group {
    kind: Kind::Contract,
    means: "a code that librdkafka 2.12 does not have",
    remedy: "mend that, and start again",
    codes: &[],
};

/// The group of a code; one that is in none stops the stream, since waiting is not known to help.
pub(super) fn group(code: RDKafkaErrorCode) -> &'static Group {
    GROUPS.iter().find(|group| group.codes.contains(&code)).unwrap_or(&UNLISTED)
}

/// Whether an error passes, and what a person does where it doesn't.
fn sorted(error: &KafkaError) -> (Kind, &'static str) {
    use KafkaError as E;
    let code = match error {
        // its own accessor leaves this one out
        E::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    match (error, code) {
        // librdkafka's client is of no use any more
        (E::MessageConsumptionFatal(code), _) => match group(*code) {
            Group { kind: Kind::Contract, remedy, .. } => (Kind::Contract, remedy),
            _ => (Kind::Contract, "start again"),
        },
        (_, Some(code)) => (group(code).kind, group(code).remedy),
        (E::Canceled | E::NoMessageReceived | E::PartitionEOF(_), None) => (Kind::Dependency, ""),
        // a text without a code: the partition was taken away a moment before
        (E::PauseResume(_) | E::Seek(_), None) => (Kind::Dependency, ""),
        // refused before a broker was asked
        _ => (Kind::Contract, "correct the Kafka properties, and start again"),
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Failure {
        match sorted(&error) {
            (Kind::Dependency, _) => Failure::Dependency(error.into()),
            (_, remedy) => Failure::Contract(anyhow!("{error}; {remedy}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rdkafka::types::{RDKafkaConfRes, RDKafkaRespErr};

    use super::*;

    /// Every code that librdkafka's header has.
    fn every_code() -> Vec<RDKafkaErrorCode> {
        let code = |number| RDKafkaRespErr::try_from(number).ok().map(RDKafkaErrorCode::from);
        (-1_000..1_000).filter_map(code).collect()
    }

    #[test]
    fn every_code_of_librdkafka_is_in_exactly_one_group() {
        let codes = every_code();
        assert!(codes.len() > 170, "{}", codes.len());
        for code in codes {
            let groups = GROUPS.iter().filter(|group| group.codes.contains(&code)).count();
            assert_eq!(groups, 1, "{code:?}");
        }
    }

    #[test]
    fn every_group_says_what_to_do_where_somebody_has_to() {
        for group in GROUPS {
            assert_ne!(group.kind, Kind::Record, "{}", group.means);
            assert_eq!(group.remedy.is_empty(), group.kind == Kind::Dependency, "{}", group.means);
        }
    }

    #[test]
    fn codes_that_users_meet_are_sorted() {
        use Kind::{Contract, Dependency};
        use RDKafkaErrorCode as Code;
        for (code, expected) in [
            (Code::AllBrokersDown, Dependency),
            (Code::BrokerTransportFailure, Dependency),
            (Code::Resolve, Dependency),
            (Code::OperationTimedOut, Dependency),
            (Code::NotLeaderForPartition, Dependency),
            (Code::NotEnoughReplicas, Dependency),
            (Code::RebalanceInProgress, Dependency),
            (Code::UnknownMemberId, Dependency),
            (Code::PollExceeded, Dependency),
            (Code::UnknownTopicOrPartition, Dependency),
            (Code::SSL, Contract),
            (Code::Authentication, Contract),
            (Code::SaslAuthenticationFailed, Contract),
            (Code::TopicAuthorizationFailed, Contract),
            (Code::GroupAuthorizationFailed, Contract),
            (Code::ClusterAuthorizationFailed, Contract),
            (Code::UnsupportedVersion, Contract),
            (Code::MessageSizeTooLarge, Contract),
            (Code::FencedInstanceId, Contract),
            (Code::InconsistentGroupProtocol, Contract),
            (Code::InvalidConfig, Contract),
            (Code::BadCompression, Contract),
        ] {
            for error in [KafkaError::MessageConsumption(code), KafkaError::AdminOp(code)] {
                assert_eq!(sorted(&error).0, expected, "{error}");
            }
            assert_eq!(sorted(&KafkaError::MessageConsumptionFatal(code)).0, Contract, "{code}");
        }
    }

    #[test]
    fn errors_without_a_code_are_sorted() {
        use Kind::{Contract, Dependency};
        let text = || "x".to_owned();
        let refused = RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let nul = CString::new("\0").unwrap_err();
        for (error, expected) in [
            (KafkaError::Canceled, Dependency),
            (KafkaError::NoMessageReceived, Dependency),
            (KafkaError::PartitionEOF(0), Dependency),
            (KafkaError::PauseResume(text()), Dependency),
            (KafkaError::Seek(text()), Dependency),
            (KafkaError::AdminOpCreation(text()), Contract),
            (KafkaError::ClientConfig(refused, text(), text(), text()), Contract),
            (KafkaError::ClientCreation(text()), Contract),
            (KafkaError::Nul(nul), Contract),
            (KafkaError::Subscription(text()), Contract),
        ] {
            assert_eq!(sorted(&error).0, expected, "{error}");
            let failure = Failure::from(error);
            assert_eq!(matches!(failure, Failure::Dependency(_)), expected == Dependency);
        }
    }
}
