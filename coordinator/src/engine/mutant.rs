//! Faults put into the engine on purpose, one at a time, to see that the simulator finds each. Only tests have them.

/// A line of the engine that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A lost worker's shards are not given out again.
    DropReissue,
    /// The actor adds in the order of arrival.
    #[cfg(test)]
    SumByArrival,
    /// An answer to a lease that is over is used.
    AcceptStale,
    /// A step is made when one shard is missing.
    StepEarly,
    /// Silent workers are never declared dead.
    NoTimeout,
    /// Workers are blamed for the coordinator's own pause.
    NoForgiveness,
    /// An audited answer is used at once.
    SkipAudit,
    /// A value that is not finite is used.
    AcceptNotFinite,
    /// Another worker than the one that was wrong is sent away.
    BlameAnother,
    /// A worker that leaves gets work.
    GiveToLeaving,
    /// A worker that leaves is let go with work in hand, and its work is forgotten.
    ForgetLeaving,
    /// A checkpoint taken in an evaluation says that none is owed.
    OweNothing,
    /// Late work is copied again and again.
    CopyWithoutEnd,
    /// Lease numbers repeat.
    RepeatLeases,
    /// Parameters that a dispute needs are forgotten.
    ForgetOld,
    /// A refused answer's work goes to nobody.
    DropRefused,
    /// An evaluation ends when one slice is missing.
    EvaluateEarly,
    /// What was given out in advance is never called back.
    NeverCallBack,
    /// The coordinator never catches up.
    StayBehind,
    /// A run that goes back to what the coordinator has counts on from where it was.
    KeepWhatIsLost,
    /// Whoever alone has the parameters is lost, and the run goes on as if it had them.
    GoOnWithout,
    /// The rest of a ring that lost a member is left waiting for it.
    KeepRing,
    /// A step is made with what a ring has answered when it loses a member.
    StepWithoutMember,
    /// A ring that alone has the parameters is dissolved, and the run goes on as if it had them.
    GoOnWithoutRing,
    /// What a ring's members came to is taken for the same.
    CompareNoRanks,
    /// A ring is given steps beyond an evaluation.
    AdvanceAcrossEvaluations,
}

impl Mutant {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 17] = [
        Self::DropReissue,
        Self::SumByArrival,
        Self::AcceptStale,
        Self::StepEarly,
        Self::NoTimeout,
        Self::NoForgiveness,
        Self::SkipAudit,
        Self::AcceptNotFinite,
        Self::BlameAnother,
        Self::GiveToLeaving,
        Self::ForgetLeaving,
        Self::OweNothing,
        Self::CopyWithoutEnd,
        Self::RepeatLeases,
        Self::ForgetOld,
        Self::DropRefused,
        Self::EvaluateEarly,
    ];

    /// Those of steps in advance.
    #[cfg(test)]
    pub(super) const IN_ADVANCE: [Self; 4] =
        [Self::NeverCallBack, Self::StayBehind, Self::KeepWhatIsLost, Self::GoOnWithout];

    /// Those of rings.
    #[cfg(test)]
    pub(super) const OF_RINGS: [Self; 5] = [
        Self::KeepRing,
        Self::StepWithoutMember,
        Self::GoOnWithoutRing,
        Self::CompareNoRanks,
        Self::AdvanceAcrossEvaluations,
    ];
}
