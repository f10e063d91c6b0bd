//! Defects that are planted on purpose, one for each promise, to prove that its checker notices.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// P1: whoever packs a release forgets what it follows.
    StopsForgotten,
    /// P2: something removes a file of the release that is active.
    HalfRelease,
    /// P2: the proxy says that it leads requests elsewhere, and does not.
    ProxyLies,
    /// P3: a release that never answers is taken for warm.
    ColdIsWarm,
    /// P3: an agent that starts leads requests to its host, though that is drained.
    DrainForgotten,
    /// P5: the controller leads requests to the first of two groups before that is proven.
    SwitchEarly,
    /// P3: the controller leads requests away from a group although too few of the other one serve.
    NobodyCarries,
    /// P4: the controller lets every staged host activate at once.
    BudgetIgnored,
    /// P5: the controller opens the gate to all batches with the first.
    GateIgnored,
    /// P5: the controller does not hold the canary.
    CanaryIgnored,
    /// P5: the controller does not wait for the gates that others hold.
    GatesForgotten,
    /// P5: the controller takes a word of the batch before for one of the next.
    GateWordsKept,
    /// P5: the controller takes what a gate may have said before for what it answers now.
    AnswersKept,
    /// P5: the controller does not watch what it has brought.
    WatchIgnored,
    /// P5: the controller takes what gates say in the watch for overruled.
    WatchOverruled,
    /// P6: every host is said to answer as fast as any other.
    FiguresFlattered,
    /// P5: what an application does not show is taken for none of it.
    MissingIsZero,
    /// P5: the controller calls a rollout a success as soon as it runs.
    FalseSuccess,
    /// P6: the controller calls a drill well over before its hosts are back.
    DrillStays,
    /// P5: the agent says that it has restarted what it has not.
    RestartLies,
    /// P4: the controller goes by labels that hosts have no more.
    LabelsForgotten,
    /// P5: the controller forgets which hosts it was to leave alone.
    LeftOutForgotten,
    /// P6: the probes of a bad release lie.
    LyingProbes,
    /// P6: the controller lets hosts that failed try again by themselves.
    FailuresIgnored,
    /// P6: the controller goes back for one late failure.
    LateUndone,
    /// P7: whoever runs the migration runs it twice.
    MigrationTwice,
    /// P7: whoever runs the migration does not end it with its lease.
    LeaseIgnored,
    /// P7: the controller does not wait for the migration.
    MigrationSkipped,
    /// P7: the controller takes every migration for one that older releases know.
    SchemaForgotten,
    /// P7: the controller hands out the contract where the migration is due, before any host has the release.
    ContractEarly,
    /// P7: the controller forgets which contracts have run.
    ContractForgotten,
    /// P8: the controller sends assignments before they are durable, and then loses its power.
    SendBeforeCommit,
    /// P8: the controller's disk forgets what it had synced.
    ForgetfulDisk,
    /// P8: the controller does not write down how rollouts end.
    EndUntold,
    /// P8: the controller begins what nobody has approved.
    ApprovalsIgnored,
    /// P8: the controller begins while no release window is open.
    WindowsIgnored,
    /// P8: the controller takes the zone of the release windows for UTC.
    ZoneIgnored,
    /// P8: the controller takes the zone of the release windows for one whose clocks never change.
    SummerTimeIgnored,
    /// P5: the controller begins what is proven nowhere.
    ProofsIgnored,
    /// P5: the controller begins without the evidence that is asked for.
    EvidenceIgnored,
    /// P5: the controller forgets that CI has said of a commit that it failed.
    EvidenceForgotten,
    /// P5: the log does not tell on which evidence a rollout began.
    EvidenceUntold,
    /// P8: the controller uses a generation a second time.
    GenerationReused,
    /// P9: an agent does nothing by itself while it hears nothing of its controller.
    WaitsForController,
    /// P9: what a loss of power has ended is started again by an agent only while it hears of its controller.
    StartsByController,
    /// P10: the controller does not say what a rollout waits for.
    WaitsUntold,
    /// P10: the runbook is one that was printed a while ago.
    RunbookOutdated,
    /// P12: a refused request leaves a trace in the store.
    RefusalWrites,
}
