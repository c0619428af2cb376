/// Mutants of the election that the tests must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Work of a former leader is forgotten that may not have stopped.
    WorkForgotten,
    /// A leader has the token of the one before.
    TokenStays,
    /// Who has left the group leads still.
    DepartureIgnored,
    /// A leader that renews nothing leads still.
    SilenceIgnored,
    /// A successor does not wait for the work before. For the program, by its environment.
    Overlap,
}

impl Canary {
    /// Those of the state.
    pub const STATE: [Self; 4] =
        [Self::WorkForgotten, Self::TokenStays, Self::DepartureIgnored, Self::SilenceIgnored];

    /// Whether the program is started with `ELECTION_CANARY=overlap`.
    pub(crate) fn overlaps() -> bool {
        std::env::var_os("ELECTION_CANARY").is_some_and(|canary| canary == "overlap")
    }
}
