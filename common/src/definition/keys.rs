//! Every key of `landfall.toml`, by table. The reader refuses any other; the reference page names each.

/// The tables and their keys. `NAME` stands for the name of an environment.
pub const TABLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "application",
            "source",
            "build",
            "prepare",
            "migrate",
            "service",
            "check",
            "smoke",
            "shared",
            "environment",
            "retention",
        ],
    ),
    ("[application]", &["name"]),
    ("[source]", &["exclude"]),
    ("[[build]]", &["name", "command", "timeout", "environment"]),
    ("[[prepare]]", &["name", "command", "timeout", "environment"]),
    (
        "[migrate]",
        &[
            "command",
            "timeout",
            "environment",
            "lease",
            "down",
            "compatible_with_previous",
            "idempotent",
            "files",
        ],
    ),
    (
        "[[service]]",
        &[
            "name",
            "driver",
            "command",
            "environment",
            "listen",
            "ready",
            "stop_timeout",
            "restart",
            "stop",
            "status",
            "unit",
            "how",
            "socket",
            "program",
            "group",
            "server",
            "signal",
            "settle",
            "timeout",
        ],
    ),
    ("ready", &["http", "notify", "alive", "timeout"]),
    ("[[check]]", &["name", "http", "tcp", "exec", "interval", "timeout"]),
    ("http", &["url", "status", "contains"]),
    ("[[smoke]]", &["name", "command", "timeout", "environment"]),
    ("[shared]", &["directories", "files"]),
    (
        "[environment.NAME]",
        &[
            "strategy",
            "canary",
            "batch",
            "max_unavailable",
            "min_healthy",
            "healthy_deadline",
            "progress_deadline",
            "failure_budget",
            "auto_rollback",
        ],
    ),
    ("[retention]", &["releases"]),
];

/// The keys of one table of [`TABLES`].
pub(super) fn of(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, _)| *name == table).expect("every table that is read is listed").1
}
