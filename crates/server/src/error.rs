//! Every failure that a client can be told, with the gRPC code and the text that etcd sends for it.
//!
//! etcd's clients know an error by its text and decide by its code whether to try again, so both are part of the
//! API and are etcd's to the letter. This is the only place that names them; a test compares every row with a list
//! that is extracted from etcd's own source.

use std::fmt;

use tonic::{Code, Status};

macro_rules! table {
    (
        $(#[$enum_doc:meta])*
        listed { $($(#[$listed_doc:meta])* $listed:ident = $listed_code:ident $listed_text:literal,)* }
        unlisted { $($(#[$unlisted_doc:meta])* $unlisted:ident = $unlisted_code:ident $unlisted_text:literal,)* }
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EtcdError {
            $($(#[$listed_doc])* $listed,)*
            $($(#[$unlisted_doc])* $unlisted,)*
        }

        impl EtcdError {
            /// The gRPC code that clients decide by.
            pub const fn code(self) -> Code {
                match self {
                    $(EtcdError::$listed => Code::$listed_code,)*
                    $(EtcdError::$unlisted => Code::$unlisted_code,)*
                }
            }

            /// The text that clients know the error by.
            pub const fn text(self) -> &'static str {
                match self {
                    $(EtcdError::$listed => $listed_text,)*
                    $(EtcdError::$unlisted => $unlisted_text,)*
                }
            }

            #[cfg(test)]
            const LISTED: &'static [EtcdError] = &[$(EtcdError::$listed,)*];
        }
    };
}

table! {
    /// A failure as a client is told it.
    ///
    /// Unless a row says otherwise, what was asked for has not happened.
    listed {
        /// A request, an operation or a condition names no key.
        EmptyKey = InvalidArgument "etcdserver: key is not provided",
        /// A put shall keep the value or the lease of a key that does not exist; or an operation of a transaction is
        /// empty.
        KeyNotFound = InvalidArgument "etcdserver: key not found",
        /// A put brings a value and shall keep the old one.
        ValueProvided = InvalidArgument "etcdserver: value is provided",
        /// A put names a lease and shall keep the old one.
        LeaseProvided = InvalidArgument "etcdserver: lease is provided",
        /// A transaction has more conditions or operations than are permitted.
        TooManyOps = InvalidArgument "etcdserver: too many operations in txn request",
        /// One branch of a transaction puts a key twice, or puts and deletes it.
        DuplicateKey = InvalidArgument "etcdserver: duplicate key given in txn request",
        /// The client's version, in the request's metadata, is not a version.
        InvalidClientApiVersion = InvalidArgument "etcdserver: invalid client api version",
        /// A range names an order, or something to order by, that does not exist.
        InvalidSortOption = InvalidArgument "etcdserver: invalid sort option",
        /// A read, a watch or a compaction names a revision that is compacted. Kubernetes answers with a new list.
        Compacted = OutOfRange "etcdserver: mvcc: required revision has been compacted",
        /// A read or a compaction names a revision that the store has not reached.
        FutureRev = OutOfRange "etcdserver: mvcc: required revision is a future revision",
        /// A write needs space and there is none. Reads, deletions and compactions go on.
        NoSpace = ResourceExhausted "etcdserver: mvcc: database space exceeded",

        /// A put or a request about a lease names one that does not exist.
        LeaseNotFound = NotFound "etcdserver: requested lease not found",
        /// The lease to be granted exists.
        LeaseExist = FailedPrecondition "etcdserver: lease already exists",
        /// The lease to be granted would live too long.
        LeaseTtlTooLarge = OutOfRange "etcdserver: too large lease TTL",

        /// A watch stream ends for a reason on the server's side.
        WatchCanceled = Cancelled "etcdserver: watch canceled",

        /// The member to be added exists.
        MemberExist = FailedPrecondition "etcdserver: member ID already exist",
        /// Another member has the peer address.
        PeerUrlExist = FailedPrecondition "etcdserver: Peer URLs already exists",
        /// Too few members would be left for a quorum. (From etcd itself this comes with the code Unknown.)
        MemberNotEnoughStarted = FailedPrecondition
            "etcdserver: re-configuration failed due to not enough started members",
        /// An address of the member to be added is not a URL.
        MemberBadUrls = InvalidArgument "etcdserver: given member URLs are invalid",
        /// The member does not exist.
        MemberNotFound = NotFound "etcdserver: member not found",
        /// The member to be promoted votes already.
        MemberNotLearner = FailedPrecondition "etcdserver: can only promote a learner member",
        /// The member to be promoted has not caught up.
        LearnerNotReady = FailedPrecondition
            "etcdserver: can only promote a learner member which is in sync with leader",
        /// The cluster has as many learners as are permitted.
        TooManyLearners = FailedPrecondition "etcdserver: too many learner members in cluster",
        /// A peer belongs to another cluster. No request of a client meets it.
        ClusterIdMismatch = FailedPrecondition "etcdserver: cluster ID mismatch",

        /// The request is larger than the server takes.
        RequestTooLarge = InvalidArgument "etcdserver: request is too large",
        /// More requests wait than the server queues; try again later. (From etcd itself this comes with the code
        /// Unknown.)
        RequestTooManyRequests = ResourceExhausted "etcdserver: too many requests",

        /// Authentication cannot be enabled without a user root.
        RootUserNotExist = FailedPrecondition "etcdserver: root user does not exist",
        /// Authentication cannot be enabled while root lacks the role root.
        RootRoleNotExist = FailedPrecondition "etcdserver: root user does not have root role",
        /// The user to be added exists.
        UserAlreadyExist = FailedPrecondition "etcdserver: user name already exists",
        /// A request names no user.
        UserEmpty = InvalidArgument "etcdserver: user name is empty",
        /// The user does not exist.
        UserNotFound = FailedPrecondition "etcdserver: user name not found",
        /// The role to be added exists.
        RoleAlreadyExist = FailedPrecondition "etcdserver: role name already exists",
        /// The role does not exist.
        RoleNotFound = FailedPrecondition "etcdserver: role name not found",
        /// A request names no role.
        RoleEmpty = InvalidArgument "etcdserver: role name is empty",
        /// The name or the password is wrong.
        AuthFailed = InvalidArgument "etcdserver: authentication failed, invalid user ID or password",
        /// A grant names no permission.
        PermissionNotGiven = InvalidArgument "etcdserver: permission not given",
        /// The user may not do this.
        PermissionDenied = PermissionDenied "etcdserver: permission denied",
        /// The user does not have the role that shall be taken from it.
        RoleNotGranted = FailedPrecondition "etcdserver: role is not granted to the user",
        /// The role does not have the permission that shall be taken from it.
        PermissionNotGranted = FailedPrecondition "etcdserver: permission is not granted to the role",
        /// A token is asked for while authentication is off.
        AuthNotEnabled = FailedPrecondition "etcdserver: authentication is not enabled",
        /// The token is unknown or has expired; clients fetch a new one and try again.
        InvalidAuthToken = Unauthenticated "etcdserver: invalid auth token",
        /// The change of users and roles would lock everybody out.
        InvalidAuthMgmt = InvalidArgument "etcdserver: invalid auth management",
        /// Users and roles changed since the request was checked; clients fetch a new token and try again.
        AuthOldRevision = InvalidArgument "etcdserver: revision of auth store is old",

        /// Nobody leads, and the client asked to be told so rather than to wait.
        NoLeader = Unavailable "etcdserver: no leader",
        /// Only the leader can do this, and the one asked is not it.
        NotLeader = FailedPrecondition "etcdserver: not leader",
        /// Leadership changed while a read waited for proof that it sees every acknowledged write.
        LeaderChanged = Unavailable "etcdserver: leader changed",
        /// The service is not available at the cluster's version.
        NotCapable = FailedPrecondition "etcdserver: not capable",
        /// The server is stopping. A write that it had taken may have happened.
        Stopped = Unavailable "etcdserver: server stopped",
        /// The outcome did not become known in time: a write may have happened, or may still happen.
        Timeout = Unavailable "etcdserver: request timed out",
        /// As [`EtcdError::Timeout`], and leadership changed meanwhile.
        TimeoutDueToLeaderFail = Unavailable
            "etcdserver: request timed out, possibly due to previous leader failure",
        /// As [`EtcdError::Timeout`], and the connection to the leader was lost meanwhile.
        TimeoutDueToConnectionLost = Unavailable
            "etcdserver: request timed out, possibly due to connection lost",
        /// A read waited too long for the server to catch up.
        TimeoutWaitAppliedIndex = Unavailable
            "etcdserver: request timed out, waiting for the applied index took too long",
        /// The store cannot do it now, and has not: nobody leads, or the engine does not answer. (In etcd a change of
        /// members that are out of reach ends so.)
        Unhealthy = Unavailable "etcdserver: unhealthy cluster",
        /// Stored data is damaged; the server does not guess.
        Corrupt = DataLoss "etcdserver: corrupt cluster",
        /// A learner does not serve this.
        NotSupportedForLearner = FailedPrecondition "etcdserver: rpc not supported for learner",
        /// Leadership cannot be handed to this member.
        BadLeaderTransferee = FailedPrecondition "etcdserver: bad leader transferee",

        /// The version to go down to is not a version.
        WrongDowngradeVersionFormat = InvalidArgument "etcdserver: wrong downgrade target version format",
        /// The version to go down to is not the one before this.
        InvalidDowngradeTargetVersion = InvalidArgument "etcdserver: invalid downgrade target version",
        /// The cluster has not agreed on its version yet.
        ClusterVersionUnavailable = FailedPrecondition "etcdserver: cluster version not found during downgrade",
        /// A downgrade is under way.
        DowngradeInProcess = FailedPrecondition "etcdserver: cluster has a downgrade job in progress",
        /// No downgrade is under way that could be called off.
        NoInflightDowngrade = FailedPrecondition "etcdserver: no inflight downgrade job",

        /// The request was given up before it was done. A write may have happened.
        Canceled = Cancelled "etcdserver: request canceled",
        /// The client's deadline has passed. A write may have happened.
        DeadlineExceeded = DeadlineExceeded "etcdserver: context deadline exceeded",
    }
    unlisted {
        /// A streamed range asks for another order than by key, ascending.
        RangeStreamSorted = Unimplemented "RangeStream does not support custom sort orders",
        /// A streamed range filters by revisions.
        RangeStreamFiltered = Unimplemented "RangeStream does not support revision filters",
    }
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for EtcdError {}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Status {
        Status::new(error.code(), error.text())
    }
}

#[cfg(test)]
mod golden;
