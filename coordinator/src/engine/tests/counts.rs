//! What a schedule has seen, so that a simulator that never gets there is found out.

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) dropped: u64,
    pub(super) reissued: u64,
    pub(super) refused: u64,
    pub(super) copies: u64,
    pub(super) audits: u64,
    pub(super) disputes: u64,
    pub(super) reopened: u64,
    pub(super) compared_late: u64,
    pub(super) quarantined: u64,
    pub(super) rings: u64,
    pub(super) dissolved: u64,
    pub(super) broken: u64,
    pub(super) in_advance: u64,
    pub(super) called_back: u64,
    pub(super) behind: u64,
    pub(super) rolled_back: u64,
    /// Of those, to an earlier epoch.
    pub(super) epochs_undone: u64,
    pub(super) drifted: u64,
}
