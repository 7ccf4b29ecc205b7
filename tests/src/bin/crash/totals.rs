//! The figures of a run.

/// What was done and found in one mode.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Acknowledgements that were certain to be on disk when the process died.
    pub(crate) acks: u64,
    /// Deaths that came while the database was being written anew.
    pub(crate) amid: u64,
    /// 201s.
    pub(crate) answered: u64,
    /// 503s.
    pub(crate) busy: u64,
    /// Messages that were owed after a restart, and looked for.
    pub(crate) checked: u64,
    /// Everything that was wrong.
    pub(crate) complaints: u64,
    pub(crate) cycles: u64,
    /// Messages that arrived otherwise than they were sent.
    pub(crate) damaged: u64,
    /// Starts that did not come to a ready line.
    pub(crate) failed_opens: u64,
    /// Power cuts that came while the store had something to lose.
    pub(crate) hits: u64,
    /// Messages that were owed and did not come.
    pub(crate) lost: u64,
    /// Starts, those included that were killed while they opened the store.
    pub(crate) opens: u64,
    /// Messages that had ended for certain, and came.
    pub(crate) returned: u64,
}

impl Totals {
    /// Another job's figures join these.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { acks, amid, answered, busy, checked, complaints, cycles, damaged, .. } = other;
        let Self { failed_opens, hits, lost, opens, returned, .. } = other;
        self.acks += acks;
        self.amid += amid;
        self.answered += answered;
        self.busy += busy;
        self.checked += checked;
        self.complaints += complaints;
        self.cycles += cycles;
        self.damaged += damaged;
        self.failed_opens += failed_opens;
        self.hits += hits;
        self.lost += lost;
        self.opens += opens;
        self.returned += returned;
    }

    /// Nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.complaints == 0 && self.failed_opens == 0 && self.lost == 0 && self.damaged == 0
    }

    /// One line.
    pub(crate) fn line(&self, mode: &str) -> String {
        let Self { acks, amid, answered, busy, checked, complaints, cycles, .. } = self;
        let Self { damaged, failed_opens, hits, lost, opens, returned, .. } = self;
        format!(
            "{mode}: {cycles} cycles ({hits} cuts took something, {amid} deaths amid a rewrite), {answered} answered 201 ({busy} 503), \
             {checked} checked, {lost} lost, {damaged} damaged, {returned} came back after their end \
             ({acks} acknowledgements certain), {failed_opens} of {opens} opens failed, {complaints} complaints"
        )
    }
}
